"""What LiteRT towers compute block by block, for parity: the same file with more outputs."""

from __future__ import annotations

from ...quant.litert_graph.graph import Graph
from ...runtime.bundles.facts import file_role
from ...runtime.device.litert.session import LiteRTSession
from ...runtime.encoder.litert import LiteRTEncoder
from ..families.encoder import POOLED
from ..families.full_precision import FullPrecision
from ..format import Array
from .towers import full_graph, stage_tensors


class LiteRTStages:
    """Stages of LiteRT towers, by their names in the file."""

    timed = True

    def __init__(self, encoder: LiteRTEncoder, full: FullPrecision) -> None:
        self._encoder, self._full = encoder, full

    def full(self, tower: str, inputs: Array) -> dict[str, Array]:
        return self._run(full_graph(self._full, tower), tower, inputs)

    def small(self, tower: str, inputs: Array) -> dict[str, Array]:
        path = self._encoder.bundle.path(file_role(self._encoder.format, tower))
        assert path is not None
        return self._run(Graph.read(path.read_bytes()), tower, inputs)

    def _run(self, graph: Graph, tower: str, inputs: Array) -> dict[str, Array]:
        stages = {**stage_tensors(graph), POOLED: graph.outputs[self._encoder.towers[tower].output]}
        names = {f"stage_{number}": tensor for number, tensor in enumerate(stages.values())}
        (given,) = graph.inputs
        found = LiteRTSession(graph.with_outputs(names)).run(list(names), {given: inputs})
        return dict(zip(stages, found, strict=True))
