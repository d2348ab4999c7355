"""8-bit weights with a scale for each output; the engine brings each row that enters to 8 bits as it comes.

LiteRT quantizes what enters a layer token by token, so neither a batch's neighbours nor other patches change an input's scale.
"""

from __future__ import annotations

import numpy as np

from ..rounding.eight_bit import to_8_bit
from .graph import Graph, schema


def linears_to_8_bit(graph: Graph) -> int:
    """Store the weight of each linear layer in 8 bits, in place; returns how many layers that were."""
    linears = graph.linears()
    for linear in linears:
        _to_8_bit(graph, linear.weight)
        linear.operator.opcodeIndex = graph.operator_code(schema.BuiltinOperator.FULLY_CONNECTED, 12)
    return len(linears)


def tables_to_8_bit(graph: Graph) -> None:
    """Store each look-up table (the token embedding) in 8 bits with a scale for each row, in place.

    Only the rows that are looked up are widened, so the table costs a quarter on disk and in memory.
    """
    for lookup in graph.tables():
        _to_8_bit(graph, int(lookup.inputs[1]))
        lookup.opcodeIndex = graph.operator_code(schema.BuiltinOperator.EMBEDDING_LOOKUP, 3)


def _to_8_bit(graph: Graph, tensor: int) -> None:
    levels, scales = to_8_bit(graph.array(tensor).astype(np.float32), axis=1)
    graph.set_value(tensor, levels, schema.TensorType.INT8)
    graph.set_scales(tensor, scales[:, 0])
