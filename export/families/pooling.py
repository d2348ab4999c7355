"""Reversible changes to a model's modules before export: same function, a graph that a device runs better."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class PoolingAttention(nn.Module):
    """SigLIP's pooling attention with what never changes computed beforehand.

    The query is learned (`probe` in the checkpoint), the same for every image, so its projection is a constant. The key and value
    projections become two ordinary linear layers, which every recipe can make smaller; as `nn.MultiheadAttention` they
    are slices of one weight that the quantizers would have to leave in fp32 (16 MB at full size).
    """

    query: torch.Tensor

    def __init__(self, attention: nn.MultiheadAttention, query: torch.Tensor) -> None:
        super().__init__()
        width, self.heads = attention.embed_dim, attention.num_heads
        weights, biases = attention.in_proj_weight.detach().chunk(3), attention.in_proj_bias.detach().chunk(3)
        query = nn.functional.linear(query.detach().reshape(1, width), weights[0], biases[0])
        scaled = query * (width // self.heads) ** -0.5
        self.register_buffer("query", scaled.reshape(1, self.heads, 1, width // self.heads))
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        for layer, weight, bias in zip((self.k_proj, self.v_proj), weights[1:], biases[1:], strict=True):
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.out_proj = attention.out_proj

    def forward(
        self, _query: torch.Tensor, hidden: torch.Tensor, _hidden: torch.Tensor, bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, None]:
        """`hidden` (B, tokens, C) to (B, 1, C); the signature is that of the module it stands for.

        `bias`, (B, 1, 1, tokens), is added to the scores.
        """
        batch, tokens, width = hidden.shape
        split = (batch, tokens, self.heads, width // self.heads)
        key = self.k_proj(hidden).reshape(split).permute(0, 2, 3, 1)
        value = self.v_proj(hidden).reshape(split).transpose(1, 2)
        scores = self.query @ key
        pooled = torch.softmax(scores if bias is None else scores + bias, dim=-1) @ value
        return self.out_proj(pooled.transpose(1, 2).reshape(batch, 1, width)), None


@contextlib.contextmanager
def pooling_attention(tower: Any) -> Iterator[None]:
    """Within the block, a vision tower pools through `PoolingAttention`; towers without a pooling head stay as they are."""
    head = getattr(tower, "head", None)
    if head is None or not isinstance(getattr(head, "attention", None), nn.MultiheadAttention):
        yield
        return
    original = head.attention
    head.attention = PoolingAttention(original, head.probe)
    try:
        yield
    finally:
        head.attention = original
