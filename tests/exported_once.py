"""Towers traced once in a test run: PyTorch takes ten seconds for one, and dozens of tests ask for the same few.

What is kept lies in files of the run, for all of pytest-xdist's processes together, under a hash of the tower's weights, form and
configuration. Tests of the exporters call them by their own names (`towers.export_tower`, `write.convert`) and get them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from medge.export.families.encoder import Signature
from medge.export.families.full_precision import FullPrecision
from medge.export.parity import generator_stages
from medge.export.to_coreml import compress, packages
from medge.export.to_coreml.options import PackageOptions
from medge.export.to_coreml.weights import Compressing
from medge.export.to_onnx import format as onnx_format
from medge.export.to_onnx import image_tokens, stages
from medge.export.to_onnx.towers import export_tower
from medge.quant.onnx_graph.graph import Graph

Once = Callable[[str, Callable[[Path], object]], Path]


def _hash(tower: Any, *asked: object) -> str:
    """Of everything that an export depends on: weights, modules, what is merged, the configuration and the call."""
    found = hashlib.sha256()
    for name, tensor in tower.state_dict().items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        found.update(tensor.detach().contiguous().view(-1).numpy().data)
    numbers = [
        (
            name,
            type(part).__name__,
            [getattr(part, key, None) for key in ("merged", "queries", "tokens", "kernel_size")],
        )
        for name, part in tower.named_modules()
    ]
    found.update(repr((numbers, getattr(tower, "config", None), asked)).encode())
    return found.hexdigest()[:32]


@contextlib.contextmanager
def exported_once(once: Once) -> Iterator[None]:
    """While it is open, jobs find each tower's full-precision graph and program where the first of them put it."""

    def export(tower: Any, signature: Signature) -> Graph:
        def write(folder: Path) -> None:
            folder.mkdir(parents=True)
            export_tower(tower, signature).save(folder / "tower.onnx")

        return Graph.load(once(f"towers/{_hash(tower, signature)}", write) / "tower.onnx")

    write_package = packages.write_full

    def package(full: FullPrecision, tower: str, options: PackageOptions, path: Path) -> Path:
        def write(folder: Path) -> None:
            folder.mkdir(parents=True)
            write_package(full, tower, options, folder / path.name)

        return once(f"packages/{_hash(full.reference.tower(tower), tower, options)}", write) / path.name

    # Recipes that leave a tower's weights to coremltools begin with the same model, which none of them changes.
    half_precision, models = compress.half_precision, dict[str, Any]()

    def half(work: Compressing, kept: Mapping[str, str], convert: compress.Convert) -> Any:
        key = _hash(work.module, work.tower, replace(work.options, target_size=None), dict(kept))
        if key not in models:
            models[key] = half_precision(work, kept, convert)
        return models[key]

    with contextlib.ExitStack() as stack:
        for module in (stages, onnx_format, image_tokens, generator_stages):
            stack.enter_context(mock.patch.object(module, "export_tower", export))
        stack.enter_context(mock.patch.object(packages, "write_full", package))
        stack.enter_context(mock.patch.object(compress, "half_precision", half))
        yield
