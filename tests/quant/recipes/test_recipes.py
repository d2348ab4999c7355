"""The tables of recipes, and how words name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
import gguf

from medge.quant.recipes.coreml import COREML_RECIPES
from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES, parse_gguf_recipes
from medge.quant.recipes.litert import LITERT_RECIPES, parse_litert_recipes
from medge.quant.recipes.onnx import ONNX_RECIPES, parse_onnx_recipes
from medge.quant.recipes.recipe import Recipe, part_gates
from medge.runtime.bundles.figures import EncoderFigures, GeneratorFigures, check_figure
from medge.runtime.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "said"),
    [("int3", "no recipe 'int3'"), ("vision=int8", "no recipe for the part 'text'"), ("a=int8", "no part 'a'")],
)
def test_recipe_names(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_onnx_recipes(text)


def test_each_tower_can_have_its_own_recipe(make_bundle: Callable[[str], Path]) -> None:
    from medge.runtime.bundles.manifest import Manifest

    towers = Manifest.read(make_bundle("vision=int8,text=fp16")).towers
    assert (towers["vision"].recipe, towers["text"].recipe) == ("int8", "fp16")
    assert parse_onnx_recipes("vision=int8,text=int4")["text"] is ONNX_RECIPES["int4"]


def test_litert_recipes_by_tower() -> None:
    chosen = parse_litert_recipes("vision=int8,text=fp16")
    assert {tower: recipe.name for tower, recipe in chosen.items()} == {"vision": "int8", "text": "fp16"}
    with pytest.raises(RecipeError, match="no LiteRT recipe 'int8-static'; choose from fp32, fp16, int8, int4"):
        parse_litert_recipes("int8-static")


def test_every_recipe_has_its_gates() -> None:
    tables: list[Mapping[str, Recipe]] = [ONNX_RECIPES, COREML_RECIPES, LITERT_RECIPES, GGUF_RECIPES, PROJECTOR_RECIPES]
    for recipe in (recipe for table in tables for recipe in table.values()):
        for part in recipe.parts:
            gates = part_gates(part, recipe)
            assert gates, (recipe.name, part)
            for gate in gates:
                check_figure(GeneratorFigures if part in ("language", "projector") else EncoderFigures, gate.figure)
            if part == "language":
                after = [gate.figure.removeprefix("image.") for gate in recipe.promise.images]
                assert {"same_top", "kld.mean", "kld.p99"} == set(after), recipe.name
                assert {f"text.{figure}" for figure in after} <= {gate.figure for gate in gates}, recipe.name
            else:  # the worst inputs, not only the mean
                assert any(gate.figure.endswith((".min", ".p01", ".max_error")) for gate in gates), (recipe.name, part)
    assert not set(PROJECTOR_RECIPES) & set(ONNX_RECIPES)
    for recipe in GGUF_RECIPES.values():
        assert recipe.projector in PROJECTOR_RECIPES
        assert recipe.file_type in gguf.LlamaFileType.__members__
        relative = any(gate.figure.endswith("ratio_to_plain") for gate in recipe.promise.part)
        assert not relative or recipe.importance


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q4_k_m", ("q4_k_m", "q8_0")),
        ("f16", ("f16", "f16")),
        ("language=q8_0,projector=f32", ("q8_0", "f32")),
        ("language=q8_0,projector=fast", ("q8_0", "fast")),
    ],
)
def test_recipes_are_parsed(text: str, expected: tuple[str, str]) -> None:
    assert tuple(recipe.name for recipe in parse_gguf_recipes(text)) == expected


def test_merging_takes_a_tower_in_onnx() -> None:
    assert [recipe.name for recipe in parse_gguf_recipes("q4_k_m", merging=True)] == ["q4_k_m", "int8"]
    with pytest.raises(RecipeError, match="q8_0 can't merge patches; choose from fp32"):
        parse_gguf_recipes("language=q4_k_m,projector=q8_0", merging=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("q9", "no recipe 'q9'"), ("projector=f16", "no recipe for the part 'language'"), ("vision=q8_0", "no part 'vision'"),
     ("language=q8_0,projector=q4_k_m", "no projector recipe 'q4_k_m'"), ("", "no recipe ''")],
)  # fmt: skip
def test_wrong_recipes_are_named(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_gguf_recipes(text)
