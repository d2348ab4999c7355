"""Calibrated scores: present, absent or uncertain, the likely labels, and "unlike anything this bundle was calibrated on".

What `medge calibrate-scores` fitted is a file of the bundle, and holds for this bundle's own scores. Applying it is some
arithmetic, which the page, Kotlin and Swift do alike:

1. The embedding's Mahalanobis distance to each centre. Beyond the limit, the picture is unlike all: nothing is said of it.
2. The nearest centre says the kind of picture, and with it slopes, offsets and thresholds.
3. Probabilities: softmax of slope * logit over the labels of this kind, or a sigmoid for each finding.
4. Below one threshold a label is absent, above another present. Both come from quantiles of the calibration images, such
   that they hold for the next image as well (split conformal prediction: Vovk et al. 2005; by class: Sadinle et al. 2019).
5. The likely labels are those above a third: the true one is among them as often as was asked for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..bundles.tensors import Declared, read_tensors
from ..bundles.typed_json import build, parse
from ..errors import BundleError
from .density import Density
from .facts import Kind, OperatingPoint, ScoreFacts
from .probability import sigmoid, softmax

FILE, ROLE = "scores.safetensors", "scores"  # in a bundle
FORMAT = 1
UNLIKE = "unlike anything this bundle was calibrated on"
Says = Literal["present", "absent", "uncertain", "not calibrated"]


@dataclass(frozen=True)
class Finding:
    """What is said of one label.

    Attributes:
        label: its name.
        says: "present", "absent", "uncertain", or "not calibrated" where no image of this kind of picture had the label.
        probability: calibrated; None where it is not calibrated.
    """

    label: str
    says: Says
    probability: float | None


@dataclass(frozen=True)
class Decision:
    """What calibrated scores say of one image.

    Attributes:
        unlike: whether the picture is unlike anything this bundle was calibrated on. Then every label that is calibrated is
            uncertain, and none can be ruled out.
        distance: to the nearest centre, in standard deviations.
        kind: of picture; "" where kinds are not told apart.
        findings: of each label, in the labels' order.
        likely: labels among which the true one is, as often as was asked for; () where none is likely enough, None where
            that was not calibrated.

    Examples:
        >>> medge.load_encoder("bundle").classify("film.dcm")[0].decision is None  # of a bundle that was never calibrated
        True
    """

    unlike: bool
    distance: float
    kind: str
    findings: tuple[Finding, ...]
    likely: tuple[str, ...] | None


@dataclass(frozen=True)
class ScoreCalibration:
    """A calibration with its matrices; `Encoder.calibration` opens a bundle's.

    Attributes:
        facts: thresholds, and what they gave on images on which nothing was fitted.
        density: how far an embedding is from those that were calibrated on.

    Examples:
        >>> encoder = medge.load_encoder("bundle")
        >>> films = encoder.embed_images([np.full((32, 32), grey, np.uint8) for grey in range(60)])
        >>> fitted = medge.calibrate_scores(encoder, films, list(encoder.manifest.labels[:2]) * 30)
        >>> fitted.facts.images, fitted.facts.form
        (60, 'one label')
    """

    facts: ScoreFacts
    density: Density

    def decide(self, embeddings: NDArray[np.float32], logits: NDArray[np.float64] | None) -> list[Decision]:
        """Decide on images.

        Args:
            embeddings: (N, D), of unit length.
            logits: (N, L), scale * cosine + bias of the calibrated labels; None where the images are scored for other
                labels: then it is only said whether a picture is unlike all, and of which kind.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> films = encoder.embed_images([np.full((32, 32), grey, np.uint8) for grey in range(60)])
            >>> fitted = medge.calibrate_scores(encoder, films, list(encoder.manifest.labels[:2]) * 30)
            >>> [decision] = fitted.decide(encoder.embed_images("film.dcm"), None)  # a film among grey squares
            >>> decision.findings
            ()
        """
        distances, places = self.density.nearest(embeddings)
        found = []
        for row, (distance, place) in enumerate(zip(distances.tolist(), places.tolist(), strict=True)):
            kind = self.facts.kinds[self.facts.centres[place]]
            unlike = self.facts.limit is not None and distance > self.facts.limit
            findings, likely = ((), None) if logits is None else self._of(kind, logits[row], unlike=unlike)
            found.append(Decision(unlike, distance, kind.name, findings, likely))
        return found

    def _of(
        self, kind: Kind, logits: NDArray[np.float64], *, unlike: bool
    ) -> tuple[tuple[Finding, ...], tuple[str, ...] | None]:
        shares = probabilities(kind, logits[None], one=self.facts.form == "one label")[0].tolist()
        findings, likely = [], []
        for label, share, point in zip(self.facts.labels, shares, kind.points, strict=True):
            if point is None:
                findings.append(Finding(label, "not calibrated", None))
                continue
            says = said(point, share)
            findings.append(Finding(label, "uncertain" if unlike and says != "not calibrated" else says, share))
            if kind.likely_from is not None and (unlike or share >= kind.likely_from):
                likely.append(label)
        return tuple(findings), None if kind.likely_from is None else tuple(likely)

    def to_bytes(self) -> bytes:
        """The file's content.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> films = encoder.embed_images([np.full((32, 32), grey, np.uint8) for grey in range(60)])
            >>> fitted = medge.calibrate_scores(encoder, films, list(encoder.manifest.labels[:2]) * 30)
            >>> Path("to_bytes.safetensors").write_bytes(fitted.to_bytes()) > 0
            True
        """
        tensors = {"whitening": self.density.whitening, "centres": self.density.centres}
        return save(tensors, {"facts": json.dumps(asdict(self.facts), ensure_ascii=False)})

    @classmethod
    def load(cls, path: Path, size: int | None = None) -> ScoreCalibration:
        """Read what `to_bytes` made.

        Args:
            path: the file.
            size: numbers of an embedding; any where None.

        Raises:
            BundleError: missing, damaged, or of another format.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> films = encoder.embed_images([np.full((32, 32), grey, np.uint8) for grey in range(60)])
            >>> fitted = medge.calibrate_scores(encoder, films, list(encoder.manifest.labels[:2]) * 30)
            >>> _ = Path("scores.safetensors").write_bytes(fitted.to_bytes())
            >>> medge.ScoreCalibration.load(Path("scores.safetensors"), encoder.facts.embedding_size).facts == fitted.facts
            True
        """
        declared = {"whitening": Declared("F32", (size or "size", size or "size")),
                    "centres": Declared("F32", ("centres", size or "size"))}  # fmt: skip
        try:
            tensors, metadata = read_tensors(path, declared)
            facts = build(ScoreFacts, parse(metadata.get("facts", "").encode()))
            check(facts, len(tensors["centres"]))
        except ValueError as error:
            raise BundleError(f"{path}: no calibration of scores ({error}); calibrate or copy it again") from error
        return cls(facts, Density(tensors["whitening"], tensors["centres"]))


def probabilities(kind: Kind, logits: NDArray[np.float64], *, one: bool) -> NDArray[np.float64]:
    """Calibrated probabilities, (N, L), of logits, (N, L).

    Args:
        kind: of picture; with one label an image, labels without a point in it have probability 0.
        logits: scale * cosine + bias.
        one: whether each image has exactly one label.
    """
    scaled = logits * np.array(kind.slopes) + np.array(kind.offsets)
    if not one:
        return sigmoid(scaled)
    there = np.array([point is not None for point in kind.points])
    return softmax(np.where(there, scaled, -np.inf))


def said(point: OperatingPoint, share: float) -> Says:
    """What a probability says."""
    if point.absent_below is None and point.present_above is None:
        return "not calibrated"
    if point.absent_below is not None and share < point.absent_below:
        return "absent"
    return "present" if point.present_above is not None and share > point.present_above else "uncertain"


def check(facts: ScoreFacts, centres: int) -> None:
    """Check what holds between fields.

    Raises:
        ValueError: something contradicts something else; the message names it.
    """
    if facts.format != FORMAT:
        raise ValueError(f"its format is {facts.format}, this medge reads {FORMAT}: update medge, or calibrate again")
    if not facts.labels or not facts.kinds or len(facts.centres) != centres:
        raise ValueError(f"it has {len(facts.labels)} labels, {len(facts.kinds)} kinds and {centres} centres")
    if max(facts.centres) >= len(facts.kinds):
        raise ValueError("a centre is of a kind that is not there")
    for kind in facts.kinds:
        if {len(kind.slopes), len(kind.offsets), len(kind.points)} != {len(facts.labels)}:
            raise ValueError(f"the kind {kind.name!r} has not as many values as there are labels")
        for point in filter(None, kind.points):
            low, high = point.absent_below, point.present_above
            if low is not None and high is not None and low > high:
                raise ValueError(f"a label of the kind {kind.name!r} is both present and absent")
        if facts.form == "one label" and all(point is None for point in kind.points):
            raise ValueError(f"the kind {kind.name!r} has no label")
