"""A recipe on a rewritten tower: palettes, blocks, 8-bit weights and activations through coremltools.optimize."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...quant.recipes.coreml import GROUP, CoreMLRecipe
from ...quant.rounding.gptq import on_grid
from ...quant.rounding.palettize import Layer, choose_bits, palette_bytes, palettize, relative_error
from .mil_evaluator import Program
from .mil_package import Operation
from .neural_engine import IMAGE_BIAS, IMAGE_SCALE, TextTower
from .options import PackageOptions
from .precision import selector
from .quietly import coremltools, quiet
from .write import OUTPUT, Array, MergingPackage, as_input, convert, model_inputs, save

SENSITIVITY_INPUTS = 4

SMALLEST = 2048  # weights of a constant worth compressing


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


def as_tower_inputs(inputs: Sequence[Array], kind: str, options: PackageOptions) -> list[Array]:
    """Calibration inputs as the rewritten tower takes them in torch."""
    if kind == "text":
        return [batch.astype(np.int32) for batch in inputs]
    if not options.image_input:
        return [batch.astype(np.float32) for batch in inputs]
    return [as_input(batch, image=True) * np.float32(IMAGE_SCALE) + np.float32(IMAGE_BIAS) for batch in inputs]


def make_package(
    module: nn.Module, kept: Mapping[str, str], kind: str, side: int, recipe: CoreMLRecipe, options: PackageOptions,
    inputs: Sequence[Array], path: Path, metadata: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Apply a recipe to a rewritten tower (its weights change) and save the package.

    Args:
        kept: operations that fp16 can't hold, `precision.fp32_operations`.
        inputs: calibration inputs, as the ONNX towers take them.

    Returns:
        what was decided, for the manifest.
    """
    decisions: dict[str, Any] = {
        "kept_in_fp32": dict(kept), "ios": options.ios, "image_input": options.image_input, "batches": list(options.batches),
    }  # fmt: skip
    if isinstance(module, MergingPackage):
        decisions |= module.tower.encoder.facts()
    if recipe.kind == "palette":
        decisions["bits"] = _palettize(module, kind, recipe, options, inputs)
    elif recipe.kind == "blocks":
        _round_blocks(module, kind, recipe, options, inputs)
    model = convert(module, kind, side, options, half=selector(kept))
    with quiet():
        if recipe.kind == "palette":
            model = _pack_palettes(model)
        elif recipe.kind in ("linear", "blocks"):
            model = _pack_linear(model, recipe)
        elif recipe.kind == "linear8_activations8":
            model, decisions["quantized_inputs"] = _quantize_activations(model, inputs, path)
            model = _pack_linear(model, recipe)
    save(model, path, metadata)
    return decisions


def _palettize(
    module: nn.Module, kind: str, recipe: CoreMLRecipe, options: PackageOptions, inputs: Sequence[Array]
) -> dict[str, int]:
    """Cluster the weights in place; returns how many layers got how many bits."""
    given = as_tower_inputs(inputs, kind, options)
    layers = layers_of(module, given)
    bits = dict.fromkeys(layers, recipe.bits)
    if recipe.room or options.target_size is not None:
        costs = measure_sensitivity(module, layers, given, GROUP)
        layers = {name: replace(layer, sensitivity=costs[block_of(name)]) for name, layer in layers.items()}
        if options.target_size is None:
            base = sum(palette_bytes(layer.weight.shape, recipe.bits, GROUP) for layer in layers.values())
            bits = choose_bits(layers, base * (1 + recipe.room), GROUP)
        else:  # the wish is for the whole tower, with what stays in fp16
            everything = sum(tensor.numel() for tensor in module.state_dict().values())
            others = 2 * (everything - sum(layer.weight.size for layer in layers.values()))
            bits = choose_bits(layers, options.target_size, GROUP, others)
    for name, layer in layers.items():
        put(module, {name: palettize(layer.weight, layer.moments, bits[name], GROUP)})
    return {f"{number} bits": sum(value == number for value in bits.values()) for number in sorted(set(bits.values()))}


def _round_blocks(
    module: nn.Module, kind: str, recipe: CoreMLRecipe, options: PackageOptions, inputs: Sequence[Array]
) -> None:
    """Put every layer's weights on a grid of 4 bits by GPTQ, in place; coremltools then finds that grid."""
    hessians = gather(module, as_tower_inputs(inputs, kind, options), lambda read: read @ read.T)
    for name, layer in compressible(module).items():
        weight = layer.weight.detach()[:, :, 0, 0].numpy()
        put(
            module,
            {name: np.ascontiguousarray(on_grid(np.ascontiguousarray(weight.T), hessians[name], recipe.block).T)},
        )


def _pack_palettes(model: Any) -> Any:
    """Store weights that are clustered already as tables and indices; what has too many values stays as it is.

    coremltools' own mode for that, "unique", sorts fp16 numbers, which numpy 2.4.6 does wrong for large arrays on CPUs with
    AVX-512: it found 34 values where there are 16. Values are compared in float32 here.
    """
    cto = coremltools().optimize.coreml
    packed: dict[str, Any] = {}
    for op in model._mil_program.functions["main"].operations:
        constant = {"conv": "weight", "gather": "x"}.get(op.op_type)
        if constant is None or (weight := getattr(op, constant)).val.size < SMALLEST:
            continue
        groups = [weight.val[start : start + GROUP] for start in range(0, len(weight.val), GROUP)]
        values = max(len(np.unique(group.astype(np.float32))) for group in groups)
        bits = next((bits for bits in (4, 6, 8) if values <= 1 << bits), None)
        if bits is not None:
            packed[weight.op.name] = cto.OpPalettizerConfig(
                mode="custom", lut_function=partial(_table, entries=1 << bits), granularity="per_grouped_channel",
                group_size=GROUP, channel_axis=0, weight_threshold=SMALLEST,
            )  # fmt: skip
    return cto.palettize_weights(model, cto.OptimizationConfig(op_name_configs=packed))


def _table(values: Array, entries: int) -> tuple[Array, Array]:
    """A look-up table of `entries` values, and which of them each value is."""
    found, indices = np.unique(values.astype(np.float32).ravel(), return_inverse=True)
    table = np.zeros(entries, values.dtype)
    table[: len(found)] = found
    return table, indices.ravel().astype(np.uint8)


def patch_names(model: Any) -> list[str]:
    """The operation that embeds patches: the only convolution of more than one pixel."""
    operations = model._mil_program.functions["main"].operations
    return [op.name for op in operations if op.op_type == "conv" and tuple(op.weight.shape[2:]) != (1, 1)]


def _pack_linear(model: Any, recipe: CoreMLRecipe) -> Any:
    cto = coremltools().optimize.coreml
    channel = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=SMALLEST
    )
    block = cto.OpLinearQuantizerConfig(
        mode="linear", dtype="uint4", granularity="per_block", block_size=recipe.block, weight_threshold=SMALLEST
    )
    # Token embeddings stay at 8 bits: every text reads some rows of theirs as they are, and no sum evens errors out.
    # Positions, which are added, and the patch embedding stay in fp16, a thousandth of the weights.
    config = cto.OptimizationConfig(
        op_type_configs={"conv": block if recipe.block else channel, "gather": channel},
        op_name_configs=dict.fromkeys(patch_names(model), None),
    )
    return cto.linear_quantize_weights(model, config)


def _quantize_activations(model: Any, inputs: Sequence[Array], path: Path) -> tuple[Any, int]:
    """Quantize what the big layers read to 8 bits, by ranges seen on calibration inputs.

    coremltools gathers these ranges by running the model, on a Mac only; here our evaluator runs it, and coremltools' own
    pass takes them from it.
    """
    from coremltools.models.utils import _apply_graph_pass
    from coremltools.optimize.coreml._quantization_passes import insert_prefix_quantize_dequantize_pair

    cto = coremltools().optimize.coreml
    scratch = path.with_name(f".{path.name}.calibration.mlpackage")
    save(model, scratch)
    ranges: dict[str, dict[str, float]] = {}

    def observe(op: Operation, arguments: Mapping[str, Any], _: Sequence[Any]) -> None:
        if op.kind == "conv":
            name, x = op.inputs["x"][0].text, arguments["x"]
            seen = ranges.setdefault(name, {"rmin": 0.0, "rmax": 0.0})
            ranges[name] = {"rmin": min(seen["rmin"], float(x.min())), "rmax": max(seen["rmax"], float(x.max()))}

    try:
        program = Program(scratch)
        for item in model_inputs(program, inputs):
            program.run([OUTPUT], item, observer=observe)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # The pixels stay as they are: they are bytes already, and the first layer sees nothing else.
    patches = patch_names(model)
    config = cto.OptimizationConfig(
        op_type_configs={"conv": cto.OpLinearQuantizerConfig(mode="linear", dtype="uint8", weight_threshold=0)},
        op_name_configs=dict.fromkeys(patches, None),
    )
    passed = insert_prefix_quantize_dequantize_pair(config)
    passed.activation_stats = ranges
    return _apply_graph_pass(model, passed), len(ranges) - len(patches)
