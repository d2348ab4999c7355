"""SigLIP's towers written the way Apple's Neural Engine likes them: the same function, other shapes.

After Apple's "Deploying Transformers on the Apple Neural Engine" (2022): activations are (B, C, 1, S), so that the last axis
is long and contiguous; linear layers are 1x1 convolutions; attention runs head by head, as two products for which the
engine needs no copy. What is constant is computed here, exactly:

- a norm's gain and offset go into the layers that read it, attention's 1/sqrt(d) into the query;
- the pooling head's query is the same for every image, so query and key projection become one small matrix: a token's score is
  its product with (W_k^T q). The key's bias adds the same to every score, which softmax does not see;
- for an image input, the rest of the normalisation goes into the patch convolution, which has no padding: CoreML brings
  bytes to x / 128 - 1, exact in 16 bits, and (x / 255 - 0.5) / 0.5 is (x / 128 - 1) * 256 / 255 + 1 / 255.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

IMAGE_SCALE, IMAGE_BIAS = 1 / 128, -1.0


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, 1, S), without gain and offset; becomes one `layer_norm` over axis 1."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.epsilon)


def padded(layer: nn.Linear, *, rows: int = 0, columns: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a linear layer with zeros appended, so that blocks divide it; exact, since gelu(0) = 0."""
    weight = nn.functional.pad(layer.weight.detach(), (0, columns, 0, rows))
    return weight, nn.functional.pad(layer.bias.detach(), (0, rows))


def pointwise(weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.LayerNorm | None = None) -> nn.Conv2d:
    """A linear layer, (out, in), as a 1x1 convolution; `norm` is the one whose output it reads."""
    weight = weight.detach().double()
    offset = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().double()
    if norm is not None:
        offset = offset + weight @ norm.bias.detach().double()
        weight = weight * norm.weight.detach().double()
    layer = nn.Conv2d(weight.shape[1], len(weight), 1)
    layer.weight = nn.Parameter(weight.float()[:, :, None, None])
    layer.bias = nn.Parameter(offset.float())
    return layer


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention on (B, C, 1, S), head by head; the query is scaled already."""
    size = query.shape[1] // heads
    found = []
    parts = zip(query.split(size, 1), key.transpose(1, 3).split(size, 3), value.split(size, 1), strict=True)
    for one_query, one_key, one_value in parts:
        weights = torch.softmax(torch.einsum("bchq,bkhc->bkhq", one_query, one_key), dim=1)
        found.append(torch.einsum("bkhq,bchk->bchq", weights, one_value))
    return torch.cat(found, 1)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU by tanh, written out: coremltools recognises this form and makes one `gelu` of it.

    From `torch.nn.functional.gelu(x, approximate="tanh")` coremltools 9.0's torch.export path makes the exact GELU, without
    a word (tests/export/to_coreml/test_coreml.py says when that is mended).
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class FeedForward(nn.Module):
    def __init__(self, mlp: Any, norm: nn.LayerNorm, block: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(norm.eps)
        extra = -mlp.fc1.out_features % block
        self.fc1 = pointwise(*padded(mlp.fc1, rows=extra), norm)
        self.fc2 = pointwise(*padded(mlp.fc2, columns=extra))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    def __init__(self, layer: Any, block: int) -> None:
        super().__init__()
        attention, norm = layer.self_attn, layer.layer_norm1
        self.heads = attention.num_heads
        self.norm = ChannelNorm(norm.eps)
        scale = attention.head_dim**-0.5
        self.q_proj = pointwise(attention.q_proj.weight * scale, attention.q_proj.bias * scale, norm)
        self.k_proj = pointwise(attention.k_proj.weight, attention.k_proj.bias, norm)
        self.v_proj = pointwise(attention.v_proj.weight, attention.v_proj.bias, norm)
        self.out_proj = pointwise(attention.out_proj.weight, attention.out_proj.bias)
        self.mlp = FeedForward(layer.mlp, layer.layer_norm2, block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        attended = attend(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.heads)
        return self.mlp(x + self.out_proj(attended))


class PoolingHead(nn.Module):
    """Attention of the learned query over all tokens, and a feed-forward layer."""

    def __init__(self, head: Any, norm: nn.LayerNorm, block: int) -> None:
        super().__init__()
        attention = head.attention
        width, self.heads = attention.embed_dim, attention.num_heads
        size = width // self.heads
        w_q, w_k, w_v = attention.in_proj_weight.detach().double().chunk(3)
        b_q, _, b_v = attention.in_proj_bias.detach().double().chunk(3)
        query = ((w_q @ head.probe.detach().double().reshape(width) + b_q) * size**-0.5).reshape(self.heads, size)
        scores = torch.einsum("hd,hdc->hc", query, w_k.reshape(self.heads, size, width))
        self.norm = ChannelNorm(norm.eps)
        self.scores = pointwise(scores, None, norm)
        self.v_proj = pointwise(w_v, b_v, norm)
        self.out_proj = pointwise(attention.out_proj.weight, attention.out_proj.bias)
        self.mlp = FeedForward(head.mlp, head.layernorm, block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        weights = torch.softmax(self.scores(y).transpose(1, 3), dim=1)  # (B, S, 1, heads)
        value = self.v_proj(y)
        pairs = zip(weights.split(1, 3), value.split(value.shape[1] // self.heads, 1), strict=True)
        pooled = torch.cat([torch.einsum("bkhq,bchk->bchq", weight, part) for weight, part in pairs], 1)
        return self.mlp(self.out_proj(pooled))


class VisionTower(nn.Module):
    """`SiglipVisionModel` as the Neural Engine likes it: pixels, (B, 3, H, W), to the pooled embedding, (B, C).

    Args:
        tower: the `SiglipVisionTransformer`, with its pooling head.
        from_image: pixels come as bytes / 128 - 1, as `IMAGE_SCALE` and `IMAGE_BIAS` make them, instead of normalised.
        block: input channels that share a scale; the hidden width of the feed-forward layers is padded to a multiple.
    """

    def __init__(self, tower: Any, *, from_image: bool, block: int = 1) -> None:
        super().__init__()
        patch = tower.embeddings.patch_embedding
        self.patch = nn.Conv2d(3, patch.out_channels, patch.kernel_size, patch.stride)
        weight, bias = patch.weight.detach().double(), patch.bias.detach().double()
        if from_image:
            bias = bias + weight.sum((1, 2, 3)) / 255
            weight = weight * (256 / 255)
        self.patch.weight, self.patch.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        positions = tower.embeddings.position_embedding.weight.detach().T
        self.register_buffer("positions", positions[None, :, None, :].contiguous())
        self.blocks = nn.ModuleList(Block(layer, block) for layer in tower.encoder.layers)
        self.head = PoolingHead(tower.head, tower.post_layernorm, block)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.patch(pixels).flatten(2).unsqueeze(2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x).flatten(1)


class TextTower(nn.Module):
    """`SiglipTextModel` likewise: token ids, (B, length) int32, to the pooled embedding, (B, C)."""

    def __init__(self, tower: Any, *, block: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(tower.embeddings.token_embedding.weight.detach())
        positions = tower.embeddings.position_embedding.weight.detach().T
        self.register_buffer("positions", positions[None, :, None, :].contiguous())
        self.blocks = nn.ModuleList(Block(layer, block) for layer in tower.encoder.layers)
        self.norm = ChannelNorm(tower.final_layer_norm.eps)
        self.head = pointwise(tower.head.weight, tower.head.bias, tower.final_layer_norm)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids).transpose(1, 2).unsqueeze(2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, :, :, -1:])).flatten(1)
