"""The form of what is collected: numbers, and words from closed lists.

No field holds a text that a person, a file or another system has written, except the label that whoever collects gives the
device. Counts are rounded down to fives and hidden below five, so that neither one report nor the difference of two tells of
one patient.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

FEWEST = 5  # of what is counted: with fewer, neither their number nor what they say is told
LABEL = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}"  # of a device, as whoever collects calls it
_LONGEST = 200  # characters of a word

Count = Annotated[int, msgspec.Meta(ge=FEWEST)] | Literal["<5"]
Word = Annotated[str, msgspec.Meta(max_length=_LONGEST)]
Number = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Spread:
    """How long something takes, or how often it happens.

    Attributes:
        count: how many were counted.
        median, p90: of all of them, to two digits; None where there are fewer than five.
    """

    count: Count
    median: Number | None
    p90: Number | None


@dataclass(frozen=True)
class Machine:
    """The device.

    Attributes:
        id: the same word each time it is collected from; nothing can be read from it.
        label: what whoever collects calls the device; "" without.
        architecture: "x86_64", "aarch64".
        system: "Linux".
        release: of the distribution: "debian 13".
        cores: that may be used.
        memory: bytes.
        features: of the CPU, those that change which of llama.cpp's kernels run.
        target: which kind of CPU integer weights are chosen for.
        gpu: bytes that are free on a GPU; 0 without.
    """

    id: Word
    label: Annotated[str, msgspec.Meta(pattern=f"^({LABEL})?$")]
    architecture: Word
    system: Word
    release: Word
    cores: Annotated[int, msgspec.Meta(ge=1)]
    memory: Annotated[int, msgspec.Meta(ge=0)]
    features: list[Word]
    target: Word
    gpu: Annotated[int, msgspec.Meta(ge=0)] = 0


@dataclass(frozen=True)
class Step:
    """A version that was put on the device.

    Attributes:
        counter: the kit's.
        medge: its version.
        day: when, as the device's clock said.
        what: "installed", "updated", "rolled back", "failed its self-test".
    """

    counter: Annotated[int, msgspec.Meta(ge=0)]
    medge: Word
    day: Word
    what: Word


@dataclass(frozen=True)
class Check:
    """One golden result, replayed.

    Attributes:
        what: was compared.
        measured, bound: in the check's own unit.
        holds: within the bound.
    """

    what: Word
    measured: float
    bound: float
    holds: bool


@dataclass(frozen=True)
class Model:
    """A bundle on the device, and how it computes there.

    Attributes:
        name: its name where the kit's makers have given it; else "bundle-" and the beginning of its digest.
        digest: SHA-256 of its manifest.
        kind: "encoder" or "generator".
        recipes: {tower: recipe}.
        parity: "passed", "failed" or "not measured", by its makers.
        bytes: of all its files.
        replay: of its golden results; empty where it failed.
        seconds: that hashing took, and that opening and replaying took.
        fault: what failed, and where in medge's code; "" where nothing did.
    """

    name: Word
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    kind: Literal["encoder", "generator"]
    recipes: dict[str, Word]
    parity: Word
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    replay: list[Check]
    hash_seconds: Number
    replay_seconds: Number
    fault: Word = ""

    @property
    def good(self) -> bool:
        """Whether it computes here what it did where it was made."""
        return not self.fault and bool(self.replay) and all(one.holds for one in self.replay)


@dataclass(frozen=True)
class Work:
    """Jobs of one kind, by one model.

    Attributes:
        kind: "classify", "report", "deliver".
        model: a name of `Collected.models`; "another" of a model that is there no more, "" of work without a model.
        states: {state: how many}.
        seconds: that one took: of "classify", for a picture; of others, for the whole job.
        tried_again: jobs that failed at least once, or lost their worker.
    """

    kind: Word
    model: Word
    states: dict[str, Count]
    seconds: Spread
    tried_again: Count


@dataclass(frozen=True)
class Fault:
    """What failed.

    Attributes:
        kind: of the job.
        error: the error's type: "ImageError".
        place: in medge's code: "medge.runtime.pictures.dicom:212".
        count: jobs whose last failure it was.
    """

    kind: Word
    error: Word
    place: Word
    count: Count


@dataclass(frozen=True)
class Finding:
    """What became of one region's line in drafts.

    Attributes:
        region: of the template; "impression".
        drafts: that had the line.
        changed: share of them in which the signed report says something else, in steps of 0.05; None of fewer than five.
    """

    region: Word
    drafts: Count
    changed: Share | None


@dataclass(frozen=True)
class Agreement:
    """Signed reports against the drafts that they began with, as numbers.

    Attributes:
        template: the kind of report; "other" where the draft's job does not say.
        model: as of `Work`.
        signed: reports that began with a draft.
        unchanged: share of them that were signed as they were, in steps of 0.05.
        words_kept: share of the draft's words that stand in the signed report in the same order: the median of reports.
        edits: versions that people wrote between the draft and the signature.
        findings: by region; shares of lines that were overruled.
    """

    template: Word
    model: Word
    signed: Count
    unchanged: Share | None
    words_kept: Share | None
    edits: Spread
    findings: list[Finding]


@dataclass(frozen=True)
class Held:
    """How much the station holds.

    Attributes:
        studies: how many.
        series: {modality: how many}; modalities that DICOM does not define, or that are rare, are "other".
        instances: how many.
        reports: that were signed.
        unsigned: studies with a draft that nobody has signed.
        schema: the version of its tables.
        free: bytes on its disk.
        audit_holds: nothing in its history was changed.
    """

    studies: Count
    series: dict[str, Count]
    instances: Count
    reports: Count
    unsigned: Count
    schema: int
    free: int
    audit_holds: bool


@dataclass(frozen=True)
class Collected:
    """All that goes home.

    Attributes:
        format: of this file.
        day: when it was collected, as the device's clock said.
        medge: the version that runs.
        python: its version.
        packages: {name: version} of those that medge computes with.
        device: the machine.
        kit: the counter of the kit that runs; None where medge was put there in another way.
        history: of what was put there, the newest last.
        models: the bundles.
        held, work, faults, agreement: of the station; None and empty where none was looked at.
    """

    format: Literal[1]  # raised when a field changes its meaning
    day: Word
    medge: Word
    python: Word
    packages: dict[str, Word]
    device: Machine
    kit: int | None
    history: list[Step]
    models: list[Model]
    held: Held | None = None
    work: list[Work] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def count(number: int) -> Count:
    """A number of things, rounded down to fives; "<5" below."""
    return "<5" if number < FEWEST else number - number % FEWEST


def share(part: int, whole: int) -> float | None:
    """A share in steps of 0.05; None of fewer than five."""
    return None if whole < FEWEST else round(round(20 * part / whole) / 20, 2)


def two_digits(value: float) -> float:
    """A number to two digits that matter."""
    return float(f"{value:.2g}") if math.isfinite(value) else 0.0


def spread(values: Sequence[float]) -> Spread:
    """How values lie; those below zero, of a clock that was set back, are left out."""
    good = sorted(value for value in values if value >= 0)
    if len(good) < FEWEST:
        return Spread("<5", None, None)
    p90 = good[math.ceil(0.9 * len(good)) - 1]
    return Spread(count(len(good)), two_digits(statistics.median(good)), two_digits(p90))
