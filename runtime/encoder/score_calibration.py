"""Fit a calibration to an encoder's scores, and put it into its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..bundles.bundle import Bundle
from ..bundles.metrics import group_numbers
from ..decisions.calibration import FILE, ROLE, ScoreCalibration
from ..decisions.facts import Wanted
from ..decisions.fitting import Belongs, fit, parts
from ..decisions.judging import judge
from ..decisions.labelled import Labelled
from ..errors import BundleError, CalibrationError
from .encoder import Encoder

Truth = str | Mapping[str, bool]


def calibrate_scores(
    encoder: Encoder, embeddings: NDArray[np.float32], truth: Sequence[Truth], *,
    groups: Sequence[str] | None = None, kinds: Sequence[str] | None = None, wanted: Wanted | None = None,
    source: str = "", seed: int = 0,
) -> ScoreCalibration:  # fmt: skip
    """Fit thresholds, temperature, likely labels and the density of embeddings, on images that were used for nothing else.

    Some hundreds of images a kind are needed: a sensitivity of 0.9 takes nine images of a label among the two fifths that
    thresholds are set on, one of 0.95 nineteen.

    Args:
        encoder: whose scores for its bundle's own labels are calibrated.
        embeddings: (N, D) float32, of unit length.
        truth: of each image its label, or {label: whether it holds} of those of which that is known.
        groups: the patient of each image; where None, each image is of another.
        kinds: the kind of picture of each image, where kinds are to have thresholds of their own.
        wanted: what is asked for; sensitivity and specificity 0.9, coverage 0.9, known 0.97 where None.
        source: what to call the images.
        seed: of the draw of the three parts.

    Raises:
        BundleError: the bundle has no labels of its own.
        CalibrationError: a label that the bundle does not have, or too few images.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        >>> encoder = medge.load_encoder("bundle")
        >>> films = encoder.embed_images([np.full((32, 32), grey, np.uint8) for grey in range(60)])
        >>> fitted = medge.calibrate_scores(encoder, films, list(encoder.manifest.labels[:2]) * 30)
        >>> fitted.decide(films[:1], None)[0].unlike
        False
    """
    images = labelled(encoder, embeddings, truth, groups=groups, kinds=kinds)
    return fit_scores(encoder, images, wanted or Wanted(), source, seed)


def fit_scores(encoder: Encoder, images: Labelled, wanted: Wanted, source: str, seed: int) -> ScoreCalibration:
    """Fit to an encoder's scores of these images, as `labelled` gives them; errors are those of `calibrate_scores`."""
    labels = encoder.manifest.file("labels")
    assert labels is not None  # `labelled` has asked for them
    return fit(images, wanted, Belongs(encoder.fingerprint, labels.sha256, source), seed)


def borrowed(other: Encoder, images: Labelled, seed: int) -> ScoreCalibration:
    """What another bundle's calibration gives on these scores, which it was not fitted to: why each bundle needs its own.

    Args:
        other: a bundle of the same labels, whose scores are calibrated.
        images: with the scores of the bundle that would borrow it.
        seed: of the draw of the three parts; the third judges, as for the bundle's own calibration.

    Raises:
        CalibrationError: it has other labels or kinds, or its scores are not calibrated.
    """
    found = other.calibration
    if found is None:
        raise CalibrationError(f"the scores of {other.bundle.folder} are not calibrated; calibrate them first")
    kinds = tuple(kind.name for kind in found.facts.kinds)
    if found.facts.labels != images.labels or kinds != images.kind_names:
        raise CalibrationError(f"{other.bundle.folder} was calibrated for other labels or kinds of picture")
    return judge(found, images.of(parts(images.groups, seed)[2]))


def labelled(
    encoder: Encoder, embeddings: NDArray[np.float32], truth: Sequence[Truth], *,
    groups: Sequence[str] | None = None, kinds: Sequence[str] | None = None,
) -> Labelled:  # fmt: skip
    """Images as a calibration is fitted and judged on them; arguments and errors are those of `calibrate_scores`."""
    bank = encoder.label_bank
    if bank is None:
        raise BundleError(
            f"{encoder.bundle.folder} has no labels of its own, to which a calibration belongs: export it with --labels"
        )
    one = all(isinstance(entry, str) for entry in truth)
    named = {entry for entry in truth if isinstance(entry, str)} | {
        name for entry in truth if not isinstance(entry, str) for name in entry
    }
    if unknown := sorted(named - set(bank.names)):
        raise CalibrationError(
            f"the bundle has no label {' or '.join(unknown)}; it has {', '.join(bank.names)}: name them alike, or export "
            "it with these --labels"
        )
    given = [{entry: True} if isinstance(entry, str) else entry for entry in truth]
    unsaid = 0.0 if one else np.nan
    table = np.array([[float(entry[name]) if name in entry else unsaid for name in bank.names] for entry in given])
    names = list(kinds) if kinds is not None else [""] * len(given)
    kind_names, kind_of = np.unique(names, return_inverse=True)
    patients = list(groups) if groups is not None else [""] * len(given)
    return Labelled(
        embeddings, encoder.logits(embeddings @ bank.embeddings.T), table.reshape(len(given), len(bank.names)),
        group_numbers(patients), kind_of, tuple(kind_names.tolist()), bank.names, one,
    )  # fmt: skip


def put_scores(bundle: Bundle, calibration: ScoreCalibration) -> Bundle:
    """Put a calibration into the bundle that it was fitted to, in the place of what may be there.

    Raises:
        StorageError: the file system refused.
    """
    return bundle.amend(bundle.manifest, {FILE: (ROLE, calibration.to_bytes())})
