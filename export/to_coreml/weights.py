"""The weights of a rewritten tower, put on tables or grids before it becomes a package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...quant.recipes.coreml import GROUP, CoreMLRecipe
from ...quant.rounding.gptq import on_grid
from ...quant.rounding.palettize import Layer, choose_bits, palette_bytes, palettize, relative_error
from .neural_engine import IMAGE_BIAS, IMAGE_SCALE, TextTower
from .options import PackageOptions
from .write import Array, as_input

SENSITIVITY_INPUTS = 4


@dataclass(frozen=True)
class Compressing:
    """One tower on its way into a package.

    Attributes:
        module: the rewritten tower; its weights change.
        tower: "vision" or "text".
        recipe, options: what is asked for.
        inputs: calibration inputs, one a batch, as the ONNX towers take them.
        path: of the package to come.
    """

    module: nn.Module
    tower: str
    recipe: CoreMLRecipe
    options: PackageOptions
    inputs: Sequence[Array]
    path: Path

    def tower_inputs(self) -> list[Array]:
        """Calibration inputs as the rewritten tower takes them in torch."""
        if self.tower == "text":
            return [batch.astype(np.int32) for batch in self.inputs]
        if not self.options.image_input:
            return [batch.astype(np.float32) for batch in self.inputs]
        return [as_input(batch, image=True) * np.float32(IMAGE_SCALE) + np.float32(IMAGE_BIAS) for batch in self.inputs]


def compressible(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The layers worth compressing; the pooling head's scores are a thousandth of the weights."""
    return {
        name: layer for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and not name.endswith("head.scores")
    }  # fmt: skip


@torch.inference_mode()
def gather(
    module: nn.Module, inputs: Sequence[Array], measure: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Array]:
    """The mean over positions of `measure` of what each layer reads: it maps (C, positions) to a sum over positions."""
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def collect(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            read = given[0].transpose(0, 1).flatten(1)
            sums[name] = sums.get(name, torch.zeros(())) + measure(read)
            counts[name] = counts.get(name, 0) + read.shape[1]

        return hook

    hooks = [layer.register_forward_pre_hook(collect(name)) for name, layer in compressible(module).items()]
    try:
        for batch in inputs:
            module(torch.from_numpy(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / counts[name]).float().numpy() for name, total in sums.items()}


def layers_of(module: nn.Module, inputs: Sequence[Array]) -> dict[str, Layer]:
    """Every layer worth compressing, with its inputs' mean squares on calibration inputs."""
    moments = gather(module, inputs, lambda read: read.double().square().sum(1))
    found = {
        name: Layer(layer.weight.detach()[:, :, 0, 0].numpy(), moments[name])
        for name, layer in compressible(module).items()
    }
    if isinstance(module, TextTower):
        table = module.tokens.weight.detach().numpy()
        found["tokens"] = Layer(table, np.ones(table.shape[1], np.float32))
    return found


def block_of(name: str) -> str:
    """The part whose sensitivity is measured together: `blocks.3` of `blocks.3.mlp.fc1`, else the first word."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] == "blocks" else words[0]


@torch.inference_mode()
def measure_sensitivity(
    module: nn.Module, layers: Mapping[str, Layer], inputs: Sequence[Array], group: int
) -> dict[str, float]:
    """{block: error of the embedding for a unit of relative error, summed over its layers}; each palettized alone, 4 bits.

    The embedding's error is the mean square of its change over its spread between inputs.
    """
    batch = torch.from_numpy(np.concatenate(inputs)[:SENSITIVITY_INPUTS])
    exact = module(batch)
    spread = (exact - exact.mean(0)).square().mean().clamp_min(1e-12)
    found: dict[str, float] = {}
    for block in sorted({block_of(name) for name in layers}):
        mine = {name: layer for name, layer in layers.items() if block_of(name) == block}
        coarse = {name: palettize(layer.weight, layer.moments, 4, group) for name, layer in mine.items()}
        put(module, coarse)
        error = float((module(batch) - exact).square().mean() / spread)
        put(module, {name: layer.weight for name, layer in mine.items()})
        lost = sum(relative_error(layer.weight, coarse[name], layer.moments) for name, layer in mine.items())
        found[block] = error / max(lost, 1e-12)
    return found


def put(module: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Give layers other weights, in place."""
    for name, weight in weights.items():
        layer = module.get_submodule(name)
        tensor = torch.from_numpy(np.ascontiguousarray(weight))
        if isinstance(layer, nn.Conv2d):
            tensor = tensor[:, :, None, None]
        layer.weight = nn.Parameter(tensor, requires_grad=False)


def palettize_layers(work: Compressing) -> dict[str, Any]:
    """Cluster the weights in place; decides how many layers get how many bits."""
    module, recipe, target_size = work.module, work.recipe, work.options.target_size
    given = work.tower_inputs()
    layers = layers_of(module, given)
    bits = dict.fromkeys(layers, recipe.bits)
    if recipe.room or target_size is not None:
        costs = measure_sensitivity(module, layers, given, GROUP)
        layers = {name: replace(layer, sensitivity=costs[block_of(name)]) for name, layer in layers.items()}
        if target_size is None:
            base = sum(palette_bytes(layer.weight.shape, recipe.bits, GROUP) for layer in layers.values())
            bits = choose_bits(layers, base * (1 + recipe.room), GROUP)
        else:  # the wish is for the whole tower, with what stays in fp16
            everything = sum(tensor.numel() for tensor in module.state_dict().values())
            others = 2 * (everything - sum(layer.weight.size for layer in layers.values()))
            bits = choose_bits(layers, target_size, GROUP, others)
    for name, layer in layers.items():
        put(module, {name: palettize(layer.weight, layer.moments, bits[name], GROUP)})
    counts = {number: sum(value == number for value in bits.values()) for number in sorted(set(bits.values()))}
    return {"bits": {f"{number} bits": count for number, count in counts.items()}}


def round_to_blocks(work: Compressing) -> dict[str, Any]:
    """Put every layer's weights on a grid of 4 bits by GPTQ, in place; coremltools then finds that grid."""
    module = work.module
    hessians = gather(module, work.tower_inputs(), lambda read: read @ read.T)
    for name, layer in compressible(module).items():
        weight = layer.weight.detach()[:, :, 0, 0].numpy()
        rounded = on_grid(np.ascontiguousarray(weight.T), hessians[name], work.recipe.block)
        put(module, {name: np.ascontiguousarray(rounded.T)})
    return {}
