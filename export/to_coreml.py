"""SigLIP's towers to CoreML packages: `torch.export`, coremltools, then a recipe.

The tower is first rewritten for the Neural Engine (`neural_engine.py`) and converted in fp32. That program, computed by our
evaluator on calibration inputs, says which operations would overflow or drift in fp16; they stay in fp32, all else is
converted to fp16 and compressed through coremltools.optimize.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..quant.four_bit import on_grid
from ..quant.half import FP16_MAX, HEADROOM
from ..quant.palettize import Layer, choose_bits, palette_bytes, palettize, relative_error
from ..quant.recipe_coreml import GROUP, CoreMLRecipe
from ..runtime.manifest import LICENCE_NOTICE
from .mil_evaluator import FLOATS, Program
from .mil_ops import apply
from .mil_package import Name, Operation
from .neural_engine import IMAGE_BIAS, IMAGE_SCALE, TextTower, VisionTower, gelu
from .quietly import coremltools, quiet
from .token_merging import MergingTower

OUTPUT = "pooler_output"
INPUTS = {"vision": "pixel_values", "text": "input_ids"}
IMAGE = "image"
DRIFT = 0.02  # relative error that a value may have gathered by computing in fp16
SENSITIVITY_INPUTS = 4
SMALLEST = 2048  # weights of a constant worth compressing
MERGEABLE = ("half", "linear")  # kinds of recipes that need no layer in the Neural Engine's form
Array = NDArray[Any]


@dataclass(frozen=True)
class PackageOptions:
    """How a package is called and for which systems it is made.

    Attributes:
        ios: deployment target, 17 or 18.
        image_input: the vision tower takes a picture of its size, (H, W) RGB bytes, instead of normalised numbers.
        batches: sizes that are allowed; images come one at a time.
        target_size: bytes of a tower's weights; bits are then chosen by layer (palettes only).
        merge: similar patches to merge in each block of the vision tower.
    """

    ios: int = 18
    image_input: bool = True
    batches: tuple[int, ...] = (1,)
    target_size: int | None = None
    merge: int = 0


class WrittenOut(nn.Module):
    """A feed-forward layer whose GELU coremltools takes for what it is; see `neural_engine.gelu`."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(gelu(self.fc1(x)))


class MergingPackage(nn.Module):
    """A vision tower that merges similar patches, as a package calls it.

    Not in the Neural Engine's form: which tokens go is looked up by index, which that engine has no operation for; Core ML runs
    it on the GPU or CPU.
    """

    def __init__(self, tower: Any, options: PackageOptions) -> None:
        super().__init__()
        self.tower, self.from_image = MergingTower(tower, options.merge), options.image_input
        for part in (*self.tower.encoder.layers, self.tower.head):
            part.mlp = WrittenOut(part.mlp)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.from_image:  # bytes / 128 - 1 to the model's (bytes / 255 - 0.5) / 0.5
            pixels = pixels * (256 / 255) + 1 / 255
        return self.tower(pixels).pooler_output


def rewrite(tower: Any, kind: str, options: PackageOptions, block: int = 1) -> nn.Module:
    """The tower as the Neural Engine likes it, for this input; `block` as in `VisionTower`."""
    if kind == "text":
        return TextTower(tower, block=block).eval()
    if options.merge:
        return MergingPackage(tower, options).eval()
    return VisionTower(tower, from_image=options.image_input, block=block).eval()


def convert(module: nn.Module, kind: str, side: int, options: PackageOptions, half: Any = None) -> Any:
    """A module to an unsaved CoreML model.

    Args:
        side: pixels of a side, or tokens of a text.
        half: chooses the operations that are computed in fp16; all in fp32 where None.
    """
    ct = coremltools()
    image = kind == "vision" and options.image_input
    batches = (1,) if image else options.batches
    shape = (3, side, side) if kind == "vision" else (side,)
    dtype = torch.float32 if kind == "vision" else torch.int32
    several = len(batches) > 1
    example = torch.zeros((max(batches), *shape), dtype=dtype)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=max(batches))},) if several else None
    allowed: Any = (batches[0], *shape)
    if several:
        allowed = ct.EnumeratedShapes([(size, *shape) for size in batches], default=(batches[0], *shape))
    if image:
        scale, bias = IMAGE_SCALE, [IMAGE_BIAS] * 3
        given = ct.ImageType(IMAGE, (1, *shape), scale=scale, bias=bias, color_layout=ct.colorlayout.RGB)
    else:
        given = ct.TensorType(INPUTS[kind], allowed, dtype=np.float32 if kind == "vision" else np.int32)
    with quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=dynamic).run_decompositions({})
        return ct.convert(
            program, inputs=[given], outputs=[ct.TensorType(OUTPUT, dtype=np.float32)],
            minimum_deployment_target={17: ct.target.iOS17, 18: ct.target.iOS18}[options.ios],
            compute_precision=ct.precision.FLOAT32 if half is None else ct.transform.FP16ComputePrecision(half),
        )  # fmt: skip


def save(model: Any, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a package; of what coremltools adds for debuggers, the paths of this machine stay out."""
    for key, value in (metadata or {}).items():
        model.user_defined_metadata[f"medge.{key}"] = value
    model.short_description = (
        f"{metadata['source']}: {metadata['tower']} tower, recipe {metadata['recipe']}. An embedding; not a medical device."
        if metadata else "full precision, for measuring"
    )  # fmt: skip
    model.author = "medge"
    model.license = LICENCE_NOTICE
    with quiet():
        model.save(str(path))
    for stray in path.glob("*.json"):
        if stray.name != "Manifest.json":
            stray.unlink()
    return path


def model_inputs(program: Program, batches: Sequence[Array]) -> Iterator[dict[str, Array]]:
    """Normalised pixels or token ids, as the ONNX towers take them, to what a package takes, one at a time."""
    given = program.package.inputs[0]
    for batch in batches:
        for index in range(len(batch)):
            yield {given.name: as_input(batch[index : index + 1], image=given.is_image)}


def as_input(batch: Array, *, image: bool) -> Array:
    """A batch for a package: bytes again for an image input (exact, they came from bytes), int32 for token ids."""
    if image:
        return np.rint(batch * np.float32(127.5) + np.float32(127.5)).astype(np.float32)
    return batch.astype(np.int32) if batch.dtype.kind == "i" else batch.astype(np.float32)


@torch.inference_mode()
def fp32_operations(program: Program, inputs: Sequence[Array]) -> dict[str, str]:
    """{output's name: why} of the operations that must not be computed in fp16 on such inputs.

    An operation overflows when a value that it reads or writes comes within two bits of fp16's end. Beside the fp32 program
    runs the same one rounded to fp16 after each operation; where the two come apart by more than `DRIFT`, the operation and
    those that feed it are kept in fp32, and the rounded run goes on from the exact value.
    """
    found: dict[str, str] = {}
    makers: dict[str, Operation] = {name: op for op in program.operations for name, _ in op.outputs}
    for item in model_inputs(program, inputs):
        _Shadow(program, makers, found).run(item)
    return found


class _Shadow:
    """The fp16 run beside one run of an fp32 program."""

    def __init__(self, program: Program, makers: Mapping[str, Operation], found: dict[str, str]) -> None:
        self._program, self._makers, self._found = program, makers, found
        self._coarse: dict[str, Any] = {}
        self._index = 0

    def run(self, item: Mapping[str, Array]) -> None:
        self._program.run([OUTPUT], item, observer=self._observe)

    def _observe(self, op: Operation, arguments: Mapping[str, Any], results: Sequence[Any]) -> None:
        coarse: Sequence[Any] = results
        if any(kind.element in FLOATS for _, kind in op.outputs):
            coarse = self._judge(op, arguments, results)
        self._coarse |= {name: value for (name, _), value in zip(op.outputs, coarse, strict=True)}
        for name in self._program.last_read(self._index):
            self._coarse.pop(name, None)
        self._index += 1

    def _judge(self, op: Operation, arguments: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
        """The operation's results in the fp16 run."""
        name = op.outputs[0][0]
        values = [v for value in arguments.values() for v in (value if isinstance(value, list) else [value])]
        floats = [v for v in [*values, *results] if isinstance(v, torch.Tensor) and v.is_floating_point() and v.numel()]
        greatest = max((float(value.abs().max()) for value in floats), default=0.0)
        if greatest > FP16_MAX / HEADROOM:
            self._found.setdefault(name, f"reaches {greatest:.0f}")
        if name in self._found:
            return results
        rounded = {key: _half(self._given(op, key, value)) for key, value in arguments.items()}
        coarse = [_half(value) for value in apply(op.kind, rounded)]
        error = max(
            float((one - exact).norm() / exact.norm().clamp_min(1e-30))
            for one, exact in zip(coarse, results, strict=True)
            if exact.is_floating_point()  # an index that differs shows in what is looked up by it
        )
        if error <= DRIFT:
            return coarse
        feeding = [item.text for items in op.inputs.values() for item in items if isinstance(item, Name)]
        for source in [name, *(text for text in feeding if text in self._makers)]:
            self._found.setdefault(self._makers[source].outputs[0][0], f"drifts by {error:.3f}")
        return results

    def _given(self, op: Operation, key: str, exact: Any) -> Any:
        """An argument as the fp16 run has it."""
        names = [item.text if isinstance(item, Name) else "" for item in op.inputs[key]]
        if isinstance(exact, list):
            return [self._coarse.get(name, value) for name, value in zip(names, exact, strict=True)]
        return self._coarse.get(names[0], exact)


def _half(value: Any) -> Any:
    """Rounded to fp16 and held in float32, as the evaluator does."""
    if isinstance(value, list):
        return [_half(item) for item in value]
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.half().float()
    return value


def selector(kept: Mapping[str, str]) -> Any:
    """coremltools' choice of operations for fp16: those whose outputs are not in `kept`.

    Its fp16 pass gives operations that it changed, and theirs alone, the suffix `_cast_fp16`.
    """
    return lambda op: not any(output.name.removesuffix("_cast_fp16") in kept for output in op.outputs)


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
    module: nn.Module, full: Program, kind: str, side: int, recipe: CoreMLRecipe, options: PackageOptions,
    inputs: Sequence[Array], path: Path, metadata: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Apply a recipe to a rewritten tower (its weights change) and save the package.

    Args:
        full: the tower's fp32 program.
        inputs: calibration inputs, as the ONNX towers take them.

    Returns:
        what was decided, for the manifest.
    """
    kept = fp32_operations(full, inputs)
    decisions: dict[str, Any] = {
        "kept_in_fp32": kept, "ios": options.ios, "image_input": options.image_input, "batches": list(options.batches),
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
