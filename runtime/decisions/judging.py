"""What a calibration gives on images on which nothing of it was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..bundles.metrics import expected_calibration_error, proportion
from .calibration import Decision, ScoreCalibration, probabilities
from .facts import Kind, OperatingPoint, Rate
from .labelled import Labelled


def judge(calibration: ScoreCalibration, images: Labelled) -> ScoreCalibration:
    """The calibration with what it gives on these images, on which nothing of it was fitted.

    The kind of each picture is the one that it is taken for, as at every use, not the one that it is of.
    """
    facts = calibration.facts
    decisions = calibration.decide(images.embeddings, images.logits)
    kinds = tuple(
        _judged(kind, images, decisions, images.kinds == place, one=images.one)
        for place, kind in enumerate(facts.kinds)
    )  # fmt: skip
    unlike = np.array([decision.unlike for decision in decisions])
    flagged = None if facts.limit is None else _rate(unlike, images.groups)
    return ScoreCalibration(replace(facts, kinds=kinds, flagged=flagged), calibration.density)


def _judged(
    kind: Kind, images: Labelled, decisions: Sequence[Decision], mine: NDArray[np.bool_], *, one: bool
) -> Kind:  # fmt: skip
    """A kind of picture with what its images show."""
    rows = np.flatnonzero(mine)
    if not len(rows):
        return kind
    points = tuple(
        point and _judged_point(point, place, images.of(rows), [decisions[row] for row in rows.tolist()])
        for place, point in enumerate(kind.points)
    )
    if not one:
        return replace(kind, points=points)
    truth = images.truth[rows].argmax(axis=1)
    covered = np.array([
        images.labels[label] in (decisions[row].likely or ()) for row, label in zip(rows.tolist(), truth, strict=True)
    ])  # fmt: skip
    coverage = None if kind.likely_from is None else _rate(covered, images.groups[rows])
    plain = replace(kind, slopes=(1.0,) * len(kind.slopes), offsets=(0.0,) * len(kind.offsets))
    before, after = (
        expected_calibration_error(probabilities(way, images.logits[rows], one=True), truth) for way in (plain, kind)
    )
    return replace(kind, points=points, coverage=coverage, error_before=before, error_after=after)


def _judged_point(point: OperatingPoint, place: int, images: Labelled, decisions: Sequence[Decision]) -> OperatingPoint:
    """An operating point with what these images show; a picture taken for a kind without the label counts as missed."""
    says = np.array([decision.findings[place].says for decision in decisions])
    truth = images.truth[:, place]
    missed, raised = (says == "absent") | (says == "not calibrated"), says == "present"
    return replace(
        point,
        sensitivity=_rate(~missed[truth == 1], images.groups[truth == 1]) if point.absent_below is not None else None,
        specificity=_rate(~raised[truth == 0], images.groups[truth == 0]) if point.present_above is not None else None,
        uncertain=_rate(says == "uncertain", images.groups),
    )


def _rate(hits: NDArray[np.bool_], groups: NDArray[np.intp]) -> Rate | None:
    """A share with its 95% interval: Wilson's, or, where patients have several images, from resampled patients."""
    if not len(hits):
        return None
    value = float(hits.mean())
    low, high = proportion(hits, groups)
    return Rate(value, min(max(low, 0.0), value), max(min(high, 1.0), value), len(hits))
