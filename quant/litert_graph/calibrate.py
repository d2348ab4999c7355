"""Run a full-precision model over calibration inputs and gather what the recipes need to know of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.device.litert.session import LiteRTSession
from ..rounding.outer_products import mean_products
from .graph import Graph


def second_moments(
    graph: Graph, inputs: Sequence[NDArray[Any]], tensors: Iterable[int]
) -> dict[int, NDArray[np.float32]]:
    """`mean_products` of these tensors over all inputs; what one input makes is let go before the next runs."""
    names = {str(tensor): tensor for tensor in tensors}
    session, (given,) = LiteRTSession(graph.with_outputs(names)), graph.inputs
    single = (batch[one : one + 1] for batch in inputs for one in range(len(batch)))
    found = (session.run(list(names), {given: one}) for one in single)
    return mean_products(dict(zip(names.values(), values, strict=True)) for values in found)
