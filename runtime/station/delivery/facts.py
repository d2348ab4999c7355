"""What is delivered about a study: its images, what the models say of them, and the report that a person signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ...bundles.manifest import MANIFEST, sha256_file
from ..reading.intake import CLASSIFY
from ..store.records import Result, Study

Says = Literal["present", "absent", "uncertain", "unlike", ""]
# Images of a study whose findings are all delivered; of a larger one, each label's likeliest image.
MOST_IMAGES = 12


@dataclass(frozen=True)
class SignedReport:
    """A report as it leaves the station.

    Attributes:
        study: the study's UID.
        version: its number, from 1; a later one replaces an earlier one.
        text: plain text with the headings "Findings" and "Impression", or others.
        author: who wrote it.
        model: which model drafted it; "" where none did.
        signed_by: the person who signed it; "" of a draft.
        signed_at, released_at: in seconds since 1970; None where it was not.
        language: of the text: "en", "fr", "es", "pt" or "sw".
    """

    study: str
    version: int
    text: str
    author: str = ""
    model: str = ""
    signed_by: str = ""
    signed_at: float | None = None
    released_at: float | None = None
    language: str = "en"

    @property
    def signed(self) -> bool:
        """Whether a person has signed it."""
        return bool(self.signed_by) and self.signed_at is not None

    def sections(self) -> list[tuple[str, str]]:
        """(heading, text), as headings stand alone on a line; "" where a text has none."""
        found: list[tuple[str, list[str]]] = [("", [])]
        for line in self.text.splitlines():
            plain = line.strip().rstrip(":")
            if plain.casefold() in _HEADINGS:
                found.append((plain, []))
            else:
                found[-1][1].append(line.rstrip())
        texts = [(heading, "\n".join(lines).strip()) for heading, lines in found]
        return [(heading, text) for heading, text in texts if text]


FINDINGS = frozenset(("findings", "résultats", "constatations", "hallazgos", "achados", "matokeo"))
IMPRESSION = frozenset(
    ("impression", "impressions", "conclusion", "impresión", "conclusión", "impressão", "conclusão", "hitimisho")
)
_HEADINGS = FINDINGS | IMPRESSION | {"comparison", "technique", "indication", "history", "examination"}


@dataclass(frozen=True)
class Machine:
    """What made the machine's part.

    Attributes:
        version: of medge.
        bundle: the bundle's name; "" where no model judged the study.
        sha256: of the bundle's manifest, which holds the hashes of all its files; "" where it is not known.
        parity: the verdict of the bundle's measurement.
        recipe: by which it was made smaller.
    """

    version: str
    bundle: str = ""
    sha256: str = ""
    parity: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Finding:
    """What a model says of a label in one image.

    Attributes:
        label: its name.
        probability: from 0 to 1; None where the model can't say.
        says: the decision of calibrated scores; "" where they are not calibrated. "unlike" where the picture is unlike anything
            that the bundle was calibrated on.
        instance: the image's SOP Instance UID.
        frame: from 0.
    """

    label: str
    probability: float | None
    says: Says
    instance: str
    frame: int = 0


@dataclass(frozen=True)
class Image:
    """An image of the study.

    Attributes:
        instance, series, sop_class: UIDs; `sop_class` is "" of a picture that is no DICOM.
        frames: how many.
    """

    instance: str
    series: str
    sop_class: str
    frames: int


@dataclass(frozen=True)
class Facts:
    """All that is delivered about a study.

    Attributes:
        study: the study.
        images: its images.
        findings: what the models say, by image and label, likeliest first.
        reduced: of how many images the findings are the likeliest; 0 where all are given.
        report: the report.
        machine: what made the machine's part.
        institution: the clinic's name; "" where it is not set.
        amends: whether another version of the report was delivered before.
    """

    study: Study
    images: tuple[Image, ...]
    findings: tuple[Finding, ...]
    reduced: int
    report: SignedReport
    machine: Machine
    institution: str = ""
    amends: bool = False

    @property
    def at(self) -> datetime:
        """When the report was signed; of a draft, when the study came. In UTC: the same for every call."""
        moment = self.report.signed_at if self.report.signed_at is not None else self.study.received
        return datetime.fromtimestamp(int(moment), UTC)

    @property
    def words(self) -> tuple[str, ...]:
        """What a delivery's UIDs follow from: the study, the version and everything said."""
        said = repr((self.report, self.findings, self.machine, self.institution))
        return (self.study.uid, str(self.report.version), hashlib.sha256(said.encode()).hexdigest())


def findings_of(results: Sequence[Result]) -> tuple[tuple[Finding, ...], int, Mapping[str, Any]]:
    """What the models say of a study, of each image the newest.

    Args:
        results: of the study, the oldest first.

    Returns:
        The findings; of how many images they are the likeliest, 0 where all are given; the content of the newest result, {} where
        there is none.
    """
    by_image: dict[tuple[str, int], list[Finding]] = {}
    newest: Mapping[str, Any] = {}
    for result in results:
        if result.kind == CLASSIFY and isinstance(result.content, dict):
            newest = result.content
            for one in result.content.get("instances", ()):
                if "error" not in one:
                    found = _of_image(one)
                    by_image[one["instance"], int(one.get("frame") or 0)] = found
    every = [finding for found in by_image.values() for finding in found]
    if len(by_image) <= MOST_IMAGES:
        return tuple(every), 0, newest
    best: dict[str, Finding] = {}
    for finding in every:
        held = best.get(finding.label)
        if held is None or (finding.probability or 0) > (held.probability or 0):
            best[finding.label] = finding
    ranked = sorted(best.values(), key=lambda one: -(one.probability or 0))
    return tuple(ranked), len(by_image), newest


def _of_image(one: Mapping[str, Any]) -> list[Finding]:
    decision = one.get("decision") or {}
    said = {finding["label"]: finding for finding in decision.get("findings", ())}
    found: list[Finding] = []
    for score in one.get("labels") or ():
        label, judged = str(score["label"]), said.get(score["label"], {})
        probability = judged.get("probability")
        if probability is None:
            probability = score.get("probability", score.get("softmax"))
        says: Says = "unlike" if decision.get("unlike") else judged.get("says", "")
        found.append(
            Finding(
                label, None if probability is None else float(probability),
                says if says in ("present", "absent", "uncertain", "unlike") else "",
                str(one["instance"]), int(one.get("frame") or 0),
            )
        )  # fmt: skip
    return found


def manifest_hash(bundle: Path) -> str:
    """SHA-256 of a bundle's manifest, in hexadecimal; "" where it can't be read."""
    try:
        return sha256_file(bundle / MANIFEST)
    except OSError:
        return ""
