"""CheXbert: which of fourteen findings a report has, and F1 of a model's reports against radiologists'.

Smit et al. 2020, CheXbert: Combining Automatic Labelers and Expert Annotations for Accurate Radiology Report Labeling Using BERT
(EMNLP, arXiv 2004.09167). The figures are those of the package f1chexbert 0.0.2 (Delbrouck), by which papers report.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .reading import Floats, Reading, Rows, number

# In the order of the published heads.
FINDINGS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding",
)  # fmt: skip
FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")  # of CheXpert's leaderboard
RIGHT, SAID = "chexbert right ", "chexbert said "
_FIVE = [FINDINGS.index(name) for name in FIVE]


def columns_of(right: list[int | None], said: list[int | None]) -> dict[str, float | None]:
    """What a row holds: of each finding 1 (present), 0 (absent), -1 (uncertain) or None (not mentioned), as CheXpert writes them.

    Args:
        right: 14, of the radiologist's report.
        said: 14, of the model's.
    """
    return {
        f"{kind}{finding}": value
        for kind, values in ((RIGHT, right), (SAID, said))
        for finding, value in zip(FINDINGS, values, strict=True)
    }


def positives(rows: Rows) -> NDArray[np.bool_]:
    """(N, 14, 2) whether the radiologist's report has a finding, and whether the model's has.

    Present and uncertain count as having it, absent and not mentioned as not.
    """
    cells = [[[number(row[f"{kind}{finding}"]) for kind in (RIGHT, SAID)] for finding in FINDINGS] for row in rows]
    return np.isin(np.array(cells, np.float64), (1, -1))


def _counts(rows: Rows) -> Floats:
    """(N, 42): of each finding whether both have it, then whether only the model's has it, then whether only the other has it."""
    right, said = np.moveaxis(positives(rows), -1, 0)
    return np.concatenate([right & said, ~right & said, right & ~said], axis=-1).astype(np.float64)


def _values(sums: Floats) -> Floats:
    both, only_said, only_right = sums.reshape(3, len(FINDINGS))
    single = _f1(both, only_said, only_right)
    over = []
    for chosen in (list(range(len(FINDINGS))), _FIVE):
        over += [
            _f1(both[chosen].sum(), only_said[chosen].sum(), only_right[chosen].sum()),
            single[chosen].mean(),
        ]
    return np.array([*over, *single])


def _f1(both: Floats, only_said: Floats, only_right: Floats) -> Floats:
    """F1; 0 where neither has the finding, as scikit-learn's, by which papers report."""
    total = 2 * both + only_said + only_right
    return np.asarray(2 * both / np.where(total == 0, 1, total))


CHEXBERT = Reading(
    protocol="CheXbert (Smit et al. 2020, arXiv 2004.09167) looks for fourteen findings in both reports. Present and uncertain "
    "count as having one, absent and not mentioned as not. Micro F1 is of all findings of all reports together, macro "
    "F1 the mean of the findings' F1, which is 0 where neither report has it; over the fourteen, and over the five of "
    "CheXpert's leaderboard. These are the definitions of the package f1chexbert 0.0.2. Intervals are over patients.",
    columns=(*(f"{RIGHT}{finding}" for finding in FINDINGS), *(f"{SAID}{finding}" for finding in FINDINGS)),
    figures=tuple(f"chexbert_{kind}_f1_of_{count}" for count in (14, 5) for kind in ("micro", "macro")),
    counts=_counts,
    values=_values,
    findings=FINDINGS,
    said=positives,
)  # fmt: skip
