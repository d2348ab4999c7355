"""Apply a recipe to a tower: the one entrance to this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from ..recipes.litert import LiteRTKind, LiteRTRecipe
from .calibrate import second_moments
from .eight_bit import linears_to_8_bit, tables_to_8_bit
from .four_bit import linears_to_4_bit
from .graph import Graph
from .half import to_half
from .pad import pad_hidden

Inputs = Sequence[NDArray[Any]]  # calibration batches, each what the tower takes


def quantize(graph: Graph, recipe: LiteRTRecipe, inputs: Inputs) -> tuple[Graph, dict[str, Any]]:
    """Make a tower smaller; `graph` stays as it is.

    Args:
        graph: a full-precision tower.
        recipe: what to make of it.
        inputs: calibration inputs.

    Returns:
        the new graph, and what was decided for it, for the manifest.
    """
    small = graph.copy()
    return small, _MAKERS[recipe.kind](small, recipe, inputs)


def _none(_graph: Graph, _recipe: LiteRTRecipe, _inputs: Inputs) -> dict[str, Any]:
    return {}


def _half(graph: Graph, _recipe: LiteRTRecipe, _inputs: Inputs) -> dict[str, Any]:
    return to_half(graph)


def _dynamic8(graph: Graph, _recipe: LiteRTRecipe, _inputs: Inputs) -> dict[str, Any]:
    layers = linears_to_8_bit(graph)
    tables_to_8_bit(graph)
    return {"layers_in_8_bits": layers}


def _block4(graph: Graph, recipe: LiteRTRecipe, inputs: Inputs) -> dict[str, Any]:
    padded = pad_hidden(graph, recipe.block)
    hessians = second_moments(graph, inputs, (linear.source for linear in graph.linears()))
    left = linears_to_4_bit(graph, hessians, recipe.block)
    tables_to_8_bit(graph)
    count = sum(len(batch) for batch in inputs)
    return {"block": recipe.block, "padded_mlps": padded, "left_in_fp32": left, "calibration_inputs": count}


_MAKERS: dict[LiteRTKind, Callable[[Graph, LiteRTRecipe, Inputs], dict[str, Any]]] = {
    "none": _none, "half": _half, "dynamic8": _dynamic8, "block4": _block4,
}  # fmt: skip
