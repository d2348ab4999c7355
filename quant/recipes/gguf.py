"""The ways to make a language model and its projector smaller.

The projector, with its vision tower, is a GGUF by a recipe of this module, or an ONNX file by one of `onnx.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...runtime.bundles.gates import Gate
from ...runtime.bundles.manifest import GoldenBound
from ...runtime.errors import RecipeError
from .onnx import ONNX_RECIPES, OnnxRecipe
from .recipe import EIGHT_BIT, FOUR_BIT, LEAST, MEAN, Promise, Recipe, by_name, look_up, names_by_part

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
        keep, keep_late: matrices that stay in 16 bits, by the part of their names after "blk.N."; the latter only in the
            last third of the layers.
    """

    format: str = "gguf"
    parts: tuple[str, ...] = ("language",)
    file_type: str
    projector: str = "q8_0"
    importance: bool = True
    keep: tuple[str, ...] = ()
    keep_late: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProjectorRecipe(Recipe):
    """One way to store the vision tower's layers; `block` is a block format's name, or "" for `precision` itself."""

    format: str = "gguf"
    parts: tuple[str, ...] = ("projector",)
    precision: str
    block: str = ""


def _kld(bound: float) -> Promise:
    return Promise((Gate("kld.mean", "<=", bound),), GOLDEN)


def _to_plain(bound: float) -> Promise:
    """Where a type is coarse, how far it may be depends on the model: it is held against what llama.cpp's own quantizer makes
    without a matrix, on the same held-back text."""
    return Promise((Gate("kld.ratio_to_plain", "<=", bound),), GOLDEN)


GGUF_RECIPES: dict[str, GGUFRecipe] = by_name((
    GGUFRecipe(
        name="f16", file_type="MOSTLY_F16", projector="f16", importance=False, summary="16-bit", promise=_kld(1e-4)
    ),
    GGUFRecipe(
        name="bf16", file_type="MOSTLY_BF16", projector="bf16", importance=False, promise=_kld(1e-3),
        summary="as published, 16-bit with 8 bits of mantissa",
    ),
    # What its distance comes from is rounded activations as much as weights. Keys, values and the late layers' last
    # matrices in 16 bits take a fifth off it for a twentieth of the stand-in's file.
    GGUFRecipe(
        name="q8_0", file_type="MOSTLY_Q8_0", importance=False, keep=("attn_k", "attn_v"), keep_late=("ffn_down",),
        summary="8.5 bits: blocks of 32, what matters most in 16", promise=_kld(0.004),
    ),
    GGUFRecipe(name="q6_k", file_type="MOSTLY_Q6_K", summary="6.6 bits: K-quant", promise=_kld(0.02)),
    GGUFRecipe(
        name="q5_k_m", file_type="MOSTLY_Q5_K_M", summary="5.7 bits: K-quant, some layers finer", promise=_to_plain(1.0)
    ),
    GGUFRecipe(
        name="q4_k_m", file_type="MOSTLY_Q4_K_M", summary="4.8 bits: K-quant, some layers finer", promise=_to_plain(0.85)
    ),
    GGUFRecipe(
        name="iq4_xs", file_type="MOSTLY_IQ4_XS", summary="4.3 bits: non-uniform levels", promise=_to_plain(0.85)
    ),
    GGUFRecipe(
        name="q4_0", file_type="MOSTLY_Q4_0", promise=_to_plain(1.0),
        summary="4.5 bits: blocks of 32, what ARM repacks for dotprod",
    ),
    GGUFRecipe(
        name="q3_k_m", file_type="MOSTLY_Q3_K_M", summary="3.9 bits: K-quant, some layers finer", promise=_to_plain(1.0)
    ),
))  # fmt: skip


def _projector(name: str, precision: str, block: str, summary: str, *gates: Gate) -> ProjectorRecipe:
    return ProjectorRecipe(name=name, precision=precision, block=block, summary=summary, promise=Promise(gates, GOLDEN))


PROJECTOR_RECIPES: dict[str, ProjectorRecipe] = by_name((
    _projector("f32", "f32", "", "32-bit", Gate(LEAST, ">=", 0.9999)),
    _projector("f16", "f16", "", "16-bit, what others ship", Gate(LEAST, ">=", 0.9999)),
    _projector("bf16", "bf16", "", "16-bit with 8 bits of mantissa", Gate(LEAST, ">=", 0.999)),
    _projector("q8_0", "f16", "Q8_0", "8.5 bits, MLP padded 4304 to 4352", *EIGHT_BIT.part),
    _projector("q5_1", "f16", "Q5_1", "6 bits, MLP padded", *FOUR_BIT.part),
    _projector("q4_1", "f16", "Q4_1", "5 bits, MLP padded", Gate(MEAN, ">=", 0.97)),
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
