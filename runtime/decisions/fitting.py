"""Fit a calibration of scores on labelled images, and judge it on a part of them that nothing was fitted on.

The images are drawn into three parts by patient: slopes, offsets and the density of embeddings are fitted on the first,
thresholds are quantiles of the second, and what came out is seen on the third.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, MissingExtraError
from .calibration import ScoreCalibration, probabilities
from .density import fit_density
from .facts import Kind, OperatingPoint, ScoreFacts, Wanted
from .judging import judge
from .labelled import Labelled

PARTS = (0.4, 0.4)  # for slopes and density, and for thresholds; the rest judges
STEEPEST = 100.0  # of slopes: scores that part a few images without an error would ask for an infinite one


@dataclass(frozen=True)
class Belongs:
    """What a calibration belongs to, as in `ScoreFacts`."""

    fingerprint: str
    labels_sha256: str
    source: str


def fit(images: Labelled, wanted: Wanted, belongs: Belongs, seed: int = 0) -> ScoreCalibration:
    """Fit and judge.

    Raises:
        CalibrationError: too few images, a kind without images, or a label whose scores are higher where it does not hold.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        import sklearn.linear_model  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "probe") from error
    first, second, third = parts(images.groups, seed)
    fitted, placed, judged = images.of(first), images.of(second), images.of(third)
    if lonely := [name for place, name in enumerate(images.kind_names) if not (fitted.kinds == place).any()]:
        named = " and ".join(name or "all" for name in lonely)
        raise CalibrationError(f"{len(images)} images are too few: none of the kind {named} is left to fit on")
    cells, centres = _cells(fitted)
    density = fit_density(fitted.embeddings, cells)
    limit = _at_most(density.nearest(placed.embeddings)[0], wanted.known)
    kinds = tuple(
        _kind(name, images.of(images.kinds == place), fitted.of(fitted.kinds == place), placed.of(placed.kinds == place), wanted)
        for place, name in enumerate(images.kind_names)
    )  # fmt: skip
    facts = ScoreFacts(
        "one label" if images.one else "findings", images.labels, kinds, centres, limit, wanted,
        belongs.fingerprint, belongs.labels_sha256, belongs.source, len(images), seed,
    )  # fmt: skip
    return judge(ScoreCalibration(facts, density), judged)


def parts(groups: NDArray[np.intp], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Three parts of the rows, by patient: (A,), (B,) and (C,) row numbers."""
    names = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    ends = np.cumsum([round(share * len(names)) for share in PARTS])
    first, second, third = np.split(names[order], ends)
    rows = [np.flatnonzero(np.isin(groups, part)) for part in (first, second, third)]
    if min(map(len, rows)) == 0:
        raise CalibrationError(
            f"{len(names)} images, or patients, are too few to calibrate on: some hundreds are needed"
        )
    return rows[0], rows[1], rows[2]


def _cells(images: Labelled) -> tuple[NDArray[np.intp], tuple[int, ...]]:
    """The centre that each image is of, (N,), and each centre's kind: one a label of a kind, or, of findings, one a kind."""
    label = images.truth.argmax(axis=1) if images.one else np.zeros(len(images), np.intp)
    pairs, cells = np.unique(np.stack([images.kinds, label], axis=1), axis=0, return_inverse=True)
    return cells.ravel().astype(np.intp), tuple(pairs[:, 0].tolist())


def _kind(name: str, images: Labelled, fitted: Labelled, placed: Labelled, wanted: Wanted) -> Kind:
    """The calibration of one kind of picture."""
    present = [bool((images.truth[:, place] == 1).any()) for place in range(len(images.labels))]
    if images.one and sum(present) < 2:
        only = images.labels[present.index(True)]
        raise CalibrationError(f"all images of the kind '{name}' have the label {only}: there is nothing to tell apart")
    blank = tuple(OperatingPoint(None, None, 0, 0) if there else None for there in present)
    count = len(images.labels)
    kind = Kind(name, len(images), (1.0,) * count, (0.0,) * count, blank)
    kind = _with_temperature(kind, fitted) if images.one else _with_slopes(kind, fitted)
    shares = probabilities(kind, placed.logits, one=images.one)
    points = tuple(
        point and _point(shares[:, place], placed.truth[:, place], wanted) for place, point in enumerate(kind.points)
    )
    likely = _at_least(shares[placed.truth == 1], wanted.coverage) if images.one else None
    return replace(kind, points=points, likely_from=likely)


def _with_temperature(kind: Kind, images: Labelled) -> Kind:
    """The temperature of the least log loss (Guo et al. 2017), which is convex in the slope."""
    from scipy.optimize import minimize_scalar

    truth = images.truth.argmax(axis=1)

    def loss(log_slope: float) -> float:
        steep = replace(kind, slopes=(math.exp(log_slope),) * len(kind.slopes))
        shares = probabilities(steep, images.logits, one=True)
        return float(-np.log(np.maximum(shares[np.arange(len(truth)), truth], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(math.log(1e-3), math.log(STEEPEST)), method="bounded")
    return replace(kind, slopes=(math.exp(float(found.x)),) * len(kind.slopes))


def _with_slopes(kind: Kind, images: Labelled) -> Kind:
    """Platt's scaling for each finding: a logistic regression on its logit alone."""
    from sklearn.linear_model import LogisticRegression

    slopes, offsets, points = list(kind.slopes), list(kind.offsets), list(kind.points)
    for place in range(len(images.labels)):
        known = ~np.isnan(images.truth[:, place])
        truth, logits = images.truth[known, place], images.logits[known, place]
        if len(np.unique(truth)) < 2:
            points[place] = None
            continue
        middle, spread = logits.mean(), max(float(logits.std()), 1e-6)
        model = LogisticRegression(C=1e3).fit(((logits - middle) / spread)[:, None], truth)
        slope = float(model.coef_[0, 0]) / spread
        if slope <= 0:  # a threshold on them would call the ill well: nothing is said of this label
            points[place] = None
            continue
        slopes[place] = min(slope, STEEPEST)
        offsets[place] = float(model.intercept_[0]) - slopes[place] * float(middle)
    return replace(kind, slopes=tuple(slopes), offsets=tuple(offsets), points=tuple(points))


def _point(shares: NDArray[np.float64], truth: NDArray[np.float64], wanted: Wanted) -> OperatingPoint:
    """The thresholds of a label, from the images that have it and those that don't."""
    there, gone = shares[truth == 1], shares[truth == 0]
    low = None if wanted.sensitivity is None else _at_least(there, wanted.sensitivity)
    high = None if wanted.specificity is None else _at_most(gone, wanted.specificity)
    if wanted.specificity is None:
        high = low
    if wanted.sensitivity is None:
        low = high
    if low is not None and high is not None and low > high:  # one cut between the two gives both that was asked for
        low = high = min(max(0.5, high), low)
    return OperatingPoint(low, high, len(there), len(gone))


def _at_least(values: NDArray[np.float64], share: float) -> float | None:
    """What at least this share of values like these reach, for the next one as well; None where they are too few to say."""
    place = math.floor((len(values) + 1) * (1 - share) + 1e-9)
    return float(np.sort(values)[place - 1]) if place >= 1 else None


def _at_most(values: NDArray[np.float64], share: float) -> float | None:
    """What at least this share of values like these don't exceed, for the next one as well; None where they are too few."""
    found = _at_least(-values, share)
    return None if found is None else -found
