"""A Gemma 3 with a wider residual stream that computes the same.

The quantized types that matter to a 4B come in blocks of 256 columns, and 256 does not divide the stand-in's 640: at that
width llama.cpp puts other types in their place. So the stream gets channels that are always zero. Two things depend on the
number of channels: embeddings are scaled by its root, and RMSNorm divides by a mean over all of them. With
c = sqrt(wide / width), the embedding brings c times the stream by itself; every matrix that adds to the stream is scaled by
c, so that its RMSNorm sees the mean it saw; and the norms that read the stream divide by c. Epsilons stay as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray[np.float32]]

_ADDS = ("o_proj.weight", "down_proj.weight")  # (stream, inputs): they write the stream
_READS = ("input_layernorm.weight", "pre_feedforward_layernorm.weight", "model.norm.weight")
_AFTER = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
_PROJECTOR = "mm_input_projection_weight"  # (vision, stream)


def widened(state: State, wide: int) -> State:
    """The weights of the same function with a stream of `wide` channels, which is the configuration's `hidden_size` then.

    Args:
        state: published names to float32 arrays; RMSNorm weights are stored minus one. The vision tower's stay as they are.
        wide: at least as many channels as there are.
    """
    width = next(values.shape[1] for name, values in state.items() if name.endswith("embed_tokens.weight"))
    if wide == width:
        return state
    factor = np.sqrt(np.float32(wide) / np.float32(width))

    def padded(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        room = [(0, 0)] * values.ndim
        room[axis] = (0, wide - width)
        return np.ascontiguousarray(np.pad(values, room))

    out: State = {}
    for name, values in state.items():
        if name.startswith("vision_tower.") or name.endswith(
            ("q_norm.weight", "k_norm.weight", "mm_soft_emb_norm.weight")
        ):
            out[name] = values
        elif name.endswith(_READS):
            out[name] = padded((1 + values) / factor - 1, 0)
        elif name.endswith(_AFTER):
            out[name] = padded(values, 0)
        elif name.endswith(_ADDS):
            out[name] = padded(values * factor, 0)
        elif name.endswith(_PROJECTOR):
            out[name] = padded(values * factor, 1)
        else:
            out[name] = padded(values, 1)
    return out
