"""The parity report: what was compared, every figure with its gate, as JSON for machines and a table for a terminal."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .gates import STUDENT_GATES, Gate, gates_for, generator_gates_for

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class GateResult:
    """A gate with what was measured; `value` and `passed` are None where the measurement gave no such figure."""

    figure: str
    sense: str
    bound: float
    value: float | None
    passed: bool | None


@dataclass(frozen=True)
class ParityReport:
    """The measured distance of a bundle from the full-precision model.

    Attributes:
        bundle, reference: names, not paths.
        machine: CPU target, engine versions.
        recipes: {tower: recipe}.
        profile: the preprocessing profile.
        images, labelled: how many real images, and whether they had labels.
        figures: nested figures, as the gates name them.
        stages: {tower: [{stage, pytorch_to_fp32, fp32_to_bundle, pytorch_to_bundle}]}, relative errors.
        gates: every gate of these recipes.
        plots: the points of the plots (scores, ROC), for the page.
        kind: "encoder" or "generator".
    """

    bundle: str
    reference: str
    machine: dict[str, str]
    recipes: dict[str, str]
    profile: str
    images: int
    texts: int
    labelled: bool
    figures: dict[str, Any]
    stages: dict[str, list[dict[str, Any]]]
    gates: tuple[GateResult, ...]
    plots: dict[str, Any] = field(default_factory=dict)
    kind: str = "encoder"

    @property
    def status(self) -> str:
        """ "passed" when every gate that could be measured holds, and at least one could."""
        measured = [gate.passed for gate in self.gates if gate.passed is not None]
        return "passed" if measured and all(measured) else "failed"

    def summary(self) -> dict[str, Any]:
        """What the manifest repeats."""
        return {
            "status": self.status, "images": self.images, "texts": self.texts, "labelled": self.labelled,
            "machine": self.machine, "gates": [dataclasses.asdict(gate) for gate in self.gates],
        }  # fmt: skip

    def to_json(self) -> str:
        return json.dumps({"status": self.status, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ParityReport:
        body = json.loads(text)
        body.pop("status")
        body["gates"] = tuple(GateResult(**gate) for gate in body["gates"])
        return cls(**body)

    def table(self) -> Table:
        """The gates, a row each."""
        from rich.table import Table

        on = f"{self.images} images" if self.images or self.kind == "encoder" else f"{self.texts} texts"
        by = f" by {self.machine['engine']}" if "engine" in self.machine else ""
        table = Table(title=f"Parity of {self.bundle} with {self.reference} on {on}{by}: {self.status}")
        for column in ("figure", "measured", "gate", ""):
            table.add_column(column, justify="right" if column == "measured" else "left")
        marks = {True: "[green]pass[/]", False: "[red]FAIL[/]", None: "[dim]not measured[/]"}
        for gate in self.gates:
            value = "-" if gate.value is None else f"{gate.value:.6g}"
            table.add_row(gate.figure, value, f"{gate.sense} {gate.bound:g}", marks[gate.passed])
        return table


def judge(figures: Mapping[str, Any], recipes: dict[str, str]) -> tuple[GateResult, ...]:
    """Hold the figures against the gates of these recipes."""
    return tuple(_judge(gate, figures) for gate in gates_for(recipes))


def judge_generator(figures: Mapping[str, Any], recipes: dict[str, str]) -> tuple[GateResult, ...]:
    """Hold a generator's figures against the gates of these recipes."""
    return tuple(_judge(gate, figures) for gate in generator_gates_for(recipes))


def judge_student(figures: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """Hold a student's figures against its teacher's."""
    return tuple(_judge(gate, figures) for gate in STUDENT_GATES)


def _judge(gate: Gate, figures: Mapping[str, Any]) -> GateResult:
    value: Any = figures
    for key in gate.figure.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        return GateResult(gate.figure, gate.sense, gate.bound, None, None)
    # A figure that came out as NaN is a failure, never a gap.
    passed = not math.isnan(value) and gate.passes(float(value))
    return GateResult(gate.figure, gate.sense, gate.bound, float(value), passed)
