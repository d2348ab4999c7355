"""Begin a student with its teacher's weights, where shapes allow.

Layers are taken evenly; residual channels by how much of the teacher's normalised activations they carry; MLP neurons and
channels of heads by the product of the norms of the weights that write and read them; patch kernels are resized so that
they say of a resized patch what the teacher's say of the patch (Beyer et al. 2023, "FlexiViT", eq. 2), positions are
interpolated. A pooling head writes straight into the embedding, so there the subspace's rows take the place of a choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .subspace import Subspace

Index = torch.Tensor  # (N,) int64, which of the teacher's rows or columns


def inherit_tower(student: Any, teacher: Any, activations: torch.Tensor) -> list[int]:
    """Copy what fits of a SigLIP tower (vision or text) into a student's, in place; the heads apart.

    Args:
        student, teacher: `SiglipVisionTransformer` or `SiglipTextTransformer`, the student freshly initialised.
        activations: energy of each residual channel of the teacher, (teacher's width,), see `channel_energy`.

    Returns:
        the teacher's layers that were taken, by number.
    """
    width = student.config.hidden_size
    residual = _strongest(activations, width)
    depth, available = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    taken = np.linspace(0, available - 1, min(depth, available)).round().astype(int).tolist()
    with torch.no_grad():
        _embeddings(student.embeddings, teacher.embeddings, residual)
        for layer, number in zip(student.encoder.layers, taken, strict=False):
            _layer(layer, teacher.encoder.layers[number], residual)
        final = "post_layernorm" if hasattr(teacher, "post_layernorm") else "final_layer_norm"
        _norm(getattr(student, final), getattr(teacher, final), residual)
    return taken


def inherit_text_head(student: Any, head: torch.nn.Linear, activations: torch.Tensor) -> None:
    """Copy a text tower's last layer, which may be projected, for the residual channels that the student has."""
    with torch.no_grad():
        _rows(student.head, head.weight[:, _strongest(activations, student.config.hidden_size)], head.bias)


def inherit_pooling_head(student: Any, teacher: Any, activations: torch.Tensor, subspace: Subspace) -> None:
    """Copy a pooling head: it reads the residual channels, and writes into the subspace."""
    residual = _strongest(activations, student.config.hidden_size)
    rows = torch.from_numpy(subspace.rows)
    width = student.config.hidden_size
    whole = width == teacher.config.hidden_size
    heads, theirs = student.head.attention.num_heads, teacher.head.attention.num_heads
    query, key, value = teacher.head.attention.in_proj_weight.chunk(3)
    bias_q, bias_k, bias_v = teacher.head.attention.in_proj_bias.chunk(3)
    out = teacher.head.attention.out_proj
    with torch.no_grad():
        # One query for all images: it is the bias that a probe of any width can give.
        asked = teacher.head.probe[0, 0] @ query.T + bias_q
        energy = key.norm(dim=1) * asked.abs(), value.norm(dim=1) * out.weight.norm(dim=0)
        kept = _strongest_heads(energy[0] * energy[1], theirs, heads)
        qk, v = (_head_channels(each, theirs, kept, width) for each in energy)
        target = student.head.attention
        sizes = (width // heads, teacher.config.hidden_size // theirs)
        if whole:
            student.head.probe.copy_(teacher.head.probe)
            target.in_proj_weight[:width].copy_(query[qk])
            target.in_proj_bias[:width].copy_(bias_q[qk])
        else:
            target.in_proj_bias[:width].copy_(asked[qk] * (sizes[0] / sizes[1]) ** 0.5)
            target.in_proj_weight[:width].mul_(0.1)
        target.in_proj_weight[width : 2 * width].copy_(key[qk][:, residual])
        target.in_proj_bias[width : 2 * width].copy_(bias_k[qk])
        target.in_proj_weight[2 * width :].copy_(value[v][:, residual])
        target.in_proj_bias[2 * width :].copy_(bias_v[v])
        target.out_proj.weight.copy_((rows @ out.weight)[:, v])
        target.out_proj.bias.copy_(rows @ out.bias)
        norm, mlp = teacher.head.layernorm, teacher.head.mlp
        if whole:
            _norm(student.head.layernorm, norm, residual)
        neurons = _strongest(mlp.fc1.weight.norm(dim=1) * mlp.fc2.weight.norm(dim=0), student.config.intermediate_size)
        # The norm's weights belong to the teacher's channels: they move into the layer behind it.
        read = mlp.fc1.weight if whole else (mlp.fc1.weight * norm.weight) @ rows.T
        bias = mlp.fc1.bias if whole else mlp.fc1.bias + mlp.fc1.weight @ norm.bias
        _rows(student.head.mlp.fc1, read[neurons], bias[neurons])
        _rows(student.head.mlp.fc2, (rows @ mlp.fc2.weight)[:, neurons], rows @ mlp.fc2.bias)


@torch.no_grad()
def channel_energy(tower: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """Mean square of each residual channel behind the blocks' first norms, (width,), over a batch."""
    total = torch.zeros(tower.config.hidden_size)
    hooks = []
    for layer in tower.encoder.layers:

        def add(_m: Any, _i: Any, out: torch.Tensor) -> None:
            total.add_(out.detach().float().flatten(0, -2).square().mean(0).cpu())

        hooks.append(layer.layer_norm1.register_forward_hook(add))
    try:
        tower(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def project_text_head(head: torch.nn.Linear, subspace: Subspace) -> torch.nn.Linear:
    """A text tower's last layer that gives the projected embedding."""
    rows = torch.from_numpy(subspace.rows)
    with torch.no_grad():
        made = torch.nn.Linear(head.in_features, len(rows))
        made.weight.copy_(rows @ head.weight)
        made.bias.copy_(rows @ head.bias)
    return made


def resize_patch_kernel(kernel: torch.Tensor, patch: int) -> torch.Tensor:
    """(O, C, P, P) to (O, C, patch, patch): the pseudo-inverse of resizing, so that resized patches give equal products."""
    size = kernel.shape[-1]
    if size == patch:
        return kernel
    basis = torch.eye(size * size, dtype=torch.float64).reshape(size * size, 1, size, size)
    resize = F.interpolate(basis, (patch, patch), mode="bilinear", antialias=patch < size).reshape(size * size, -1)
    inverse = torch.linalg.pinv(resize)  # (patch^2, size^2): resize @ inverse is close to the identity
    flat = kernel.double().reshape(*kernel.shape[:2], -1) @ inverse.T
    return flat.reshape(*kernel.shape[:2], patch, patch).to(kernel.dtype)


def _strongest(energy: torch.Tensor, count: int) -> Index:
    """The `count` channels with most energy, in their own order; all, and no more, where there are fewer."""
    if count >= len(energy):
        return torch.arange(len(energy))
    return energy.topk(count).indices.sort().values


def _strongest_heads(energy: torch.Tensor, heads: int, wanted: int) -> list[int]:
    """Heads to keep, by the energy of their channels; taken evenly, some twice, where more are wanted than there are."""
    if wanted > heads:
        return np.linspace(0, heads - 1, wanted).round().astype(int).tolist()
    found: list[int] = _strongest(energy.reshape(heads, -1).sum(1), wanted).tolist()
    return found


def _head_channels(energy: torch.Tensor, heads: int, kept: list[int], width: int) -> Index:
    """The strongest channels of the kept heads, width / len(kept) of each."""
    size, each = len(energy) // heads, width // len(kept)
    picks: list[Index] = []
    for number in kept:
        inside = _strongest(energy[number * size : (number + 1) * size], each) + number * size
        picks.append(inside.repeat(-(-each // len(inside)))[:each])  # a larger head repeats what there is
    return torch.cat(picks)


def _layer(student: Any, teacher: Any, residual: Index) -> None:
    mine, theirs = student.self_attn, teacher.self_attn
    width = mine.q_proj.out_features
    energy_qk = theirs.q_proj.weight.norm(dim=1) * theirs.k_proj.weight.norm(dim=1)
    energy_v = theirs.v_proj.weight.norm(dim=1) * theirs.out_proj.weight.norm(dim=0)
    energy_mlp = teacher.mlp.fc1.weight.norm(dim=1) * teacher.mlp.fc2.weight.norm(dim=0)
    kept = _strongest_heads(energy_qk * energy_v, theirs.num_heads, mine.num_heads)
    qk = _head_channels(energy_qk, theirs.num_heads, kept, width)
    v = _head_channels(energy_v, theirs.num_heads, kept, width)
    neurons = _strongest(energy_mlp, student.mlp.fc1.out_features)
    # Fewer channels are added up, and attention divides by the root of their number.
    scale = (mine.head_dim / theirs.head_dim) ** 0.5
    for name in ("layer_norm1", "layer_norm2"):
        _norm(getattr(student, name), getattr(teacher, name), residual)
    _rows(mine.q_proj, theirs.q_proj.weight[qk][:, residual] * scale, theirs.q_proj.bias[qk] * scale)
    _rows(mine.k_proj, theirs.k_proj.weight[qk][:, residual], theirs.k_proj.bias[qk])
    _rows(mine.v_proj, theirs.v_proj.weight[v][:, residual], theirs.v_proj.bias[v])
    _rows(mine.out_proj, theirs.out_proj.weight[residual][:, v], theirs.out_proj.bias[residual])
    _rows(student.mlp.fc1, teacher.mlp.fc1.weight[neurons][:, residual], teacher.mlp.fc1.bias[neurons])
    _rows(student.mlp.fc2, teacher.mlp.fc2.weight[residual][:, neurons], teacher.mlp.fc2.bias[residual])


def _embeddings(student: Any, teacher: Any, residual: Index) -> None:
    positions = teacher.position_embedding.weight[:, residual]
    if hasattr(teacher, "patch_embedding"):
        kernel = resize_patch_kernel(teacher.patch_embedding.weight, student.patch_embedding.kernel_size[0])
        _rows(student.patch_embedding, kernel[residual], teacher.patch_embedding.bias[residual])
        positions = _interpolate(positions, len(student.position_embedding.weight))
    else:
        _rows(student.token_embedding, teacher.token_embedding.weight[:, residual])
    _rows(student.position_embedding, positions)


def _interpolate(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of a square grid, (N, C), for a grid of `count`."""
    if len(positions) == count:
        return positions
    side, wanted = round(len(positions) ** 0.5), round(count**0.5)
    grid = positions.T.reshape(1, -1, side, side)
    made = F.interpolate(grid, (wanted, wanted), mode="bicubic", antialias=wanted < side, align_corners=False)
    return made.reshape(positions.shape[1], -1).T


def _norm(student: Any, teacher: Any, residual: Index) -> None:
    _rows(student, teacher.weight[residual], teacher.bias[residual])


def _rows(module: Any, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Copy into a module's corner: where the student is larger than the teacher, the rest stays as it was drawn."""
    for parameter, values in ((module.weight, weight), (getattr(module, "bias", None), bias)):
        if parameter is not None and values is not None:
            parameter[tuple(slice(size) for size in values.shape)].copy_(values)
