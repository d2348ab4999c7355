"""Factors that a rounded model learns: one for each block of its matrices, one for each channel of its norms.

Rounding is over then, and codes stay. What is trained can be put into the file as it is, since a block's values are its scale
times codes, and norms are not rounded (`quant.gguf_file.scales`). All begin at one.
"""

from __future__ import annotations

import torch
from torch import nn


class BlockFactors(nn.Module):
    """A parametrization of a matrix (N, K): each run of `block` inputs of an output is multiplied by its own factor.

    Attributes:
        change: (N, K / block), the factors minus one.
    """

    def __init__(self, rows: int, columns: int, block: int) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(rows, columns // block))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        blocks = weight.reshape(*self.change.shape, -1)
        return (blocks * (1 + self.change)[..., None]).reshape(weight.shape)


class NormFactors(nn.Module):
    """A parametrization of an RMSNorm's weight (K,), which multiplies by one more than it: that sum gets a factor by channel.

    Attributes:
        change: (K,), the factors minus one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(channels))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return (1 + weight) * (1 + self.change) - 1
