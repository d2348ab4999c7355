"""How a converted package stores its weights, and what it quantizes as it runs: through coremltools.optimize."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.recipes.coreml import GROUP
from .mil.evaluator import Program
from .mil.package import Operation
from .quietly import coremltools
from .weights import Compressing
from .write import OUTPUT, Array, model_inputs, save

SMALLEST = 2048  # weights of a constant worth compressing


def store_palettes(model: Any, _: Compressing) -> tuple[Any, dict[str, Any]]:
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
    return cto.palettize_weights(model, cto.OptimizationConfig(op_name_configs=packed)), {}


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


def store_linear(model: Any, work: Compressing) -> tuple[Any, dict[str, Any]]:
    """Store weights as integers with a scale for each output channel, or for each block of inputs."""
    cto, size = coremltools().optimize.coreml, work.recipe.block
    channel = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=SMALLEST
    )
    block = cto.OpLinearQuantizerConfig(
        mode="linear", dtype="uint4", granularity="per_block", block_size=size, weight_threshold=SMALLEST
    )
    # Token embeddings stay at 8 bits: every text reads some rows of theirs as they are, and no sum evens errors out.
    # Positions, which are added, and the patch embedding stay in fp16, a thousandth of the weights.
    config = cto.OptimizationConfig(
        op_type_configs={"conv": block if size else channel, "gather": channel},
        op_name_configs=dict.fromkeys(patch_names(model), None),
    )
    return cto.linear_quantize_weights(model, config), {}


def store_with_activations(model: Any, work: Compressing) -> tuple[Any, dict[str, Any]]:
    """Store weights as `store_linear` does, and let the big layers read 8 bits."""
    model, count = _quantize_activations(model, work.inputs, work.path)
    return store_linear(model, work)[0], {"quantized_inputs": count}


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
