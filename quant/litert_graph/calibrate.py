"""Run a full-precision model over calibration inputs and gather what the recipes need to know of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.device.litert.session import LiteRTSession
from ..rounding.outer_products import OuterProducts
from .graph import Graph


def second_moments(
    graph: Graph, inputs: Sequence[NDArray[Any]], tensors: Iterable[int]
) -> dict[int, NDArray[np.float32]]:
    """X.T @ X / rows of each tensor's rows X over all inputs, (C, C) float32: the Hessian of a layer's squared error."""
    names = {str(tensor): tensor for tensor in tensors}
    session, (given,) = LiteRTSession(graph.with_outputs(names)), graph.inputs
    totals: dict[str, OuterProducts] = {}
    rows = dict.fromkeys(names, 0)
    for batch in inputs:
        for one in range(len(batch)):
            found = session.run(list(names), {given: batch[one : one + 1]})
            for name, value in zip(names, found, strict=True):
                flat = value.reshape(-1, value.shape[-1])
                totals.setdefault(name, OuterProducts(flat.shape[1])).add(flat)
                rows[name] += len(flat)
    return {names[name]: total.total() / np.float32(max(rows[name], 1)) for name, total in totals.items()}
