"""What recipes of all formats share, and how a user's words name them.

A recipe is pure data. It stands in one line of its format's table with what it promises: the gates of its parts, the gates of
the answers, and the bound of its golden results. To add one, add a line; if it is of a new kind, add the function that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...runtime.bundles.facts import GoldenBound
from ...runtime.bundles.gates import Gate
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
        images: gates of a language model's next words after an image, to which its language part and its tower both add.
    """

    part: tuple[Gate, ...]
    golden: GoldenBound
    answers: tuple[Gate, ...] = ()
    tokens: tuple[Gate, ...] = ()
    images: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to make parts of a model smaller.

    Attributes:
        name: what the user says.
        format: of the files that it makes: "onnx", "coreml", "litert" or "gguf".
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
    return tuple(replace(gate, figure=f"{FIGURES[part]}.{gate.figure}") for gate in gates)


def all_gates(recipes: Mapping[str, Recipe], *common: Gate) -> tuple[Gate, ...]:
    """All gates of a bundle: the common ones, each part's, and of what parts give together the loosest that one recipe allows."""
    together: dict[str, Gate] = {}
    for part, recipe in recipes.items():
        for gate in recipe.promise.answers if part in SCORING else ():
            together[gate.figure] = gate.looser(together.get(gate.figure, gate))
        for gate in recipe.promise.images if "projector" in recipes else ():
            together[gate.figure] = gate.looser(together.get(gate.figure, gate))
    parts = [gate for part, recipe in recipes.items() for gate in part_gates(part, recipe)]
    return (*common, *parts, *together.values())


# The pixels of the bundle's own preprocessing against the reference's: one grey level, where a value lies on a border.
PIXELS = Gate("pixels.max_error", "<=", 1)
SAME_IDS = (Gate("tokenizer.ids_equal", ">=", 1), Gate("prompt.ids_equal", ">=", 1))
# A student against its teacher: shares of what the teacher reaches on labelled images. A student is another model, so its
# embeddings are reported without a gate: what it is made for is that the answers stay as good.
STUDENT_GATES = (PIXELS, Gate("scores.accuracy_kept", ">=", 0.97), Gate("scores.auc_kept", ">=", 0.97))


def _answers(flips: float, auc: float) -> tuple[Gate, ...]:
    return Gate("scores.flips", "<=", flips), Gate("scores.auc_difference", "<=", auc)


# What everybody must be told of a language model, whatever its recipe: llama.cpp's own table (tools/perplexity, 250,000 tokens of
# Wikitext-2) gives q4_k_m a mean KL divergence of 0.013 (LLaMA 2 7B) to 0.031 (LLaMA 3 8B) and the same first choice at 94.7% to
# 91.9% of the tokens, q4_0 and q3_k_m 0.07 to 0.10: a large model passes at q4_k_m without a word, one in ten words is told.
# The 99% is about eight times the mean at such types.
TOLD = {"kld.mean": 0.05, "kld.p99": 0.5, "same_top": 0.9}


def loss(kld: float, p99: float, same_top: float) -> tuple[Gate, ...]:
    """Gates of next-token distributions: their mean and 99% KL divergence in nats, and the share of equal first choices."""
    gates = (Gate("same_top", ">=", same_top), Gate("kld.mean", "<=", kld), Gate("kld.p99", "<=", p99))
    return tuple(
        replace(gate, warn=TOLD[gate.figure]) if gate.passes(TOLD[gate.figure]) else gate for gate in gates
    )  # what fails already needs no warning


def after_image(kld: float, p99: float, same_top: float) -> tuple[Gate, ...]:
    """The same of prompts with an image."""
    return tuple(replace(gate, figure=f"image.{gate.figure}") for gate in loss(kld, p99, same_top))


# After an image. Measured on the words of the question, which no model would write by itself: divergences are some ten times
# those on text. By medgemma-mini (benchmarks/results/generator_parity.json): 16 bits 0.0005 nats, 99% 0.005, 99.3% the same
# choice; q8_0 0.027, 0.23, 92.6%; q6_k 0.10, 0.93, 80.1%. Three to ten times that is a fault of the recipe.
AFTER_IMAGE_16 = after_image(5e-3, 0.05, 0.95)
AFTER_IMAGE_8 = after_image(0.1, 1.0, 0.85)
AFTER_IMAGE_6 = after_image(0.3, 3.0, 0.7)
# A divergence of one nat leaves a word that the original was sure of a third of its probability; six nats leave nothing.
# Of 40 closed questions about images no answer changed at q4_k_m (0.53, 3.9, 68.8%) nor at iq4_xs (1.09, 6.9, 65.4%: beyond
# a nat, so it fails), 4 at q4_0 (1.13, 6.5, 48.9%), 10 at q3_k_m (1.00, 5.1, 43.4%): the share must lie above those two.
AFTER_IMAGE_COARSE = after_image(1.0, 6.0, 0.6)

# What towers promise, whatever the format of their files. The worst inputs are gated by each: by the greatest error, by the least
# cosine, or, where a single input may go astray (4 bits, merged patches), by what one in a hundred is below.
MEAN, LEAST, WORST = "centred_cosine.mean", "centred_cosine.min", "centred_cosine.p01"
EXACT = Promise(
    (Gate("max_error", "<=", 2e-5),), GoldenBound("min", 0.999999), _answers(0.0, 0.0005), (Gate(LEAST, ">=", 0.9999),),
    AFTER_IMAGE_16,
)  # fmt: skip
HALF = Promise((Gate(LEAST, ">=", 0.9999),), GoldenBound("min", 0.9999), _answers(0.005, 0.001), images=AFTER_IMAGE_16)
EIGHT_BIT = Promise(
    (Gate(MEAN, ">=", 0.999), Gate(LEAST, ">=", 0.99)), GoldenBound("min", 0.999), _answers(0.01, 0.003),
    images=AFTER_IMAGE_8,
)  # fmt: skip
# The least of all held-back images and texts at 4 bits was 0.969 (turbo, chest films), of those without merging 0.981
# (benchmarks/results/standin_parity.json, coreml_parity.json). Image tokens come by the thousand, and merging moves single ones
# far: of turbo's the least was 0.903 while no answer changed (image_tower.json).
FOUR_BIT = Promise(
    (Gate(MEAN, ">=", 0.99), Gate(WORST, ">=", 0.95, 0.98)), GoldenBound("min", 0.9999), _answers(0.02, 0.01),
    (Gate(MEAN, ">=", 0.99), Gate(WORST, ">=", 0.9, 0.95)), AFTER_IMAGE_6,
)  # fmt: skip
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


def recipes_by_part(text: str, parts: Sequence[str], table: Mapping[str, R], what: str = "recipe") -> dict[str, R]:
    """ "int8", or "vision=int8,text=int4", to {part: recipe}, all of one table.

    Raises:
        RecipeError: an unknown recipe or part.
    """
    return {part: look_up(name, table, what=what) for part, name in names_by_part(text, parts, parts).items()}


def folder_name(recipe: str) -> str:
    """A folder's name for a recipe: "vision-int8_text-int4" for "vision=int8,text=int4"."""
    return recipe.replace(" ", "").replace("=", "-").replace(",", "_")
