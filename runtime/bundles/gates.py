"""What a figure of a parity report is held against, and the words for what was lost.

The bounds stand with the recipes, in `quant/recipes`. A figure beyond `bound` fails. One that is beyond `warn`, or that rests on
too little to say, passes with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from .bounds import Count, Figure, Name, Sentence

# The range of n independent values holds their median with a probability of 1 - 2^(1 - n), whatever their distribution: 94% of 5
# of them, 97% of 6. From fewer than 6 passages or images no interval of 95% can be had.
FEWEST = 6
FEWEST_TOKENS = 100  # of fewer, the 99% is the greatest of all
# A share of n images comes in steps of 1/n. Of 22 images, a bound of 1% would allow none to change, not even one whose two best
# labels tie; so one may, of this many images or more, and it is told. A bound of 0 stays 0.
FEWEST_FOR_ONE = 20


@dataclass(frozen=True)
class Measured:
    """A figure, and how sure it is.

    Attributes:
        value: the figure.
        low, high: its 95% interval; None where there is none.
        units, unit: how many independent things it rests on, and what they are: 12 "passages".
        tokens: how many they hold; None where they are not made of tokens.
    """

    value: float
    low: float | None = None
    high: float | None = None
    units: int = 0
    unit: str = ""
    tokens: int | None = None

    @property
    def rests_on(self) -> str:
        """ "1,980 tokens of 12 passages", "40 images", or "" of what is not sampled."""
        if not self.units:
            return ""
        units = f"{self.units:,} {self.unit if self.units > 1 else self.unit.removesuffix('s')}"
        return units if self.tokens is None else f"{self.tokens:,} tokens of {units}"


@dataclass(frozen=True)
class Gate:
    """`figure` must be `<=` or `>=` `bound`; the figure is named by its path in the report, `vision.centred_cosine.min`.

    Where there is `warn`, what lies between the two bounds passes, and is told.
    """

    figure: str
    sense: Literal["<=", ">="]
    bound: float
    warn: float | None = None

    def passes(self, value: float) -> bool:
        return self.within(value, self.bound)

    def within(self, value: float, bound: float) -> bool:
        """Whether a value is on the good side of a bound."""
        return value <= bound if self.sense == "<=" else value >= bound

    def looser(self, other: Gate) -> Gate:
        """Whichever of two gates on the same figure allows more."""
        return self if self.passes(other.bound) else other

    def judge(self, measured: Measured | None) -> GateResult:
        """Hold a figure against the bounds; None was not measured. A figure that came out as NaN fails."""
        if measured is None:
            return GateResult(self.figure, self.sense, float(self.bound), None, None, self.warn)
        gate = self._in_steps(measured)
        passed = not math.isnan(measured.value) and gate.passes(measured.value)
        return GateResult(
            self.figure, self.sense, float(gate.bound), measured.value, passed, self.warn, measured.low, measured.high,
            measured.rests_on, self._warning(measured) if passed else "",
        )  # fmt: skip

    def _in_steps(self, measured: Measured) -> Gate:
        """This gate, or, on a share of images of which the bound would allow none to change, one that allows one."""
        if self.figure.endswith("flips") and self.bound > 0 and measured.units >= FEWEST_FOR_ONE:
            return replace(self, bound=max(self.bound, 1 / measured.units))
        return self

    def _warning(self, measured: Measured) -> str:
        """What must be told of a figure that passes; "" where there is nothing."""
        clauses = []
        few = 0 < measured.units < FEWEST
        if few or (measured.tokens or FEWEST_TOKENS) < FEWEST_TOKENS:
            what = replace(measured, tokens=None).rests_on if few else measured.rests_on
            clauses.append(f"only {what} measured, too few to say what others would give")
        worse = measured.high if self.sense == "<=" else measured.low
        # Of a figure without any loss (no changed answer), the interval says how few were measured; the table shows both.
        lossless = self.sense == "<=" and measured.value == 0
        if worse is not None and not self.passes(worse) and not lossless:
            bound = _form(self.figure)[1](self.bound)
            clauses.append(f"{_loss(self.figure, measured)}: by the interval it may be beyond the bound of {bound}")
        elif self.warn is not None and not self.within(measured.value, self.warn):
            clauses.append(_loss(self.figure, measured))
        return "; ".join(clauses)


@dataclass(frozen=True)
class GateResult:
    """A gate with what was measured.

    Attributes:
        figure, sense, bound, warn: of the gate.
        value, passed: None where nothing was measured.
        low, high: the figure's 95% interval, where it has one.
        rests_on: what was measured, "1,980 tokens of 12 passages".
        warning: what was lost all the same, of a gate that is passed; "" for nothing worth telling.
    """

    figure: Name
    sense: Literal["<=", ">="]
    bound: Figure
    value: Figure | None
    passed: bool | None
    warn: Figure | None = None
    low: Figure | None = None
    high: Figure | None = None
    rests_on: Sentence = ""
    warning: Sentence = ""

    @property
    def contradicts(self) -> bool:
        """Whether `passed` is not what the value and the bound say."""
        return self.passed is not (
            None if self.value is None else Gate(self.figure, self.sense, self.bound).passes(self.value)
        )


def status(gates: Iterable[GateResult]) -> Literal["passed", "failed"]:
    """Whether every gate that could be measured holds, and at least one could."""
    measured = [gate.passed for gate in gates if gate.passed is not None]
    return "passed" if measured and all(measured) else "failed"


@dataclass(frozen=True)
class ParitySummary:
    """What the manifest says of a parity report.

    Attributes:
        status, warnings, images, texts, labelled, held_back, machine, gates: as in the report.
    """

    status: Literal["passed", "failed"]
    warnings: tuple[Sentence, ...]
    images: Count
    texts: Count
    labelled: bool
    held_back: bool
    machine: dict[Name, Sentence]
    gates: tuple[GateResult, ...]

    def check(self, where: str) -> None:
        """Hold what it says against its own gates.

        Args:
            where: its place in the manifest.

        Raises:
            ValueError: a gate, the status or the warnings say something else; the message names it.
        """
        for number, gate in enumerate(self.gates):
            if gate.contradicts:
                said = f"{gate.figure} is {gate.value} and must be {gate.sense} {gate.bound}"
                raise ValueError(f"{said} - at `{where}.gates[{number}].passed`")
        if self.status != status(self.gates):
            raise ValueError(f"the gates say {status(self.gates)!r} - at `{where}.status`")
        if self.warnings != tell(self.gates):
            raise ValueError(f"the gates tell something else - at `{where}.warnings`")


def tell(results: Iterable[GateResult]) -> tuple[str, ...]:
    """The warnings of gates as sentences, one for each of the places that they were measured at."""
    places: dict[str, list[GateResult]] = {}
    for result in results:
        if result.warning:
            places.setdefault(_PLACES.get(result.figure.split(".")[0], ""), []).append(result)
    sentences = []
    for place, warned in places.items():
        clauses = list(dict.fromkeys(result.warning for result in warned))
        rests_on = list(dict.fromkeys(result.rests_on for result in warned if result.rests_on))
        few = all(clause.startswith("only ") for clause in clauses)
        measured = f" (measured on {' and '.join(rests_on)})" if rests_on and not few else ""
        sentences.append(f"{place}{': ' if place else ''}{'; '.join(clauses)}{measured}")
    return tuple(sentences)


_PLACES = {"text": "on text", "image": "with an image in the prompt", "vision": "on images"}


def _percent(share: float) -> str:
    return f"{round(100 * share, 0 if share >= 0.1 else 1):g}%"


def _of_hundred(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.01 else 1}f}"


# By the end of a figure's name: its value in words; the ends of its interval and its bound are written in the same unit.
_LOSSES: dict[str, tuple[str, Callable[[float], str]]] = {
    "same_top": ("the first choice of words differs in {} of 100 tokens", lambda value: _of_hundred(1 - value)),
    "kld.mean": ("the KL divergence of the next word is {} nats on average", "{:.2g}".format),
    "kld.p99": ("in one of 100 tokens the KL divergence is above {} nats", "{:.2g}".format),
    "kld.ratio_to_plain": ("the mean KL divergence is {} of that of llama.cpp's own quantizer", "{:.2f}".format),
    "centred_cosine.mean": ("the mean centred cosine with the original is {}", "{:.4f}".format),
    "centred_cosine.p01": ("the worst of 100 have a centred cosine with the original below {}", "{:.3f}".format),
    "flips": ("the best label changed on {} of the images", _percent),
}


def _form(figure: str) -> tuple[str, Callable[[float], str]]:
    tail = next((tail for tail in _LOSSES if figure.endswith(f".{tail}")), None)
    return _LOSSES[tail] if tail else (f"{figure} is {{}}", "{:.4g}".format)


def _loss(figure: str, measured: Measured) -> str:
    """A figure in words, with its interval."""
    words, form = _form(figure)
    told = words.format(form(measured.value))
    if measured.low is None or measured.high is None:
        return told
    ends = (measured.high, measured.low) if figure.endswith(".same_top") else (measured.low, measured.high)
    return f"{told} (95% interval {form(ends[0])} to {form(ends[1])})"
