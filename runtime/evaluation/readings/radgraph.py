"""RadGraph F1: entities and relations that a model's report and the radiologist's have in common, by the package radgraph."""

from __future__ import annotations

import numpy as np

from .reading import Floats, Reading, Rows, number

KINDS = ("simple", "partial", "complete")
COLUMNS = tuple(f"radgraph {kind}" for kind in KINDS)


def _counts(rows: Rows) -> Floats:
    """(N, 4): the three F1 of each report, and 1."""
    return np.array([[*(number(row[column]) for column in COLUMNS), 1.0] for row in rows])


def _values(sums: Floats) -> Floats:
    return np.asarray(sums[:-1] / sums[-1])


RADGRAPH = Reading(
    protocol="RadGraph (Jain et al. 2021, arXiv 2106.14463; Delbrouck et al. 2022 and 2024) marks entities and relations in "
    "both reports. F1 of what they share, by the package radgraph 0.1.18, mean over reports: simple is of entities, "
    "partial of entities with whether they have a relation (RG_ER, which most papers give), complete of entities with "
    "their relations. A report without any entity has 0. Intervals are over patients.",
    columns=COLUMNS,
    figures=tuple(f"radgraph_{kind}_f1" for kind in KINDS),
    counts=_counts,
    values=_values,
)  # fmt: skip
