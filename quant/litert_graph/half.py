"""Weights in 16 bits, as LiteRT's tools write them: a constant in float16, and an operator that widens it.

On a CPU the engine widens them once and computes in 32 bits, so that no value can overflow; the file is half as large. A GPU
delegate computes in 16 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, schema

LARGEST = float(np.finfo(np.float16).max)


def to_half(graph: Graph) -> dict[str, int]:
    """Store matrices and kernels in 16 bits, in place; those whose numbers are too large for it stay as they are.

    Returns:
        how many were stored in 16 bits, and how many stay in 32.
    """
    widen = graph.operator_code(schema.BuiltinOperator.DEQUANTIZE, 3)
    tables = {int(lookup.inputs[1]): lookup for lookup in graph.tables()}
    stored = kept = 0
    for tensor, found in enumerate(graph.tensors):
        if found.type != schema.TensorType.FLOAT32 or not graph.is_constant(tensor) or len(found.shape) < 2:
            continue
        value = graph.array(tensor)
        if np.abs(value).max() > LARGEST:
            kept += 1
            continue
        stored += 1
        readers, shape = graph.readers(tensor), graph.shape(tensor)
        graph.set_value(tensor, value.astype(np.float16), schema.TensorType.FLOAT16)
        if lookup := tables.get(tensor):
            _widen_rows(graph, lookup, widen)
            continue
        wide = graph.add(shape, schema.TensorType.FLOAT32, f"{found.name.decode()} in 32 bits")
        graph.put_first(_widening(widen, tensor, wide))
        for operator in readers:
            operator.inputs = np.array([wide if one == tensor else one for one in operator.inputs], np.int32)
    return {"in_16_bits": stored, "kept_in_32_bits": kept}


def _widen_rows(graph: Graph, operator: Any, widen: int) -> None:
    """Only the rows that a table's look-up finds are widened, not 32,000 of them with each text."""
    (found,) = operator.outputs
    narrow = graph.add(
        graph.shape(int(found)), schema.TensorType.FLOAT16, f"{graph.tensors[int(found)].name.decode()} in 16 bits"
    )
    operator.outputs = np.array([narrow], np.int32)
    graph.put_after(operator, _widening(widen, narrow, int(found)))


def _widening(code: int, source: int, target: int) -> Any:
    return schema.OperatorT(
        opcodeIndex=code, inputs=np.array([source], np.int32), outputs=np.array([target], np.int32),
        builtinOptionsType=schema.BuiltinOptions.DequantizeOptions, builtinOptions=schema.DequantizeOptionsT(),
    )  # fmt: skip
