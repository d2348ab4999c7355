"""What each patch gives to an image's embedding: an exact sum, from SigLIP's pooling head.

The head pools patch tokens x_p with one learned query, then adds a residual MLP:

    z = b_o + sum_p c_p,    c_p = W_o concat_h(a_hp (W_v x_p + b_v)_h),    sum_p a_hp = 1 for each attention head h
    e = z + W_2 gelu(u) + b_2,    u = W_1 LayerNorm(z) + b_1

z is a sum over patches as it stands. The rest of the head is not linear, but it only scales what passes through it: LayerNorm
divides by one number, the standard deviation s(z), and gelu(u) = gate(u) * u multiplies each hidden unit by a number between 0
and 1 (a little more for gelu's dip). With these numbers as they are for this image, not for some other input, the head is a sum
of what it makes of each part of z:

    r_p = c_p + W_2 (gate(u) * W_1 (gamma * (c_p - mean(c_p)) / s(z)))
    e   = r_rest + sum_p r_p

where r_rest is the same of b_o, with the biases beta, b_1 and b_2. Nothing is approximated, and no gradient is taken: the r_p and
r_rest add up to the embedding, so divided by |e| and multiplied by a text's unit-length embedding they add up to the cosine that
classifies. For a difference between two texts they add up to the difference of the cosines.

What it does not say: what the cosine would be without the patch. Then s(z) and the gates would be others; and before the head
each token has already looked at all others, so that it speaks of more than its own patch.

Where similar patches were merged, a token's part belongs in equal shares to all patches that it is the average of. The sum stays.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...runtime.errors import RecipeError
from .pooling import PoolingAttention
from .token_merging import patches_of

ACTIVATION = "gelu_pytorch_tanh"  # u * (1 + tanh(k)) / 2, which is u * sigmoid(2 k)


class PatchContributions(nn.Module):
    """From a vision tower's tokens to what each patch gives to the embedding; it shares the head's weights.

    Args:
        tower: a `SiglipVisionTransformer`, or one that merges.

    Raises:
        RecipeError: the head has another activation than SigLIP's.
    """

    query: torch.Tensor

    def __init__(self, tower: Any) -> None:
        super().__init__()
        head = tower.head
        if tower.config.hidden_act != ACTIVATION:
            raise RecipeError(
                f"maps: this checkpoint's activation is {tower.config.hidden_act!r}, and only {ACTIVATION} is taken apart; "
                "export it without --maps"
            )
        attention = head.attention
        if not isinstance(attention, PoolingAttention):
            attention = PoolingAttention(attention, head.probe)
        width = attention.out_proj.weight.shape[0]
        self.heads = attention.heads
        # One query meets all keys, so it and their projection are one matrix, (C, heads). A key's bias adds the same number to
        # every score of a head, which softmax does not see.
        keys = attention.k_proj.weight.detach().reshape(self.heads, width // self.heads, width)
        self.register_buffer("query", (attention.query.reshape(self.heads, 1, -1) @ keys)[:, 0].T.contiguous())
        self.v_proj, self.out_proj, self.layernorm, self.mlp = (
            attention.v_proj, attention.out_proj, head.layernorm, head.mlp
        )  # fmt: skip
        self.eval()

    def forward(self, hidden: torch.Tensor, sources: torch.Tensor | None = None) -> torch.Tensor:
        """Take an image's embedding apart.

        Args:
            hidden: tokens behind the last LayerNorm, (B, N, C).
            sources: of a tower that merges, how much of each patch is in each token, (B, N, patches), ones and zeros.

        Returns:
            (B, patches + 1, C): a row for each patch, and last what stands in none. Their sum is the embedding at unit length.
        """
        batch, tokens, width = hidden.shape
        norm, fc1, fc2 = self.layernorm, self.mlp.fc1, self.mlp.fc2
        scores = hidden @ self.query
        if sources is not None:
            scores = scores + patches_of(sources).log()
        values = self.v_proj(hidden).reshape(batch, tokens, self.heads, width // self.heads)
        weighted = (torch.softmax(scores, dim=1)[..., None] * values).reshape(batch, tokens, width)
        parts, rest = F.linear(weighted, self.out_proj.weight), self.out_proj.bias.reshape(1, 1, width)

        centred_parts, centred_rest = (x - x.mean(-1, keepdim=True) for x in (parts, rest))
        pooled = centred_parts.sum(1, keepdim=True) + centred_rest
        scale = norm.weight / (pooled.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        constant = F.linear(norm.bias, fc1.weight, fc1.bias)
        units = F.linear(centred_parts * scale, fc1.weight)
        units_of_rest = F.linear(centred_rest * scale, fc1.weight) + constant
        summed = units.sum(1, keepdim=True) + units_of_rest
        gates = torch.sigmoid(math.sqrt(8 / math.pi) * (summed + 0.044715 * summed * summed * summed))
        patches = parts + F.linear(gates * units, fc2.weight)
        rest = rest + F.linear(gates * units_of_rest, fc2.weight, fc2.bias)
        if sources is not None:
            patches = (sources / patches_of(sources)).transpose(1, 2) @ patches
        found = torch.cat([patches, rest], dim=1)
        return found / found.sum(1, keepdim=True).norm(dim=-1, keepdim=True)
