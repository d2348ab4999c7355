"""Two models on the same items: the difference of each figure, and which answers changed.

A difference is of the second minus the first, and its interval is paired: both models are judged on the same resamples, so that
what is hard for both takes no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.metrics import NORMAL_975, each_alone, grouped_all
from .answers.findings import judged_of_said, without_ranks
from .answers.means import groups_of
from .answers.reports import bleu_counts, bleu_of
from .figures import BY_LABEL, Figures, Judged
from .readings.reading import Reading

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Row = dict[str, Any]
Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def mcnemar(lost: int, won: int) -> float:
    """McNemar's exact test (1947), two-sided: how likely at least so uneven a split is if a change went either way alike.

    Args:
        lost: items that only the first model has right.
        won: items that only the second has right.
    """
    changed, fewer = lost + won, min(lost, won)
    # Logarithms of the binomial distribution's terms from 0 to `fewer`: powers of a half underflow from 1,075 changes on.
    steps = np.arange(1, fewer + 1)
    terms = np.concatenate([[0.0], np.cumsum(np.log(changed - steps + 1) - np.log(steps))])
    return min(1.0, 2 * math.exp(float(np.logaddexp.reduce(terms)) - changed * math.log(2)))


def paired_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    """95% interval of the difference of two proportions of the same items (Bonett and Price 2012, the adjusted Wald interval).

    A bootstrap of items of which none changed is certain that none ever will.

    Args:
        lost: items that only the first model has right.
        won: items that only the second has right.
        count: of all items, at least one.
    """
    z = NORMAL_975
    only_first, only_second = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    middle = only_second - only_first
    half = z * math.sqrt((only_first + only_second - middle**2) / (count + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def flips_of(first: Flags, second: Flags, differ: Flags) -> dict[str, Any]:
    """Answers that changed, and McNemar's test on those that changed between right and wrong.

    Args:
        first, second: (N,) whether each model's answer is right.
        differ: (N,) whether the answers differ.

    Returns:
        {"count", "right_to_wrong", "wrong_to_right", "wrong_to_other_wrong", "p"}, for JSON.
    """
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    return {
        "count": len(first), "right_to_wrong": lost, "wrong_to_right": won,
        "wrong_to_other_wrong": int((~first & ~second & differ).sum()), "p": mcnemar(lost, won),
    }  # fmt: skip


def mean_difference(first: Floats, second: Floats, groups: NDArray[np.intp]) -> dict[str, float | None]:
    """The difference of two means over the same items, for JSON.

    Args:
        first, second: (N,) a number for each item; of right and wrong answers, 1 and 0. At least one.
        groups: (N,) which group each item is of.
    """
    apart = second - first
    low, high = grouped_all(lambda rows: np.array([apart[rows].mean()]), groups)[:, 0]
    if each_alone(groups) and all(np.isin(values, (0, 1)).all() for values in (first, second)):
        low, high = paired_interval(int((apart < 0).sum()), int((apart > 0).sum()), len(apart))
    return _difference(float(first.mean()), float(second.mean()), float(low), float(high))


def compare_judged(first: Judged, second: Judged) -> dict[str, Any]:
    """The differences of all figures of pictures, and flips, in all and by label, for JSON.

    Args:
        first, second: the same items, at least one, in the same order.

    Returns:
        {"figures": {name: difference}, "answers": flips, "labels": {label: {"auc": difference, ..., "answers": flips}}}. With
        one label an item, a label's flips are those of the items that have it. Of findings there are flips by label only, of the
        items of which it is known, a score of at least 0.5 being the answer: the findings of one item are no independent pairs.
    """
    both = Figures(first), Figures(second)
    size = len(first.scores)
    values = [figures.everything(np.ones(size)) for figures in both]

    def apart(rows: NDArray[np.intp]) -> Floats:
        count = np.bincount(rows, minlength=size).astype(float)
        return both[1].everything(count) - both[0].everything(count)

    spread = grouped_all(apart, first.groups)
    told = [_difference(*map(float, one)) for one in zip(*values, *spread, strict=True)]
    figures = dict(zip(both[0].names, told, strict=False))
    labels: dict[str, Any] = {}
    for place, label in enumerate(first.labels):
        start = len(figures) + place * len(BY_LABEL)
        labels[label] = dict(zip(BY_LABEL, told[start:], strict=False))
    _add_flips(first, second, figures, labels)
    if not first.one:
        return {"figures": figures, "answers": None, "labels": labels}
    right = [(judged.answers & (judged.truth == 1)).any(-1) for judged in (first, second)]
    changed = (first.answers != second.answers).any(-1)
    return {"figures": figures, "answers": flips_of(right[0], right[1], changed), "labels": labels}


def _add_flips(first: Judged, second: Judged, figures: dict[str, Any], labels: dict[str, Any]) -> None:
    """Put the flips of each label beside its figures, and exact intervals in place of the bootstrap's of proportions."""
    said, truth = (first.answers, second.answers), first.truth
    differ = (said[0] != said[1]).any(-1) if first.one else np.zeros(len(truth), bool)
    for place, label in enumerate(first.labels):
        known = truth[:, place] == 1 if first.one else ~np.isnan(truth[:, place])
        right = [one[known, place] == (truth[known, place] == 1) for one in said]
        labels[label]["answers"] = flips_of(right[0], right[1], differ[known])
        if not each_alone(first.groups):
            continue
        for name, value in (("sensitivity", 1), ("specificity", 0)):
            rows = truth[:, place] == value
            if rows.any():
                hits = [(one[rows, place] == value).astype(float) for one in said]
                labels[label][name] = mean_difference(hits[0], hits[1], np.arange(rows.sum()))
    if first.one and each_alone(first.groups):
        hits = [(one & (truth == 1)).any(-1).astype(float) for one in said]
        figures["accuracy"] = mean_difference(hits[0], hits[1], first.groups)


def compare_letters(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The differences of accuracy and of the share of answers that could be read, and flips, of multiple choice.

    Args:
        first, second: rows of the files of items on the same questions, at least one, in the same order.

    Returns:
        As of `compare_judged`, without labels: a letter means something else in each question.
    """
    right, read = (
        [np.array([test(row) for row in rows]) for rows in (first, second)]
        for test in (lambda row: row["answer"] == row["label"], lambda row: bool(row["answer"]))
    )
    differ = np.array([one["answer"] != other["answer"] for one, other in zip(first, second, strict=True)])
    alone = np.arange(len(first))
    figures = {
        name: mean_difference(found[0].astype(float), found[1].astype(float), alone)
        for name, found in (("accuracy", right), ("answered", read))
    }
    return {"figures": figures, "answers": flips_of(right[0], right[1], differ), "labels": {}}


def compare_short_answers(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The differences of token F1 and of the accuracy of closed questions, and flips of closed ones.

    Args:
        first, second: rows of the files of items on the same questions, at least one, in the same order.

    Returns:
        As of `compare_judged`, without labels; no flips where no question is closed.
    """
    pairs = list(zip(first, second, strict=True))
    closed = [pair for pair in pairs if pair[0].get("right") not in (None, "")]
    figures = {"token_f1": _mean_of("f1", pairs, "image")}
    if not closed:
        return {"figures": figures, "answers": None, "labels": {}}
    figures["closed_accuracy"] = _mean_of("right", closed, "image")
    return {"figures": figures, "answers": _flips_of_right(closed), "labels": {}}


def compare_findings(first: Sequence[Row], second: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    """The differences of macro F1 and of each finding's figures, and flips, of findings that language models were asked for.

    Args:
        first, second: rows of the files of items on the same images, at least one, in the same order.
        labels: the findings.

    Returns:
        As of `compare_judged`, without areas under curves.
    """
    return without_ranks(compare_judged(judged_of_said(first, labels), judged_of_said(second, labels)))


def compare_records(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The differences of accuracy and of F1 of lists, and flips, of questions over records.

    Args:
        first, second: rows of the files of items on the same questions, at least one, in the same order.

    Returns:
        As of `compare_judged`, without labels.
    """
    pairs = list(zip(first, second, strict=True))
    lists = [pair for pair in pairs if pair[0]["kind"] == "list"]
    figures = {"accuracy": _mean_of("right", pairs, "group")}
    if lists:
        figures["list_f1"] = _mean_of("f1", lists, "group")
    return {"figures": figures, "answers": _flips_of_right(pairs), "labels": {}}


def compare_reports(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], readings: Sequence[Reading] = ()
) -> dict[str, Any]:
    """The differences of BLEU, chrF and token F1 of reports, and of what models have found in them.

    Args:
        first, second: rows of the files of items on the same studies, at least one, in the same order.
        readings: the kinds of models that have read both.

    Returns:
        As of `compare_judged`, without flips in all: a report is not right or wrong. Where a model has looked for findings, there
        are the difference of F1 and flips by finding, the answer being whether the report has it.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    counts = [bleu_counts(rows) for rows in (first, second)]

    def apart(rows: NDArray[np.intp]) -> Floats:
        return np.array([bleu_of(counts[1][rows].sum(0)) - bleu_of(counts[0][rows].sum(0))])

    low, high = grouped_all(apart, groups_of(first, "group"))[:, 0]
    pairs = list(zip(first, second, strict=True))
    bleu = _difference(bleu_of(counts[0].sum(0)), bleu_of(counts[1].sum(0)), float(low), float(high))
    means = {name: _mean_of(field, pairs, "group") for name, field in (("chrf", "chrf"), ("token_f1", "f1"))}
    found: dict[str, Any] = {"figures": {"bleu": bleu, **means}, "answers": None, "labels": {}}
    for reading in readings:
        _add_reading(reading, first, second, found)
    return found


def _add_reading(
    reading: Reading, first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], found: dict[str, Any]
) -> None:  # fmt: skip
    """Put the differences of a reading beside the other figures, and those of its findings under their labels."""
    counts = [reading.counts(rows) for rows in (first, second)]

    def value(which: int, rows: NDArray[np.intp]) -> Floats:
        return reading.values(counts[which][rows].sum(0))

    spread = grouped_all(lambda rows: value(1, rows) - value(0, rows), groups_of(first, "group"))
    everything = np.arange(len(first))
    told = [
        _difference(*map(float, one)) for one in zip(value(0, everything), value(1, everything), *spread, strict=True)
    ]
    found["figures"] |= dict(zip(reading.figures, told, strict=False))
    said = [reading.said(rows) for rows in (first, second)]
    for place, finding in enumerate(reading.findings):
        right = [one[:, place, 0] == one[:, place, 1] for one in said]
        flips = flips_of(right[0], right[1], said[0][:, place, 1] != said[1][:, place, 1])
        found["labels"][finding] = {"f1": told[len(reading.figures) + place], "answers": flips}


def _mean_of(field: str, pairs: Sequence[Pair], groups: str) -> dict[str, float | None]:
    values = [np.array([float(pair[side][field]) for pair in pairs]) for side in (0, 1)]
    return mean_difference(values[0], values[1], groups_of([one for one, _ in pairs], groups))


def _flips_of_right(pairs: Sequence[Pair]) -> dict[str, Any]:
    right = [np.array([float(pair[side]["right"]) == 1 for pair in pairs]) for side in (0, 1)]
    differ = np.array([one["answer"] != other["answer"] for one, other in pairs])
    return flips_of(right[0], right[1], differ)


def _difference(first: float, second: float, low: float, high: float) -> dict[str, float | None]:
    named = {"first": first, "second": second, "value": second - first, "low": low, "high": high}
    return {name: None if math.isnan(value) else value for name, value in named.items()}
