"""The ways to make a language model and its projector smaller, as data.

The projector, with its vision tower, is a GGUF by a recipe of this module, or an ONNX file by one of `recipe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import RecipeError
from .onnx import RECIPES, Recipe


@dataclass(frozen=True)
class GGUFRecipe:
    """One way to store a language model.

    Attributes:
        name: what the user says.
        file_type: llama.cpp's name of it (llama_ftype, as gguf-py's `LlamaFileType` spells it).
        projector: the projector's recipe that goes with it where the user names none.
        importance: whether an importance matrix makes it better.
        summary: for tables and help.
        keep, keep_late: matrices that stay in 16 bits, by the part of their names after "blk.N."; the latter only in the
            last third of the layers.
    """

    name: str
    file_type: str
    projector: str
    importance: bool
    summary: str
    keep: tuple[str, ...] = ()
    keep_late: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectorRecipe:
    """One way to store the vision tower's layers; `block` is a block format's name, or "" for `precision` itself."""

    name: str
    precision: str
    block: str
    summary: str


GGUF_RECIPES: dict[str, GGUFRecipe] = {
    recipe.name: recipe
    for recipe in (
        GGUFRecipe("f16", "MOSTLY_F16", "f16", False, "16-bit"),
        GGUFRecipe("bf16", "MOSTLY_BF16", "bf16", False, "as published, 16-bit with 8 bits of mantissa"),
        # What its distance comes from is rounded activations as much as weights. Keys, values and the late layers' last
        # matrices in 16 bits take a fifth off it for a twentieth of the stand-in's file.
        GGUFRecipe(
            "q8_0",
            "MOSTLY_Q8_0",
            "q8_0",
            False,
            "8.5 bits: blocks of 32, what matters most in 16",
            ("attn_k", "attn_v"),
            ("ffn_down",),
        ),
        GGUFRecipe("q6_k", "MOSTLY_Q6_K", "q8_0", True, "6.6 bits: K-quant"),
        GGUFRecipe("q5_k_m", "MOSTLY_Q5_K_M", "q8_0", True, "5.7 bits: K-quant, some layers finer"),
        GGUFRecipe("q4_k_m", "MOSTLY_Q4_K_M", "q8_0", True, "4.8 bits: K-quant, some layers finer"),
        GGUFRecipe("iq4_xs", "MOSTLY_IQ4_XS", "q8_0", True, "4.3 bits: non-uniform levels"),
        GGUFRecipe("q4_0", "MOSTLY_Q4_0", "q8_0", True, "4.5 bits: blocks of 32, what ARM repacks for dotprod"),
        GGUFRecipe("q3_k_m", "MOSTLY_Q3_K_M", "q8_0", True, "3.9 bits: K-quant, some layers finer"),
    )
}
PROJECTOR_RECIPES: dict[str, ProjectorRecipe] = {
    recipe.name: recipe
    for recipe in (
        ProjectorRecipe("f32", "f32", "", "32-bit"),
        ProjectorRecipe("f16", "f16", "", "16-bit, what others ship"),
        ProjectorRecipe("bf16", "bf16", "", "16-bit with 8 bits of mantissa"),
        ProjectorRecipe("q8_0", "f16", "Q8_0", "8.5 bits, MLP padded 4304 to 4352"),
        ProjectorRecipe("q5_1", "f16", "Q5_1", "6 bits, MLP padded"),
        ProjectorRecipe("q4_1", "f16", "Q4_1", "5 bits, MLP padded"),
    )
}


def parse_gguf_recipes(text: str, *, merging: bool = False) -> tuple[GGUFRecipe, ProjectorRecipe | Recipe]:
    """ "q4_k_m", or "language=q4_k_m,projector=f16", to the recipes of both parts.

    Args:
        text: what the user says.
        merging: whether patches shall be merged, which takes an ONNX tower; int8 where the text names none.

    Raises:
        RecipeError: an unknown recipe or part, or a projector that can't merge.
    """
    chosen = {"projector": ""}
    for part in text.split(","):
        which, equals, name = part.strip().rpartition("=")
        chosen[which if equals else "language"] = name
    if unknown := sorted(set(chosen) - {"language", "projector"}):
        raise RecipeError(f"there is no part {unknown[0]!r} in {text!r}; say language=RECIPE,projector=RECIPE")
    if (language := chosen.get("language", "")) not in GGUF_RECIPES:
        raise RecipeError(f"there is no recipe {language!r}; choose from {', '.join(GGUF_RECIPES)}")
    projector = chosen["projector"] or ("int8" if merging else GGUF_RECIPES[language].projector)
    found = PROJECTOR_RECIPES.get(projector) or RECIPES.get(projector)
    if found is None:
        names = ", ".join([*PROJECTOR_RECIPES, *RECIPES])
        raise RecipeError(f"there is no projector recipe {projector!r}; choose from {names}")
    if merging and not isinstance(found, Recipe):
        raise RecipeError(
            f"llama.cpp's graph of the tower is fixed: {projector} can't merge patches; choose from {', '.join(RECIPES)}"
        )
    return GGUF_RECIPES[language], found
