"""The same tower on both sides, stage by stage, in two hops: PyTorch to fp32 graph, fp32 graph to bundle."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..families.encoder import PATCH, EncoderReference
from ..format import Array, StageSource

STAGE_SAMPLES = 4  # inputs whose every block is compared; embeddings are compared on all


def compare_stages(source: StageSource, reference: EncoderReference, tower: str, inputs: Array) -> list[dict[str, Any]]:
    """One tower of a bundle against PyTorch: a row for each stage that can be compared."""
    exact = reference.stages(tower, inputs).stages
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
