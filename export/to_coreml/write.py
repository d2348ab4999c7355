"""SigLIP's towers to CoreML packages: `torch.export`, coremltools, then a recipe.

The tower is first rewritten for the Neural Engine (`neural_engine.py`) and converted in fp32. That program, computed by our
evaluator on calibration inputs, says which operations would overflow or drift in fp16; they stay in fp32, all else is
converted to fp16 and compressed through coremltools.optimize.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...runtime.bundles.manifest import LICENCE_NOTICE
from ..families.token_merging import MergingTower
from .mil.evaluator import Program
from .neural_engine import IMAGE_BIAS, IMAGE_SCALE, TextTower, VisionTower, gelu
from .options import PackageOptions
from .quietly import check, checked_once, coremltools, quiet

OUTPUT = "pooler_output"

INPUTS = {"vision": "pixel_values", "text": "input_ids"}

IMAGE = "image"


Array = NDArray[Any]


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


def trace(module: nn.Module, kind: str, side: int, options: PackageOptions) -> torch.export.ExportedProgram:
    """A module as the graph that coremltools reads, more than half of a conversion's time.

    Args:
        side: pixels of a side, or tokens of a text.
    """
    shape, dtype = _shape_of(kind, side)
    batches = _batches(kind, options)
    example = torch.zeros((max(batches), *shape), dtype=dtype)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=max(batches))},) if len(batches) > 1 else None
    with quiet():
        return torch.export.export(module, (example,), dynamic_shapes=dynamic).run_decompositions({})


def with_weights(traced: torch.export.ExportedProgram, module: nn.Module) -> torch.export.ExportedProgram:
    """The traced graph, from now on with the weights of another module of the same form."""
    for name, tensor in module.state_dict().items():
        assert traced.state_dict[name].shape == tensor.shape
        traced.state_dict[name] = tensor
    return traced


def without_weights(traced: torch.export.ExportedProgram) -> None:
    """Leave of the weights their shapes: a graph that waits for others holds none in memory."""
    for name, tensor in traced.state_dict.items():
        traced.state_dict[name] = tensor.to("meta")


def convert(
    traced: torch.export.ExportedProgram, kind: str, side: int, options: PackageOptions, half: Any = None
) -> Any:
    """A traced module to an unsaved CoreML model.

    Args:
        side: pixels of a side, or tokens of a text.
        half: chooses the operations that are computed in fp16; all in fp32 where None.
    """
    ct = coremltools()
    shape, _ = _shape_of(kind, side)
    batches = _batches(kind, options)
    allowed: Any = (batches[0], *shape)
    if len(batches) > 1:
        allowed = ct.EnumeratedShapes([(size, *shape) for size in batches], default=(batches[0], *shape))
    if kind == "vision" and options.image_input:
        scale, bias = IMAGE_SCALE, [IMAGE_BIAS] * 3
        given = ct.ImageType(IMAGE, (1, *shape), scale=scale, bias=bias, color_layout=ct.colorlayout.RGB)
    else:
        given = ct.TensorType(INPUTS[kind], allowed, dtype=np.float32 if kind == "vision" else np.int32)
    with quiet(), checked_once():
        model = ct.convert(
            traced, inputs=[given], outputs=[ct.TensorType(OUTPUT, dtype=np.float32)],
            minimum_deployment_target={17: ct.target.iOS17, 18: ct.target.iOS18}[options.ios],
            compute_precision=ct.precision.FLOAT32 if half is None else ct.transform.FP16ComputePrecision(half),
        )  # fmt: skip
    return check(model)


def _shape_of(kind: str, side: int) -> tuple[tuple[int, ...], torch.dtype]:
    """Of one input."""
    return ((3, side, side), torch.float32) if kind == "vision" else ((side,), torch.int32)


def _batches(kind: str, options: PackageOptions) -> tuple[int, ...]:
    """An image comes alone."""
    return (1,) if kind == "vision" and options.image_input else options.batches


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
