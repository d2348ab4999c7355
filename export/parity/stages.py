"""The same tower on both sides, stage by stage, in two hops: PyTorch to fp32 graph, fp32 graph to bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...runtime.bundles.figures import StageRow
from ..families.encoder import PATCH, EncoderReference
from ..format import Array, StageSource

STAGE_SAMPLES = 4  # inputs whose every block is compared; embeddings are compared on all


def compare_stages(source: StageSource, reference: EncoderReference, tower: str, inputs: Array) -> tuple[StageRow, ...]:
    """One tower of a bundle against PyTorch: a row for each stage that can be compared."""
    exact = reference.stages(tower, inputs).stages
    rows = two_hops(exact, source.full(tower, inputs), source.small(tower, inputs))
    first = "token embedding" if tower == "text" else PATCH
    return tuple(replace(row, stage=first) if row.stage == PATCH else row for row in rows)


def two_hops(exact: Mapping[str, Array], full: Mapping[str, Array], small: Mapping[str, Array]) -> tuple[StageRow, ...]:
    """PyTorch to the exported fp32 graph, and on to the bundle, at each stage that can be compared."""
    return tuple(
        replace(
            one_hop(label, exact[label], small[label]),
            pytorch_to_fp32=_relative(exact[label], full[label]),
            fp32_to_bundle=_relative(full[label], small[label]),
        )
        for label in full
        # Where tokens were merged, only the ends can be compared.
        if label in small and full[label].shape == small[label].shape
    )


def one_hop(label: str, exact: Array, bundle: Array) -> StageRow:
    """PyTorch to the bundle at one stage, where there is no full-precision graph between the two."""
    return StageRow(label, _relative(exact, bundle), float(np.abs(exact - bundle).max()))


def _relative(exact: Array, other: Array) -> float:
    """Norm of the error over the norm of the value."""
    return float(np.linalg.norm(exact - other) / max(float(np.linalg.norm(exact)), 1e-30))
