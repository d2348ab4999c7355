"""A vision tower that merges similar patch tokens on its way: fewer operations, no training.

Token merging after Bolya et al. 2023 ("Token Merging: Your ViT But Faster"), written so that it exports as plain ONNX: in each
block, between attention and feed-forward, the tokens are split into two halves by turns; the R tokens of one half whose keys
are most like a key of the other half are averaged into it. Averages and attention count a token as often as it stands for
patches. Positions were added before, so a token may go anywhere.

Unlike the paper's there is no class token to protect; the pooling head sees the counts, too.

MedGemma's projector averages squares of neighbouring patches. There a token carries, in the place of one count, how many
patches of each square it stands for: what it gives to each average is then known wherever it was merged (`image_tokens.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...runtime.bundles import metrics
from ...runtime.bundles.facts import MERGED
from ...runtime.bundles.gates import Gate
from ...runtime.errors import RecipeError
from .pooling import PoolingAttention
from .siglip import TowerOutput

NEIGHBOURS = 16  # images that one image is compared among
CHOSEN = "how many patches are merged"  # what `largest_merge` chooses, for messages
SCORES = 1 << 24  # attention scores of an image that are held at once: 64 MB


def patches(tower: Any) -> int:
    """Patches that a `SiglipVisionTransformer` cuts an image into."""
    return int(tower.config.image_size // tower.config.patch_size) ** 2


def tokens_after(tokens: int, layers: int, merged: int) -> list[int]:
    """Tokens that leave each block when at most `merged` are merged in each; at least one stays in either half."""
    counts = []
    for _ in range(layers):
        tokens -= min(merged, (tokens + 1) // 2 - 1)
        counts.append(tokens)
    return counts


def patches_of(size: torch.Tensor) -> torch.Tensor:
    """Patches that each token stands for, (B, N, 1), from counts by group, (B, N, groups)."""
    return size if size.shape[-1] == 1 else size.sum(-1, keepdim=True)


def merge(x: torch.Tensor, size: torch.Tensor, metric: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Average `count` tokens into those that they resemble most.

    Args:
        x: (B, N, C).
        size: patches of each group that each token stands for, (B, N, groups); one group where nobody asks which.
        metric: what likeness is judged by, (B, N, D).

    Returns:
        (B, N - count, C) and the sizes, (B, N - count, groups).
    """
    unit = metric / metric.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    likeness = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)  # (B, first half, second half)
    best, partner = likeness.max(dim=-1)
    order = best.topk(best.shape[1], dim=-1).indices
    leaving, staying = order[:, :count], order[:, count:]
    weighted = torch.cat([x * patches_of(size), size], dim=-1)  # sums and counts travel together
    first, second = weighted[:, ::2], weighted[:, 1::2]

    def pick(rows: torch.Tensor) -> torch.Tensor:
        return first.gather(1, rows[:, :, None].expand(-1, -1, first.shape[-1]))

    # One product instead of a scatter: engines run it fast, and it means the same on all of them.
    targets = partner.gather(1, leaving)[:, None, :]  # (B, 1, count)
    places = torch.arange(second.shape[1], device=x.device)[None, :, None]
    joined = second + (places == targets).to(x.dtype) @ pick(leaving)
    total = torch.cat([pick(staying), joined], dim=1)
    sums, size = total[..., : x.shape[-1]], total[..., x.shape[-1] :]
    return sums / patches_of(size), size


class MergingBlock(nn.Module):
    """A `SiglipEncoderLayer`, its modules under their own names, that passes on `merged` tokens fewer than it takes."""

    def __init__(self, layer: Any, tokens: int, merged: int) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = layer.layer_norm1, layer.self_attn
        self.layer_norm2, self.mlp = layer.layer_norm2, layer.mlp
        self.merged = merged
        # MedGemma's 4096 patches have a gigabyte of scores in each block: queries are taken a part at a time.
        self.queries = max(1, SCORES // (self.self_attn.num_heads * tokens))

    def forward(self, x: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attention = self.self_attn
        batch, tokens, width = x.shape
        split = (batch, tokens, attention.num_heads, attention.head_dim)
        y = self.layer_norm1(x)
        query = attention.q_proj(y).reshape(split).transpose(1, 2)
        key = attention.k_proj(y).reshape(split).transpose(1, 2)
        value = attention.v_proj(y).reshape(split).transpose(1, 2)
        bias, keys = patches_of(size).log().transpose(1, 2)[:, None], key.transpose(-1, -2)

        def attend(part: torch.Tensor) -> torch.Tensor:
            return torch.softmax(part @ keys + bias, dim=-1) @ value

        scaled = query * attention.scale
        if tokens > self.queries:
            attended = torch.cat([attend(part) for part in scaled.split(self.queries, dim=2)], dim=2)
        else:
            attended = attend(scaled)  # coremltools knows no split
        x = x + attention.out_proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        if self.merged:
            x, size = merge(x, size, key.mean(1), self.merged)
        return x + self.mlp(self.layer_norm2(x)), size


class MergingEncoder(nn.Module):
    """A `SiglipEncoder` whose blocks merge `merged` tokens each.

    Attributes:
        merged, tokens: how many each block merges at most, and how many are left at the end.

    Raises:
        RecipeError: `merged` is not from 0 to half the tokens.
    """

    def __init__(self, tower: Any, merged: int) -> None:
        super().__init__()
        tokens = patches(tower)
        if not 0 <= merged < tokens // 2:
            raise RecipeError(
                f"{merged} tokens a block can't be merged: this tower has {tokens}, at most {tokens // 2 - 1}"
            )
        counts = [tokens, *tokens_after(tokens, len(tower.encoder.layers), merged)]
        self.merged, self.tokens = merged, counts[-1]
        blocks = zip(tower.encoder.layers, counts, counts[1:], strict=False)
        self.layers = nn.ModuleList(MergingBlock(layer, a, a - b) for layer, a, b in blocks)

    def forward(self, x: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in self.layers:
            x, size = layer(x, size)
        return x, size

    def facts(self) -> dict[str, int]:
        """What a bundle's manifest says of it; nothing where nothing is merged."""
        return {MERGED: self.merged, "tokens_left": self.tokens} if self.merged else {}


class MergingHead(nn.Module):
    """The pooling head, in which a token counts as often as it stands for patches."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        attention = head.attention
        self.attention = (
            attention if isinstance(attention, PoolingAttention) else PoolingAttention(attention, head.probe)
        )
        self.layernorm, self.mlp = head.layernorm, head.mlp

    def forward(self, x: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        pooled, _ = self.attention(x, x, x, patches_of(size).log().transpose(1, 2)[:, None])
        return (pooled + self.mlp(self.layernorm(pooled)))[:, 0]


@dataclass(frozen=True)
class MergedOutput(TowerOutput):
    """What a tower that merges gives: also which patches are in each token, (B, tokens, patches), or only how many."""

    sources: torch.Tensor


class MergingTower(nn.Module):
    """A `SiglipVisionTransformer` that merges `merged` tokens in each block; it shares the tower's weights.

    Args:
        tower: the tower.
        merged: tokens.
        follow: whether each token carries which patches are in it, not only how many.

    Raises:
        RecipeError: as `MergingEncoder`.
    """

    cells: torch.Tensor

    def __init__(self, tower: Any, merged: int, *, follow: bool = False) -> None:
        super().__init__()
        self.config = tower.config
        self.embeddings, self.encoder = tower.embeddings, MergingEncoder(tower, merged)
        self.post_layernorm, self.head = tower.post_layernorm, MergingHead(tower.head)
        self.tokens = self.encoder.tokens
        if follow:
            self.register_buffer("cells", torch.eye(patches(tower))[None])
        self.follow = follow
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> MergedOutput:
        x = self.embeddings(pixel_values)
        first = self.cells.expand(x.shape[0], -1, -1) if self.follow else torch.ones_like(x[:, :, :1])
        x, size = self.encoder(x, first)
        x = self.post_layernorm(x)
        return MergedOutput(x, self.head(x, size), size)


def largest_merge(
    embed: Callable[[int], Iterable[NDArray[np.float32]]],
    tower: Any,
    gates: Sequence[Gate],
    *,
    neighbours: int = NEIGHBOURS,
) -> int:
    """The most tokens that a block may merge so that the embeddings of these inputs stay within the gates.

    Args:
        embed: tokens merged in each block, to what the tower then makes of calibration inputs, batches of (B, D), of length one
            where neighbours are asked for: of the kinds of images that the bundle is for, a few dozen at least. No more batches
            are taken once it is sure that a gate is missed.
        tower: the `SiglipVisionTransformer`.
        gates: of the mean and least centred cosine.
        neighbours: how many of the embeddings most like it one is centred on; 0 for the mean of all.
    """
    tokens, layers = patches(tower), len(tower.encoder.layers)
    exact = np.concatenate(list(embed(0)))
    mean = exact.astype(np.float64).mean(axis=0)

    # The mean is judged strictly. Half of what its gate allows is left for what quantization costs on top. And users measure
    # on images of one kind, whose embeddings lie close together, so that an error weighs more among them than among all
    # sorts: each image is centred on the mean of those that are most like it.
    if neighbours:
        alike = np.argsort(-(exact @ exact.T), axis=1)[:, : min(neighbours, len(exact))]
        centres = exact[alike].mean(axis=1)
    else:
        centres = np.broadcast_to(exact.mean(axis=0), exact.shape)

    def fits(merged: int) -> bool:
        among, centred = np.ones(len(exact)), np.ones(len(exact))  # the best that can come of what was not computed yet
        first = 0
        for found in embed(merged):
            rows = slice(first, first := first + len(found))
            among[rows] = metrics.cosine(exact[rows] - centres[rows], found - centres[rows])
            centred[rows] = metrics.cosine(exact[rows] - mean, found - mean)
            figures = {"mean": 2 * among.mean() - 1, "min": centred.min(), "p01": np.quantile(centred, 0.01)}
            if not all(gate.passes(float(figures[gate.figure.rpartition(".")[2]])) for gate in gates):
                return False
        return True

    low, high = 0, min(-(-tokens // layers), tokens // 2 - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
