"""The ways to make a language model and its projector smaller.

The projector, with its vision tower, is a GGUF by a recipe of this module, or an ONNX file by one of `onnx.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...runtime.bundles.facts import GoldenBound
from ...runtime.bundles.gates import Gate
from ...runtime.errors import RecipeError
from .onnx import ONNX_RECIPES, OnnxRecipe
from .recipe import (
    AFTER_IMAGE_6,
    AFTER_IMAGE_8,
    AFTER_IMAGE_16,
    AFTER_IMAGE_COARSE,
    EIGHT_BIT,
    FOUR_BIT,
    LEAST,
    MEAN,
    Promise,
    Recipe,
    by_name,
    look_up,
    loss,
    names_by_part,
)

PARTS = ("language", "projector")
# Kernels sum in another order on another CPU, and quantize activations at other places.
GOLDEN = GoldenBound("min", 0.999)


@dataclass(frozen=True, kw_only=True)
class GGUFRecipe(Recipe):
    """One way to store a language model.

    Attributes:
        file_type: llama.cpp's name of it (llama_ftype, as gguf-py's `LlamaFileType` spells it).
        projector: the projector's recipe that goes with it where the user names none.
        importance: whether an importance matrix makes it better.
        plain: whether llama.cpp's quantizer makes it without a matrix, too.
        bits: a weight, over the whole language model with its token embedding; types are chosen by layer then, as for a size.
        keep, keep_late: matrices that stay in 16 bits, by the part of their names after "blk.N."; the latter only in the
            last third of the layers.
    """

    format: str = "gguf"
    parts: tuple[str, ...] = ("language",)
    file_type: str
    projector: str = "q8_0"
    importance: bool = True
    plain: bool = True
    bits: float | None = None
    keep: tuple[str, ...] = ()
    keep_late: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProjectorRecipe(Recipe):
    """One way to store the vision tower's layers; `block` is a block format's name, or "" for `precision` itself."""

    format: str = "gguf"
    parts: tuple[str, ...] = ("projector",)
    precision: str
    block: str = ""


def _promise(text: tuple[Gate, ...], images: tuple[Gate, ...], *, to_plain: float | None = None) -> Promise:
    """Absolute gates on text and after an image; a coarse type is also held against what llama.cpp's own quantizer makes without
    a matrix, on the same held-back text."""
    relative = () if to_plain is None else (Gate("kld.ratio_to_plain", "<=", to_plain),)
    return Promise((*text, *relative), GOLDEN, images=images)


# On text, beside what medgemma-mini (270 M, generator_parity.json) and 7 to 8 B (llama.cpp's own table) lose: mean KL divergence,
# its 99%, same first choice. A fine type fails at a few times that: then something is wrong with the file.
TEXT_F16 = loss(1e-4, 1e-3, 0.99)  # mini 2e-6, 1e-5, 99.9%; 8B bf16 to f16: 2.5e-5, 2e-4, 99.7%
TEXT_BF16 = loss(1e-3, 5e-3, 0.98)  # mini 6e-5, 4e-4, 99.6%
# mini 0.0029, 0.015, 96.4%, and on medge's own texts 0.0038 (interval to 0.0042), 95.5% (from 94.1%): a bound of 0.004, as it
# was, lies inside the interval. 7B 0.0004, 98.8%; 8B 0.0014, 97.7%.
TEXT_Q8_0 = loss(0.006, 0.04, 0.93)
TEXT_Q6_K = loss(0.02, 0.15, 0.92)  # mini 0.0090, 0.048, 93.9%; 7B 0.0021, 97.5%; 8B 0.0055, 96.0%
TEXT_Q5_K_M = loss(0.06, 0.5, 0.88)  # mini 0.021, 0.15, 91.7%; 8B 0.011
# A coarse one fails where the answers are others. Of 40 PubMedQA answers by mini 2 changed at q4_k_m (0.045, 0.26, 89.4%), 7 at
# iq4_xs (0.094, 0.66, 83.4%), 13 at q3_k_m (0.13, 0.83, 82.9%), 31 at q4_0 (0.20, 1.2, 79.5%). 8B: q4_k_m 0.031 and 91.9%, iq4_xs
# 0.036, q4_0 0.072, q3_k_m 0.084, and q2_k, which nobody recommends, 0.33 to 0.45 and 71.1%.
TEXT_COARSE = loss(0.15, 1.2, 0.8)


def _codebook(name: str, summary: str) -> GGUFRecipe:
    """A mixture that llama.cpp's quantizer refuses to make without a matrix."""
    promise = _promise(TEXT_COARSE, AFTER_IMAGE_COARSE)
    return GGUFRecipe(name=name, file_type=f"MOSTLY_{name.upper()}", plain=False, summary=summary, promise=promise)


def _by_bits(bits: float) -> GGUFRecipe:
    """A file of so many bits a weight, whose types are chosen by what they cost in this model."""
    return GGUFRecipe(
        name=f"small-{bits:.1f}", file_type="MOSTLY_IQ3_XXS", plain=False, bits=bits,
        summary=f"{bits:.1f} bits with the token table: types by measured sensitivity",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE),
    )  # fmt: skip


GGUF_RECIPES: dict[str, GGUFRecipe] = by_name((
    GGUFRecipe(
        name="f16", file_type="MOSTLY_F16", projector="f16", importance=False, summary="16-bit",
        promise=_promise(TEXT_F16, AFTER_IMAGE_16),
    ),
    GGUFRecipe(
        name="bf16", file_type="MOSTLY_BF16", projector="bf16", importance=False, promise=_promise(TEXT_BF16, AFTER_IMAGE_16),
        summary="as published, 16-bit with 8 bits of mantissa",
    ),
    # What its distance comes from is rounded activations as much as weights. Keys, values and the late layers' last
    # matrices in 16 bits take a fifth off it for a twentieth of the stand-in's file.
    GGUFRecipe(
        name="q8_0", file_type="MOSTLY_Q8_0", importance=False, keep=("attn_k", "attn_v"), keep_late=("ffn_down",),
        summary="8.5 bits: blocks of 32, what matters most in 16", promise=_promise(TEXT_Q8_0, AFTER_IMAGE_8),
    ),
    GGUFRecipe(name="q6_k", file_type="MOSTLY_Q6_K", summary="6.6 bits: K-quant", promise=_promise(TEXT_Q6_K, AFTER_IMAGE_6)),
    GGUFRecipe(
        name="q5_k_m", file_type="MOSTLY_Q5_K_M", summary="5.7 bits: K-quant, some layers finer",
        promise=_promise(TEXT_Q5_K_M, AFTER_IMAGE_COARSE, to_plain=1.0),
    ),
    GGUFRecipe(
        name="q4_k_m", file_type="MOSTLY_Q4_K_M", summary="4.8 bits: K-quant, some layers finer",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=0.85),
    ),
    GGUFRecipe(
        name="iq4_xs", file_type="MOSTLY_IQ4_XS", summary="4.3 bits: non-uniform levels",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=0.85),
    ),
    GGUFRecipe(
        name="q4_0", file_type="MOSTLY_Q4_0", promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=1.0),
        summary="4.5 bits: blocks of 32, what ARM repacks for dotprod",
    ),
    GGUFRecipe(
        name="q3_k_m", file_type="MOSTLY_Q3_K_M", summary="3.9 bits: K-quant, some layers finer",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=1.0),
    ),
    # Below four bits nothing is promised that a model of 270 M keeps: the gates are those of every coarse recipe, and what
    # does not pass them says so and is refused.
    GGUFRecipe(
        name="iq3_m", file_type="MOSTLY_IQ3_M", summary="3.7 bits: codebook, some layers finer",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=1.0),
    ),
    _by_bits(3.5), _by_bits(3.0),
    GGUFRecipe(
        name="q2_k", file_type="MOSTLY_Q2_K", summary="3.0 bits: K-quant, some layers finer",
        promise=_promise(TEXT_COARSE, AFTER_IMAGE_COARSE, to_plain=1.0),
    ),
    _codebook("iq3_xxs", "3.1 bits: codebook"), _codebook("iq2_m", "2.7 bits: codebook, some layers finer"),
    _by_bits(2.5),
    _codebook("iq2_xs", "2.3 bits: codebook"),
))  # fmt: skip


def _projector(
    name: str, precision: str, block: str, summary: str, gates: tuple[Gate, ...], images: tuple[Gate, ...]
) -> ProjectorRecipe:  # fmt: skip
    promise = Promise(gates, GOLDEN, images=images)
    return ProjectorRecipe(name=name, precision=precision, block=block, summary=summary, promise=promise)


PROJECTOR_RECIPES: dict[str, ProjectorRecipe] = by_name((
    _projector("f32", "f32", "", "32-bit", (Gate(LEAST, ">=", 0.9999),), AFTER_IMAGE_16),
    _projector("f16", "f16", "", "16-bit, what others ship", (Gate(LEAST, ">=", 0.9999),), AFTER_IMAGE_16),
    _projector("bf16", "bf16", "", "16-bit with 8 bits of mantissa", (Gate(LEAST, ">=", 0.999),), AFTER_IMAGE_16),
    _projector("q8_0", "f16", "Q8_0", "8.5 bits, MLP padded 4304 to 4352", EIGHT_BIT.part, AFTER_IMAGE_8),
    _projector("q5_1", "f16", "Q5_1", "6 bits, MLP padded", FOUR_BIT.part, AFTER_IMAGE_6),
    _projector("q4_1", "f16", "Q4_1", "5 bits, MLP padded", (Gate(MEAN, ">=", 0.97), *FOUR_BIT.tokens[1:]), AFTER_IMAGE_6),
))  # fmt: skip


# {part: the tables that its recipes stand in}
RECIPES_OF: dict[str, tuple[Mapping[str, Recipe], ...]] = {
    "language": (GGUF_RECIPES,), "projector": (PROJECTOR_RECIPES, ONNX_RECIPES),
}  # fmt: skip


def parse_gguf_recipes(text: str, *, merging: bool = False) -> tuple[GGUFRecipe, ProjectorRecipe | OnnxRecipe]:
    """ "q4_k_m", or "language=q4_k_m,projector=f16", to the recipes of both parts.

    Args:
        text: what the user says.
        merging: whether patches shall be merged, which takes an ONNX tower; int8 where the text names none.

    Raises:
        RecipeError: an unknown recipe or part, or a projector that can't merge.
    """
    chosen = names_by_part(text, PARTS, PARTS[:1])
    language = look_up(chosen["language"], GGUF_RECIPES)
    name = chosen.get("projector") or ("int8" if merging else language.projector)
    projector: ProjectorRecipe | OnnxRecipe = (
        PROJECTOR_RECIPES[name] if name in PROJECTOR_RECIPES else look_up(name, ONNX_RECIPES, what="projector recipe")
    )
    if merging and projector.format != "onnx":
        raise RecipeError(
            f"llama.cpp's graph of the tower is fixed: {name} can't merge patches; choose from {', '.join(ONNX_RECIPES)}"
        )
    return language, projector
