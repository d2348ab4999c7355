"""Train with the rounding in place that a recipe will do: weights, and for 8 bits activations, rounded on the way forward.

Gradients pass through the rounding as if it were not there (Bengio et al. 2013's straight-through estimator). The grids are
those of `quant.onnx_graph.eight_bit` and `quant.onnx_graph.four_bit`; the trained 4-bit weights are left on their grid, so that the exporter
finds the same levels again and its rounding costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..recipes.onnx import RECIPES
from ..rounding.gptq import LEVELS

FakeKind = Literal["int8", "int4"]
BLOCK = RECIPES["int4"].block


class EightBitColumns(nn.Module):
    """Weights (N, K) on 256 levels between each output's least and greatest, as `eight_bit.quantize_columns` unsigned."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        values = weight.detach()
        low, high = values.amin(1, keepdim=True).clamp_max(0), values.amax(1, keepdim=True).clamp_min(0)
        return _through(weight, _round(values, low, high, 255))


class FourBitBlocks(nn.Module):
    """Weights (N, K) on 16 levels in each block of 32 inputs; an MLP's last block is filled up with zeros, as `pad` does."""

    def __init__(self, block: int = BLOCK) -> None:
        super().__init__()
        self.block = block

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        values = weight.detach()
        rows, columns = values.shape
        padded = nn.functional.pad(values, (0, -columns % self.block)).reshape(rows, -1, self.block)
        low, high = padded.amin(2, keepdim=True).clamp_max(0), padded.amax(2, keepdim=True).clamp_min(0)
        rounded = _round(padded, low, high, LEVELS).reshape(rows, -1)[:, :columns]
        return _through(weight, rounded)


def _round(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, levels: int) -> torch.Tensor:
    """Values on an even grid of levels + 1 steps from `low` to `high`, zero one of them."""
    scale = ((high - low) / levels).clamp_min(1e-12)
    zero = (-low / scale).round()
    return ((values / scale).round() + zero).clamp(0, levels).sub(zero) * scale


def _through(value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    return value + (rounded - value).detach()


def _round_input(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A layer's input on 256 levels between its least and greatest value, as DynamicQuantizeLinear."""
    x = given[0]
    low, high = x.detach().amin().clamp_max(0), x.detach().amax().clamp_min(0)
    return (_through(x, _round(x.detach(), low, high, 255)), *given[1:])


@contextlib.contextmanager
def fake_quantized(tower: nn.Module, kind: FakeKind) -> Iterator[None]:
    """Every linear layer of a tower computes as the recipe `kind` will, until the block ends.

    Then 4-bit weights stay on their grid; 8-bit ones are what the optimiser made them, since the exporter smooths before
    it rounds and finds its own grid.
    """
    wrapped: list[tuple[nn.Module, str]] = []
    hooks = []
    padded = {module.fc2 for module in tower.modules() if hasattr(module, "fc2")}
    for module in tower.modules():
        if isinstance(module, nn.MultiheadAttention):
            wrapped.append((module, "in_proj_weight"))
        elif isinstance(module, nn.Linear):
            # The 4-bit recipe leaves layers alone whose inputs no block divides, but for MLPs, which it pads.
            if kind == "int4" and module.in_features % BLOCK and module not in padded:
                continue
            wrapped.append((module, "weight"))
            if kind == "int8":
                hooks.append(module.register_forward_pre_hook(_round_input))
    for module, name in wrapped:
        parametrize.register_parametrization(module, name, EightBitColumns() if kind == "int8" else FourBitBlocks())
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, name in wrapped:
            parametrize.remove_parametrizations(module, name, leave_parametrized=kind == "int4")
