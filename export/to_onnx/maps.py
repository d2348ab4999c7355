"""The output of a vision tower from which maps are made, put behind the graph that a recipe has made.

It is exported by itself and added after quantization, so that everything before it stays as it was, and what the head is taken
apart with is in fp32 whatever the recipe: contributions are small beside their sum, and would be lost in 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...quant.onnx_graph.graph import Graph
from ...runtime.bundles.facts import MAP_OUTPUT
from ..families.contributions import PatchContributions
from ..families.encoder import Signature
from ..families.token_merging import MergingTower, patches
from .towers import export_module

OUTPUT = "patch_contributions"
TOKENS, SOURCES = "last_hidden_state", "sources"


class _Behind(nn.Module):
    """Gives the nodes of what it holds a name of their own."""

    def __init__(self, contributions: PatchContributions) -> None:
        super().__init__()
        self.contributions = contributions

    def forward(self, hidden: torch.Tensor, sources: torch.Tensor | None = None) -> torch.Tensor:
        found: torch.Tensor = self.contributions(hidden, sources)
        return found


def followed(signature: Signature) -> Signature:
    """How a tower that merges is called where it says which patches are in each token; the last output stays the last."""
    *others, last = signature.outputs
    return Signature(signature.inputs, (*others, SOURCES, last))


def map_graph(tower: Any) -> Graph:
    """The graph that goes behind a vision tower's, in fp32; exported once, it fits every recipe.

    Args:
        tower: the module that the tower's graph was exported from.
    """
    tokens = tower.tokens if isinstance(tower, MergingTower) else patches(tower)
    inputs = {TOKENS: torch.zeros(2, tokens, tower.config.hidden_size)}
    if isinstance(tower, MergingTower):
        inputs[SOURCES] = torch.ones(2, tokens, patches(tower))
    return export_module(_Behind(PatchContributions(tower)), inputs, [OUTPUT])


def add_map_output(graph: Graph, behind: Graph) -> dict[str, str]:
    """Put a tower's contributions behind its graph, in place.

    Args:
        graph: the tower, by any recipe; one that merges by the signature that `followed` gives.
        behind: as `map_graph` makes it of the same tower.

    Returns:
        what the manifest says of it, among the tower's decisions.
    """
    graph.append(behind)
    graph.drop_output(SOURCES)
    return {MAP_OUTPUT: OUTPUT}
