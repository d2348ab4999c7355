"""Apply a recipe to a tower: the one entrance to this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.device.cpu import Target
from ..recipes.onnx import Kind, Recipe
from .calibrate import channel_ranges, second_moments
from .eight_bit import tables_to_8_bit, to_dynamic, to_static
from .four_bit import to_four_bit
from .graph import Graph
from .half import to_half
from .pad import pad_hidden
from .smooth import norm_outputs, smooth

Inputs = Sequence[NDArray[Any]]  # calibration batches, each what the tower takes
Made = tuple[Graph, dict[str, Any]]  # the smaller graph, and the decisions taken


def quantize(graph: Graph, recipe: Recipe, target: Target, inputs: Inputs) -> Made:
    """Make a tower smaller; `graph` stays as it is.

    Args:
        graph: a full-precision tower in the exporter's normal form.
        recipe: what to make of it.
        target: the CPU whose kernels decide the 8-bit format.
        inputs: calibration inputs.

    Returns:
        the new graph, and what was decided for it, for the manifest.
    """
    return _MAKERS[recipe.kind](graph, recipe, target, inputs)


def _none(graph: Graph, _recipe: Recipe, _target: Target, _inputs: Inputs) -> Made:
    return graph.copy(), {}


def _half(graph: Graph, _recipe: Recipe, _target: Target, inputs: Inputs) -> Made:
    return to_half(graph, inputs)


def _dynamic8(graph: Graph, recipe: Recipe, target: Target, inputs: Inputs) -> Made:
    small = graph.copy()
    smoothed = smooth(small, channel_ranges(small, inputs, norm_outputs(small)), recipe.smooth)
    to_dynamic(small, signed=target.signed_weights)
    tables_to_8_bit(small)
    return small, {"weights": _format(target), "smoothed_norms": smoothed}


def _static8(graph: Graph, recipe: Recipe, target: Target, inputs: Inputs) -> Made:
    small = graph.copy()
    smoothed = smooth(small, channel_ranges(small, inputs, norm_outputs(small)), recipe.smooth)
    ranges = channel_ranges(small, inputs, (linear.source for linear in small.linears()))
    to_static(small, ranges, signed=target.signed_weights)
    tables_to_8_bit(small)
    return small, {"weights": _format(target), "smoothed_norms": smoothed}


def _block4(graph: Graph, recipe: Recipe, _target: Target, inputs: Inputs) -> Made:
    small = graph.copy()
    padded = pad_hidden(small)
    hessians = second_moments(small, inputs, (linear.source for linear in small.linears()))
    left = to_four_bit(small, hessians, recipe.block)
    tables_to_8_bit(small)
    return small, {
        "block": recipe.block,
        "padded_mlps": len(padded),
        "left_in_fp32": left,
        "calibration_inputs": _count(inputs),
    }


def _format(target: Target) -> str:
    return "s8" if target.signed_weights else "u8"


def _count(inputs: Inputs) -> int:
    return int(np.sum([len(batch) for batch in inputs]))


_MAKERS: dict[Kind, Callable[[Graph, Recipe, Target, Inputs], Made]] = {
    "none": _none, "half": _half, "dynamic8": _dynamic8, "static8": _static8, "block4": _block4,
}  # fmt: skip
