"""The parity report: what was compared, every figure with its gate, as JSON for machines and a table for a terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

from ..errors import BundleError, one_line
from .figures import EncoderFigures, EncoderPlots, GeneratorFigures, GeneratorPlots, StageRow, read_figure
from .gates import Gate, GateResult, ParitySummary, status, tell
from .manifest import KindName
from .origin import Origin
from .typed_json import build, parse

NOT_HELD_BACK = "not measured on held-back images"


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The measured distance of a bundle from the full-precision model; each kind of bundle has its own, in `REPORTS`.

    Attributes:
        kind: of the bundle.
        made: when, by which medge, and of which checkpoint.
        bundle, reference: names, not paths.
        machine: CPU target, engine versions.
        recipes: {tower: recipe}.
        profile: the preprocessing profile; "" where the model reads text only.
        images, texts, labelled: how many real images and texts, and whether the images had labels.
        held_back: whether nothing was fitted or chosen on them; false where they are the calibration's.
        figures: what was measured.
        stages: {tower: its stages}.
        gates: every gate of these recipes.
        plots: points of the page's plots.
    """

    kind: KindName
    made: Origin
    bundle: str
    reference: str
    machine: dict[str, str]
    recipes: dict[str, str]
    profile: str
    images: int
    texts: int
    labelled: bool
    figures: EncoderFigures | GeneratorFigures
    stages: dict[str, tuple[StageRow, ...]]
    gates: tuple[GateResult, ...]
    plots: EncoderPlots | GeneratorPlots
    held_back: bool = True

    @property
    def status(self) -> Literal["passed", "failed"]:
        """ "passed" when every gate that could be measured holds, and at least one could."""
        return status(self.gates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was lost all the same by a bundle that passed, and what too little was measured for; sentences without an end."""
        return tell(self.gates)

    @property
    def verdict(self) -> str:
        """The status for people: "passed", "passed with a warning" or "failed"."""
        return verdict(self.gates)

    def summary(self) -> ParitySummary:
        """What the manifest repeats."""
        return ParitySummary(
            self.status, self.warnings, self.images, self.texts, self.labelled, self.held_back, self.machine, self.gates
        )

    def to_json(self) -> str:
        """The text of `parity.json`.

        Raises:
            BundleError: a figure is not finite: the bundle computes no numbers.
        """
        judged = {"status": self.status, "warnings": list(self.warnings)}
        try:
            return json.dumps({**judged, **dataclasses.asdict(self)}, indent=2, allow_nan=False) + "\n"
        except ValueError as error:
            broken = ", ".join(
                gate.figure for gate in self.gates if gate.value is not None and not isfinite(gate.value)
            )
            raise BundleError(
                f"{self.bundle}: figures are not finite numbers ({broken or 'none with a gate'})"
            ) from error

    @staticmethod
    def from_json(text: str) -> ParityReport:
        """The report that `to_json` wrote, of its own kind.

        Raises:
            ValueError: it is damaged, or was written by another version.
        """
        body = parse(text.encode())
        if (kind := body.get("kind")) not in list(REPORTS):  # a list: what a file says need not be hashable
            raise ValueError(f"'{one_line(kind, 80)}' is no kind of bundle - at `$.kind`")
        judged = body.pop("status", None), body.pop("warnings", None)
        report = build(REPORTS[kind], body)
        if judged != (report.status, list(report.warnings)) or any(gate.contradicts for gate in report.gates):
            raise ValueError("its gates say something else than its status or its warnings")
        return report

    @staticmethod
    def read(path: Path) -> ParityReport:
        """The report in a bundle's `parity.json`.

        Raises:
            BundleError: it is missing, damaged, or of another version.
        """
        try:
            return ParityReport.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BundleError(f"{path} can't be read ({error.strerror}): was the bundle measured?") from error
        except ValueError as error:
            raise BundleError(f"{path} is no report of this version of medge ({error}): run 'medge parity'") from error


@dataclass(frozen=True, kw_only=True)
class EncoderReport(ParityReport):
    """Of an image-text encoder."""

    kind: Literal["encoder"] = "encoder"
    figures: EncoderFigures
    plots: EncoderPlots


@dataclass(frozen=True, kw_only=True)
class GeneratorReport(ParityReport):
    """Of a language model."""

    kind: Literal["generator"] = "generator"
    figures: GeneratorFigures
    plots: GeneratorPlots


REPORTS: dict[KindName, type[ParityReport]] = {"encoder": EncoderReport, "generator": GeneratorReport}


def verdict(gates: Iterable[GateResult]) -> Literal["passed", "passed with a warning", "failed"]:
    """The status of gates, and whether something must be told of what passed."""
    gates = tuple(gates)
    found = status(gates)
    return "passed with a warning" if found == "passed" and tell(gates) else found


def judge(figures: EncoderFigures | GeneratorFigures, gates: Iterable[Gate]) -> tuple[GateResult, ...]:
    """Hold figures against gates.

    Raises:
        LookupError: a gate names a figure that does not exist.
    """
    return tuple(gate.judge(read_figure(figures, gate.figure)) for gate in gates)
