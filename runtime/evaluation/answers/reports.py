"""A report that a model wrote against a radiologist's: BLEU and chrF by sacrebleu, and token F1.

These compare words, and say little of whether a report is right: "no effusion" and "an effusion" differ in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.metrics import grouped_all
from ...errors import MissingExtraError
from .means import groups_of, mean_of
from .short import token_f1

Floats = NDArray[np.float64]
ORDER = 4  # of BLEU: sequences of up to so many words


def check_installed() -> None:
    """Refuse before any report is written.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    if find_spec("sacrebleu") is None:
        raise MissingExtraError("sacrebleu", "reports")


def scores_of(said: str, right: str) -> dict[str, float]:
    """Figures of one report: chrF (Popović 2015; characters, no words, without case) and token F1, both from 0 to 1."""
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF(lowercase=True).sentence_score(said, [right]).score / 100
    return {"chrf": round(chrf, 6), "f1": round(token_f1(said, right), 6)}


def bleu_counts(rows: Sequence[Mapping[str, Any]]) -> Floats:
    """(N, 2 + 2 ORDER) what BLEU is made of, of each row: words said, words that are right, sequences that agree, sequences said.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    check_installed()
    from sacrebleu.metrics.bleu import BLEU

    measure = BLEU(lowercase=True, max_ngram_order=ORDER, effective_order=True)
    found = [measure.sentence_score(str(row["answer"] or ""), [str(row["label"])]) for row in rows]
    return np.array([[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found], np.float64)


def bleu_of(counts: Floats) -> float:
    """BLEU-4 of a corpus (Papineni et al. 2002), from 0 to 1, without case and without smoothing.

    Args:
        counts: (2 + 2 ORDER,), the sum of what `bleu_counts` gives.
    """
    from sacrebleu.metrics.bleu import BLEU

    said, right, *rest = (int(one) for one in counts)
    score = BLEU.compute_bleu(
        rest[:ORDER], rest[ORDER:], said, right, smooth_method="none", max_ngram_order=ORDER
    ).score
    return float(score) / 100


def figures_of_reports(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """BLEU over all reports, and the means of chrF and token F1, with intervals over patients.

    Args:
        rows: of the file of items, at least one.
    """
    counts = bleu_counts(rows)
    low, high = grouped_all(lambda chosen: np.array([bleu_of(counts[chosen].sum(0))]), groups_of(rows, "group"))[:, 0]
    bleu = {"value": bleu_of(counts.sum(0)), "low": float(low), "high": float(high)}
    means = {name: mean_of(rows, field, "group") for name, field in (("chrf", "chrf"), ("token_f1", "f1"))}
    return {"figures": {"bleu": bleu, **means}, "subgroups": {}}
