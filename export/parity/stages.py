"""The same tower on both sides, stage by stage, in two hops: PyTorch to fp32 graph, fp32 graph to bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ...quant.onnx_graph.graph import Graph
from ...runtime.device.onnx_session import OrtSession
from ...runtime.encoder.encoder import Encoder
from ..families.siglip import PATCH, POOLED, Reference
from ..to_onnx.towers import STAGE, export_tower, stage_names
from .encoder import Array

STAGE_SAMPLES = 4  # inputs whose every block is compared; embeddings are compared on all


class StageSource(Protocol):
    """Computes {stage: (N, ...)} of a tower for a few inputs, in full precision and as the bundle does.

    `timed`: whether the encoder's time says anything of the device's.
    """

    @property
    def timed(self) -> bool: ...

    def full(self, tower: str, inputs: Array) -> dict[str, Array]: ...

    def small(self, tower: str, inputs: Array) -> dict[str, Array]: ...

    def engine(self) -> dict[str, str]:
        """What ran the bundle, for the report."""
        ...


class OnnxStages:
    """Stages of ONNX towers, by their names in the graph.

    Args:
        graphs: the fp32 towers where the caller has them; exported afresh otherwise.
    """

    timed = True

    def __init__(self, encoder: Encoder, reference: Reference, graphs: dict[str, Graph] | None = None) -> None:
        self._encoder, self._reference, self._graphs = encoder, reference, dict(graphs or {})

    def full(self, tower: str, inputs: Array) -> dict[str, Array]:
        if tower not in self._graphs:
            self._graphs[tower] = export_tower(self._reference.tower(tower), tower)
        return run_stages(self._graphs[tower], self._labels(tower), inputs)

    def small(self, tower: str, inputs: Array) -> dict[str, Array]:
        path = self._encoder.bundle.path(tower)
        assert path is not None
        return run_stages(Graph.load(path), self._labels(tower), inputs)

    def engine(self) -> dict[str, str]:
        import onnxruntime

        return {"engine": f"ONNX Runtime {onnxruntime.__version__}"}

    def _labels(self, tower: str) -> dict[str, str]:
        return stage_labels(self._graphs[tower]) | {"pooler_output": POOLED}


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


def _compare_stages(source: StageSource, reference: Reference, tower: str, inputs: Array) -> list[dict[str, Any]]:
    exact = (reference.images(inputs) if tower == "vision" else reference.texts(inputs)).stages
    rows = two_hops(exact, source.full(tower, inputs), source.small(tower, inputs))
    named = {"stage": "token embedding"} if tower == "text" else {}
    return [row | named if row["stage"] == PATCH else row for row in rows]


def two_hops(exact: dict[str, Array], full: dict[str, Array], small: dict[str, Array]) -> list[dict[str, Any]]:
    """PyTorch to the exported fp32 graph, and on to the bundle, at each stage that can be compared."""
    return [
        {
            "stage": label,
            "pytorch_to_fp32": _relative(exact[label], full[label]),
            "fp32_to_bundle": _relative(full[label], small[label]),
            "pytorch_to_bundle": _relative(exact[label], small[label]),
            "max_error": float(np.abs(exact[label] - small[label]).max()),
        }
        for label in full
        # Where tokens were merged, only the ends can be compared.
        if label in small and full[label].shape == small[label].shape
    ]


def _relative(exact: Array, other: Array) -> float:
    """Norm of the error over the norm of the value."""
    return float(np.linalg.norm(exact - other) / max(float(np.linalg.norm(exact)), 1e-30))
