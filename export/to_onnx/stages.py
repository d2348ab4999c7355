"""What ONNX towers compute block by block, for parity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...quant.onnx_graph.graph import Graph
from ...runtime.device.onnx_session import OrtSession
from ...runtime.encoder.encoder import Encoder
from ..families.encoder import POOLED
from ..families.full_precision import FullPrecision
from ..format import Array
from .towers import STAGE, export_tower, stage_names


def full_graph(full: FullPrecision, tower: str) -> Graph:
    """The fp32 graph of a tower, exported once; whoever changes it takes a copy."""
    return full.kept(
        ("onnx", tower), lambda: export_tower(full.reference.tower(tower), full.reference.signatures[tower])
    )


class OnnxStages:
    """Stages of ONNX towers, by their names in the graph."""

    timed = True

    def __init__(self, encoder: Encoder, full: FullPrecision) -> None:
        self._encoder, self._full = encoder, full

    def full(self, tower: str, inputs: Array) -> dict[str, Array]:
        return run_stages(full_graph(self._full, tower), self._labels(tower), inputs)

    def small(self, tower: str, inputs: Array) -> dict[str, Array]:
        path = self._encoder.bundle.path(tower)
        assert path is not None
        return run_stages(Graph.load(path), self._labels(tower), inputs)

    def _labels(self, tower: str) -> dict[str, str]:
        output = self._encoder.towers[tower].output
        return stage_labels(full_graph(self._full, tower)) | {output: POOLED}


def engine(_: Encoder) -> dict[str, str]:
    """What runs a bundle's ONNX files here."""
    import onnxruntime

    return {"engine": f"ONNX Runtime {onnxruntime.__version__}"}


def stage_labels(graph: Graph) -> dict[str, str]:
    """The tensors that parity compares, and what their stages are called."""
    return {name: name.removeprefix(STAGE) for name in stage_names(graph)}


def run_stages(graph: Graph, labels: Mapping[str, str], inputs: Array) -> dict[str, Array]:
    """What a graph computes at some places: {label: values}.

    Inputs go through one at a time: a dynamic 8-bit scale must not depend on the neighbours.

    Args:
        graph: the tower.
        labels: {tensor: what to call it}.
        inputs: of the tower.
    """
    session, (name,) = OrtSession(graph.with_outputs(labels), device="cpu"), graph.model.graph.input
    runs = [session.run(list(labels), {name.name: inputs[index : index + 1]}) for index in range(len(inputs))]
    return {
        label: np.concatenate(values).astype(np.float32)
        for label, values in zip(labels.values(), zip(*runs, strict=True), strict=True)
    }
