"""Compute a CoreML package without CoreML: its ML program, operation by operation, in the precision that it declares.

Nothing on Linux runs these packages, so nobody measures there what a conversion or a compression did to a model. This
reads the saved package as a phone would and computes it; `ops.py` holds the operations, tests hold them against
PyTorch and against coremltools' own folding of constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ....runtime.errors import BundleError
from .ops import OPS, apply
from .package import Constant, Name, Operation, Package, TensorType

FLOATS = {"FLOAT16", "FLOAT32"}
Observer = Callable[[Operation, Mapping[str, Any], Sequence[Any]], None]  # an operation, its arguments and its results


class Program:
    """A package, ready to be computed.

    Args:
        folder: the `.mlpackage`.

    Raises:
        BundleError: it can't be read, or holds an operation that is not known here.
    """

    def __init__(self, folder: Path) -> None:
        self.package = Package(folder)
        self.operations: list[Operation] = []
        self._constants: dict[str, Any] = {}
        found = list(self.package.operations())
        unknown = sorted({op.kind for op in found} - {"const"} - set(OPS))
        if unknown:
            raise BundleError(
                f"{folder} holds the operation{'s' * (len(unknown) > 1)} {', '.join(unknown)}, which medge does not know: "
                "was it made by another tool? Only packages that 'medge export' wrote can be measured here"
            )
        for op in found:
            if op.kind == "const":
                constant = op.attributes["val"]
                self._constants[op.outputs[0][0]] = _held(self.package.read(constant), constant.type)
            elif op.kind.startswith("constexpr_"):
                # Up to iOS 17 such an operation keeps its data in attributes, since iOS 18 in inputs.
                data = {key: _held(self.package.read(value), value.type) for key, value in op.attributes.items()}
                self._keep(op, self._compute(op, {**data, **self._arguments(op, {})}))
            else:
                self.operations.append(op)
        read = {
            item.text
            for op in self.operations
            for values in op.inputs.values()
            for item in values
            if isinstance(item, Name)
        }
        self._constants = {name: value for name, value in self._constants.items() if name in read}
        self._last = self._last_readers()

    def _keep(self, op: Operation, values: Sequence[Any]) -> None:
        for (name, kind), value in zip(op.outputs, values, strict=True):
            self._constants[name] = value if kind.element in FLOATS else np.asarray(value)

    def _last_readers(self) -> dict[int, list[str]]:
        """Which values are read for the last time by which operation: they can be dropped there."""
        last: dict[str, int] = {}
        for index, op in enumerate(self.operations):
            for values in op.inputs.values():
                last |= {item.text: index for item in values if isinstance(item, Name)}
        found: dict[int, list[str]] = {}
        for name, index in last.items():
            if name not in self._constants and name not in self.package.outputs:
                found.setdefault(index, []).append(name)
        return found

    def last_read(self, index: int) -> list[str]:
        """The values that nothing reads after the operation of this number."""
        return self._last.get(index, [])

    @torch.inference_mode()
    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]], *, observer: Observer | None = None
    ) -> list[NDArray[Any]]:
        """Compute values by their names, intermediate ones too.

        Args:
            outputs: names of values.
            inputs: arrays by input name. An image is (B, 3, H, W) with values 0 to 255.
            observer: sees every operation, its arguments and results, as they are computed.

        Raises:
            BundleError: an input is missing or of a shape that the package does not take.
        """
        values: dict[str, Any] = {}
        for item in self.package.inputs:
            if item.name not in inputs:
                raise BundleError(f"{self.package.folder.name} needs the input {item.name!r}")
            array = np.asarray(inputs[item.name])
            if array.shape not in item.shapes:
                listed = " or ".join(str(shape) for shape in item.shapes)
                raise BundleError(f"{self.package.folder.name}: {item.name} is {array.shape}, takes {listed}")
            values[item.name] = torch.from_numpy(np.ascontiguousarray(array))
        wanted: dict[str, Any] = {name: values[name] for name in outputs if name in values}
        for index, op in enumerate(self.operations):
            arguments = self._arguments(op, values)
            results = self._compute(op, arguments)
            if observer is not None:
                observer(op, arguments, results)
            for (name, _), value in zip(op.outputs, results, strict=True):
                values[name] = value
                if name in outputs:
                    wanted[name] = value
            if len(wanted) == len(set(outputs)):
                break
            for name in self.last_read(index):
                values.pop(name, None)
        missing = [name for name in outputs if name not in wanted]
        if missing:
            raise BundleError(f"{self.package.folder.name} computes no {missing[0]!r}")
        return [np.asarray(wanted[name]) for name in outputs]

    def _arguments(self, op: Operation, values: Mapping[str, Any]) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for key, items in op.inputs.items():
            found = [self._fetch(item, values) for item in items]
            arguments[key] = found if key == "values" or len(found) != 1 else found[0]
        return arguments

    def _compute(self, op: Operation, arguments: Mapping[str, Any]) -> Sequence[Any]:
        results = apply(op.kind, arguments)
        return [_rounded(value, kind) for value, (_, kind) in zip(results, op.outputs, strict=True)]

    def _fetch(self, item: Name | Constant, values: Mapping[str, Any]) -> Any:
        if isinstance(item, Constant):
            return _held(self.package.read(item), item.type)
        return values[item.text] if item.text in values else self._constants[item.text]


def _held(value: Any, kind: TensorType) -> Any:
    """How a constant is kept: floats as float32 tensors, the rest as it was read; scalars as Python's."""
    if kind.element == "STRING":
        return value
    array = np.asarray(value)
    if array.ndim == 0:
        return array.item()
    # A copy: it must outlive the map of the weight file, and torch wants to own what it may write to.
    return torch.from_numpy(array.astype(np.float32)) if kind.element in FLOATS else array.copy()


def _rounded(value: Any, kind: TensorType) -> Any:
    """Bring a result to its declared type; fp16 is rounded (to infinity beyond 65504) and held in float32."""
    if kind.element == "FLOAT16":
        return value.half().float()
    return value.float() if kind.element == "FLOAT32" else value


def residual_names(program: Program) -> list[str]:
    """What parity calls stages, found by structure: the patch (or token) embedding, then each block's output.

    A residual addition is one of two computed values; there are two of them in a block, and the first reads the embedding.
    """
    computed = {name for op in program.operations for name, _ in op.outputs}
    additions = []
    for op in program.operations:
        operands = [item.text for key in ("x", "y") for item in op.inputs.get(key, ()) if isinstance(item, Name)]
        if op.kind == "add" and len(operands) == 2 and all(name in computed for name in operands):
            additions.append((op.outputs[0][0], operands))
    if not additions:
        return []
    blocks = [name for name, _ in additions[1::2]]
    order = [name for op in program.operations for name, _ in op.outputs]
    return [min(additions[0][1], key=order.index), *blocks]
