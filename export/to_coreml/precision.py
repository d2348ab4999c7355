"""Which operations of an ML program must stay in fp32, seen on calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...quant.onnx_graph.half import FP16_MAX, HEADROOM
from .mil.evaluator import FLOATS, Program
from .mil.ops import apply
from .mil.package import Name, Operation
from .write import OUTPUT, Array, model_inputs

DRIFT = 0.02  # relative error that a value may have gathered by computing in fp16


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
