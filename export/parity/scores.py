"""The answers that an encoder's embeddings give together: scores of labels on both sides, and against the images' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.bundles.figures import (
    MOST_SHOWN,
    Calibration,
    CalibrationBins,
    Confusions,
    Curve,
    Curves,
    EncoderPlots,
    ImageAnswer,
    Interval,
    LabelFigures,
    Paired,
    Rates,
    ScoreFigures,
    ScorePoints,
)  # fmt: skip
from ...runtime.encoder.embedder import softmax
from ...runtime.encoder.encoder import Encoder
from ...runtime.encoder.labels import LabelBank, Prompts, as_prompts
from ..source.samples import Samples, spread
from .kept_reference import Reference

Array = NDArray[Any]


@dataclass(frozen=True)
class Side:
    """One side's scores of images and labels, (N, C): logits, and their softmax."""

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, logits: NDArray[np.float64]) -> Side:
        return cls(logits, softmax(logits).astype(np.float64))

    def columns(self, order: Sequence[int]) -> Side:
        """The scores of these labels alone, as they came out among all."""
        return Side(self.logits[:, order], self.probabilities[:, order])


@dataclass(frozen=True)
class Scores:
    """Both sides' scores of the same images and labels; `truth` and `known` (its labels) where the images have labels."""

    names: tuple[str, ...]
    reference: Side
    bundle: Side
    truth: NDArray[np.intp] | None
    known: tuple[str, ...]

    def against_truth(self) -> tuple[Side, Side]:
        """The scores of the labels that the images have, in the order of `known`."""
        order = [self.names.index(label) for label in self.known]
        return self.reference.columns(order), self.bundle.columns(order)


@dataclass(frozen=True)
class Banks:
    """The same labels embedded by the reference and by the bundle."""

    reference: LabelBank
    bundle: LabelBank
    logits: Callable[[NDArray[np.float32]], NDArray[np.float64]]  # of cosines

    def score(self, theirs: Array, ours: Array, samples: Samples) -> Scores:
        """Score images on both sides.

        Args:
            theirs, ours: the images' embeddings by the reference and by the bundle, (N, D), each of its own width.
            samples: the images, for their labels.
        """
        sides = Side.of(self._logits(theirs, self.reference)), Side.of(self._logits(ours, self.bundle))
        return Scores(tuple(self.reference.names), *sides, samples.truth, samples.labels)

    def row(self, theirs: Array, ours: Array) -> dict[str, Any]:
        """What an image's two embeddings say, (D,) each, for the user's file of rows."""
        answers = [
            self.reference.names[int(self._logits(embedding, bank).argmax())]
            for embedding, bank in ((theirs, self.reference), (ours, self.bundle))
        ]
        same_space = theirs.shape == ours.shape  # a student's is another
        cosine = round(float(metrics.cosine(theirs[None], ours[None])[0]), 6) if same_space else None
        return {"reference_says": answers[0], "bundle_says": answers[1], "cosine": cosine}

    def _logits(self, embeddings: Array, bank: LabelBank) -> NDArray[np.float64]:
        return self.logits(embeddings @ bank.embeddings.T)


def banks_of(encoder: Encoder, reference: Reference, samples: Samples, prompts: Prompts | None) -> Banks:
    """Embed labels on both sides.

    Args:
        encoder, reference: the bundle and the model in PyTorch.
        samples: the images, for their labels.
        prompts: as in `encoder.measure`.

    Raises:
        LabelError: the images' folders are not all labels.
    """
    return Banks(*_score_banks(encoder, reference, samples, prompts), encoder.logits)


def _score_banks(
    encoder: Encoder, reference: Reference, samples: Samples, prompts: Prompts | None
) -> tuple[LabelBank, LabelBank]:
    baked = encoder.label_bank
    if prompts is None:
        usual = as_prompts(samples.labels or ["x-ray", "CT scan", "MRI", "ultrasound image", "photograph"])
        prompts = baked.prompts if baked is not None else usual
    samples.check_labels(list(prompts))
    theirs = LabelBank.build(prompts, reference.embed_texts)
    if baked is not None and prompts == baked.prompts:
        return theirs, baked
    if "text" not in encoder.towers:  # no text tower to ask: the bundle's images against the reference's bank
        return theirs, theirs
    return theirs, LabelBank.build(prompts, encoder.embed_texts)


def compare_scores(scores: Scores) -> ScoreFigures:
    """The distance of the answers, and each side's against the images' own labels where they have some."""
    p, q = scores.reference.probabilities, scores.bundle.probabilities
    a, b = scores.reference.logits, scores.bundle.logits
    flips = metrics.flips(a, b)
    # Where no answer changed, resampling changes none: its interval would be from 0 to 0, whatever the number of images.
    changed = Interval(flips, *metrics.wilson(round(flips * len(a)), len(a)))
    figures = ScoreFigures(
        labels=scores.names,
        flips=flips,
        images=len(a),
        intervals={"flips": changed},
        kl_divergence=float((p * np.log(np.maximum(p, 1e-12) / np.maximum(q, 1e-12))).sum(-1).mean()),
        max_error=float(np.abs(p - q).max()),
    )
    if scores.truth is None:
        return figures
    sides, truth = scores.against_truth(), scores.truth
    accuracy = _paired([metrics.accuracy_of(side.logits, truth) for side in sides], len(truth))
    # AUC ranks images within a class by the margin over the others: the sum over labels says nothing by itself.
    auc = _paired([metrics.macro_auc_of(_margins(side.logits), truth) for side in sides], len(truth))
    ece = _paired([metrics.expected_calibration_error_of(side.probabilities, truth) for side in sides], len(truth))
    confusions = [metrics.confusion(side.logits, truth) for side in sides]
    return replace(
        figures,
        accuracy=accuracy,
        auc=auc if isfinite(auc.difference.value) else None,  # of one label alone there is none
        ece=ece,
        auc_difference=abs(auc.difference.value) if isfinite(auc.difference.value) else None,
        confusions=Confusions(scores.known, *(tuple(tuple(row) for row in matrix.tolist()) for matrix in confusions)),
        by_label=tuple(
            LabelFigures(label, int(confusions[0][index].sum()), *(_rates(matrix, index) for matrix in confusions))
            for index, label in enumerate(scores.known)
        ),
    )


def score_plots(scores: Scores, theirs: Array, ours: Array) -> EncoderPlots:
    """What is drawn of them; `theirs` and `ours` are the images' embeddings in one space, (N, D)."""
    points = spread(scores.reference.probabilities.size, 2000)
    sides = (scores.reference.probabilities, scores.bundle.probabilities)
    plots = EncoderPlots(ScorePoints(*(tuple(side.ravel()[points].round(5).tolist()) for side in sides)))
    if len(theirs) > 1:  # one image alone can't be centred
        answers = image_answers(scores, metrics.centred_cosine(theirs, ours))
        flipped = [answer for answer in answers if answer.reference != answer.bundle]
        plots = replace(
            plots,
            worst=tuple(sorted(answers, key=lambda answer: answer.centred_cosine)[:MOST_SHOWN]),
            flipped=tuple(sorted(flipped, key=lambda answer: -answer.bundle_probability)[:MOST_SHOWN]),
        )
    if scores.truth is None:
        return plots
    known = scores.against_truth()
    return replace(
        plots,
        roc=Curves(*(_roc(side.logits, scores.truth) for side in known)),
        calibration=Calibration(*(_calibration(side.probabilities, scores.truth) for side in known)),
    )


def image_answers(scores: Scores, cosines: NDArray[np.float64]) -> list[ImageAnswer]:
    """Each image's answers on both sides, beside the centred cosine of its embeddings, (N,)."""
    best = [side.logits.argmax(-1) for side in (scores.reference, scores.bundle)]
    sure = [side.probabilities.max(-1) for side in (scores.reference, scores.bundle)]
    return [
        ImageAnswer(
            number=row + 1, centred_cosine=float(cosine),
            reference=scores.names[best[0][row]], bundle=scores.names[best[1][row]],
            reference_probability=float(sure[0][row]), bundle_probability=float(sure[1][row]),
            truth=None if scores.truth is None else scores.known[scores.truth[row]],
        )
        for row, cosine in enumerate(cosines)
    ]  # fmt: skip


def _rates(confusion: NDArray[np.intp], index: int) -> Rates:
    """Of one label against the others."""
    hit, positive, called = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    negative = confusion.sum() - positive
    return Rates(_proportion(int(hit), int(positive)), _proportion(int(negative - (called - hit)), int(negative)))


def _proportion(successes: int, count: int) -> Interval | None:
    return Interval(successes / count, *metrics.wilson(successes, count)) if count else None


def _calibration(probabilities: Array, truth: NDArray[np.intp]) -> CalibrationBins:
    means, right, count = metrics.calibration_bins(probabilities, truth)
    return CalibrationBins(tuple(means.tolist()), tuple(right.tolist()), tuple(count.tolist()))


def _paired(sides: Sequence[metrics.Statistic], count: int) -> Paired:
    """A statistic of the reference and of the bundle, and their difference on the same resamples of `count` images."""
    everything = np.arange(count)
    theirs, ours = (statistic(everything) for statistic in sides)
    drawn = [metrics.resampled(statistic, count) for statistic in sides]

    def interval(value: float, values: Array) -> Interval:
        return Interval(value, *map(float, metrics.interval_of(values, count)))

    return Paired(
        reference=interval(theirs, drawn[0]),
        bundle=interval(ours, drawn[1]),
        difference=interval(ours - theirs, drawn[1] - drawn[0]),
    )


def _margins(logits: Array) -> Array:
    """Each logit minus the log-sum-exp of the other labels': the log-odds of the softmax probability."""
    if logits.shape[1] < 2:
        return logits
    columns = [np.logaddexp.reduce(np.delete(logits, index, axis=1), axis=1) for index in range(logits.shape[1])]
    return logits - np.stack(columns, axis=1)


def _roc(logits: Array, truth: NDArray[np.intp]) -> Curve:
    """The macro-averaged ROC curve at 101 false-positive rates."""
    rates = np.linspace(0, 1, 101)
    curves = []
    margins = _margins(logits)
    for column in range(logits.shape[1]):
        positive = truth == column
        if positive.all() or not positive.any():
            continue
        order = np.argsort(-margins[:, column], kind="stable")
        true = np.concatenate([[0], np.cumsum(positive[order]) / positive.sum()])
        false = np.concatenate([[0], np.cumsum(~positive[order]) / (~positive).sum()])
        curves.append(np.interp(rates, false, true))
    return Curve(tuple(rates.round(3).tolist()), tuple(np.mean(curves, axis=0).round(5).tolist() if curves else ()))
