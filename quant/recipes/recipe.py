"""What recipes of all formats share, and how a user's words name them.

A recipe is pure data. It stands in one line of its format's table with what it promises: the gates of its parts, the gates of
the answers, and the bound of its golden results. To add one, add a line; if it is of a new kind, add the function that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...runtime.bundles.gates import Gate
from ...runtime.bundles.manifest import GoldenBound
from ...runtime.errors import RecipeError


@dataclass(frozen=True)
class Promise:
    """How far a recipe may take a model from full precision.

    Attributes:
        part: gates of each part that it makes, on figures of that part ("centred_cosine.min").
        golden: what replaying golden results on another device is held against. Engines and instruction sets add up in another
            order (fp32: about 1e-7), and 8-bit kernels round at other places.
        answers: gates of the scores that an encoder's towers give together.
        tokens: gates of a language model's image tokens, where they can't be those of `part`: tokens are not of unit length.
    """

    part: tuple[Gate, ...]
    golden: GoldenBound
    answers: tuple[Gate, ...] = ()
    tokens: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to make parts of a model smaller.

    Attributes:
        name: what the user says.
        format: of the files that it makes: "onnx", "coreml" or "gguf".
        parts: what it can make: "vision" and "text" of an encoder, "language" and "projector" of a language model.
        summary: for tables and help.
        promise: its gates and its golden bound.
    """

    name: str
    format: str
    parts: tuple[str, ...]
    summary: str
    promise: Promise


FIGURES = {
    "vision": "vision",
    "text": "text",
    "language": "text",
    "projector": "image",
}  # part -> section of the report
SCORING = ("vision", "text")  # the parts whose answers are scores of labels


def part_gates(part: str, recipe: Recipe) -> tuple[Gate, ...]:
    """A recipe's gates of one part, by the figures' full names."""
    promise = recipe.promise
    gates = promise.tokens if part == "projector" and promise.tokens else promise.part
    return tuple(Gate(f"{FIGURES[part]}.{gate.figure}", gate.sense, gate.bound) for gate in gates)


def all_gates(recipes: Mapping[str, Recipe], *common: Gate) -> tuple[Gate, ...]:
    """All gates of a bundle: the common ones, each part's, and of the answers the loosest that a part's recipe allows."""
    answers: dict[str, Gate] = {}
    for recipe in (recipe for part, recipe in recipes.items() if part in SCORING):
        for gate in recipe.promise.answers:
            answers[gate.figure] = gate.looser(answers.get(gate.figure, gate))
    parts = [gate for part, recipe in recipes.items() for gate in part_gates(part, recipe)]
    return (*common, *parts, *answers.values())


# The pixels of the bundle's own preprocessing against the reference's: one grey level, where a value lies on a border.
PIXELS = Gate("pixels.max_error", "<=", 1)
SAME_IDS = (Gate("tokenizer.ids_equal", ">=", 1), Gate("prompt.ids_equal", ">=", 1))
# A student against its teacher: shares of what the teacher reaches on labelled images. A student is another model, so its
# embeddings are reported without a gate: what it is made for is that the answers stay as good.
STUDENT_GATES = (PIXELS, Gate("scores.accuracy_kept", ">=", 0.97), Gate("scores.auc_kept", ">=", 0.97))


def _answers(flips: float, auc: float) -> tuple[Gate, ...]:
    return Gate("scores.flips", "<=", flips), Gate("scores.auc_difference", "<=", auc)


# What towers promise, whatever the format of their files.
MEAN, LEAST = "centred_cosine.mean", "centred_cosine.min"
EXACT = Promise(
    (Gate("max_error", "<=", 2e-5),), GoldenBound("min", 0.999999), _answers(0.0, 0.0005), (Gate(LEAST, ">=", 0.9999),)
)
HALF = Promise((Gate(LEAST, ">=", 0.9999),), GoldenBound("min", 0.9999), _answers(0.005, 0.001))
EIGHT_BIT = Promise(
    (Gate(MEAN, ">=", 0.999), Gate(LEAST, ">=", 0.99)), GoldenBound("min", 0.999), _answers(0.01, 0.003)
)
FOUR_BIT = Promise((Gate(MEAN, ">=", 0.99),), GoldenBound("min", 0.9999), _answers(0.02, 0.01))
# Where patches are merged, a rounding can send one elsewhere, and what it was part of changes: the mean is judged. Kernels
# that compute wrongly (S8 weights on AVX2) come to 0.91.
MERGED_GOLDEN = GoldenBound("mean", 0.99)


def golden_bound(recipe: Recipe, *, merged: bool) -> GoldenBound:
    """What the golden results of a part are held against."""
    return MERGED_GOLDEN if merged else recipe.promise.golden


R = TypeVar("R", bound=Recipe)


def by_name(recipes: Sequence[R]) -> dict[str, R]:
    """A table of recipes."""
    return {recipe.name: recipe for recipe in recipes}


def names_by_part(text: str, parts: Sequence[str], whole: Sequence[str]) -> dict[str, str]:
    """ "int8", or "vision=int8,text=int4", to {part: name}, whichever table the names stand in.

    Args:
        text: what the user says.
        parts: what may be named.
        whole: the parts that a name without a part stands for.

    Raises:
        RecipeError: an unknown part.
    """
    form = ",".join(f"{part}=RECIPE" for part in parts)
    chosen: dict[str, str] = {}
    for word in text.split(","):
        part, equals, name = word.strip().rpartition("=")
        for key in [part] if equals else whole:
            chosen[key] = name
    if unknown := sorted(set(chosen) - set(parts)):
        raise RecipeError(f"there is no part {unknown[0]!r} in {text!r}; say {form}")
    if missing := [part for part in whole if part not in chosen]:
        raise RecipeError(f"{text!r} names no recipe for the part {missing[0]!r}; say {form}")
    return chosen


def look_up(name: str, *tables: Mapping[str, R], what: str = "recipe") -> R:
    """The recipe of this name.

    Raises:
        RecipeError: no table has it.
    """
    for table in tables:
        if name in table:
            return table[name]
    names = ", ".join(name for table in tables for name in table)
    raise RecipeError(f"there is no {what} {name!r}; choose from {names}")


def folder_name(recipe: str) -> str:
    """A folder's name for a recipe: "vision-int8_text-int4" for "vision=int8,text=int4"."""
    return recipe.replace(" ", "").replace("=", "-").replace(",", "_")
