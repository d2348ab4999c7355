"""What a calibration of scores says: plain data with bounds, as the bundle's file of scores holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..bundles.bounds import Count, Distance, Label, Offset, Positive, Sentence, Sha256, Share, Slope

Form = Literal["one label", "findings"]


@dataclass(frozen=True)
class Rate:
    """A share of images, seen on images that nothing was fitted on.

    Attributes:
        value: the share.
        low, high: its 95% interval, over patients where the images have any.
        count: images that it is of.
    """

    value: Share
    low: Share
    high: Share
    count: Positive


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        sensitivity: share of the images with a label that are not called absent; None where it was not asked for.
        specificity: share of the images without it that are not called present; None likewise. Where only one of the two was
            asked for, one cut parts present and absent, and nothing is uncertain.
        coverage: share of the images whose true label is among the likely ones.
        known: share of the images of these kinds that are not flagged.

    Examples:
        >>> medge.Wanted(sensitivity=0.95, specificity=None).coverage  # one cut, for a test that must miss little
        0.9
    """

    sensitivity: Share | None = 0.9
    specificity: Share | None = 0.9
    coverage: Share = 0.9
    known: Share = 0.97


@dataclass(frozen=True)
class OperatingPoint:
    """Where a label is called present or absent, in one kind of picture.

    Attributes:
        absent_below: a lower probability is called absent; None where there were too few images with the label.
        present_above: a higher one is called present; None where there were too few without it.
        positives, negatives: images with and without the label that the two were set on.
        sensitivity, specificity: as in `Wanted`, seen on held-back images; None where there were none.
        uncertain: share of the held-back images that are called neither.
    """

    absent_below: Share | None
    present_above: Share | None
    positives: Count
    negatives: Count
    sensitivity: Rate | None = None
    specificity: Rate | None = None
    uncertain: Rate | None = None


@dataclass(frozen=True)
class Kind:
    """What holds for one kind of picture.

    Attributes:
        name: "" where kinds are not told apart.
        images: all that it was calibrated with.
        slopes, offsets: of each label: probability = softmax or sigmoid of slope * logit + offset. With one label an image all
            slopes are one over the temperature, and the offsets 0.
        points: of each label; None of a label that no image of this kind has.
        likely_from: with one label an image: labels of at least this probability are the likely ones; None where there were too
            few images, and of findings.
        coverage: as in `Wanted`, seen on held-back images.
        error_before, error_after: expected calibration error of the probabilities on held-back images, without and with slopes
            and offsets; None where there were none.
    """

    name: Sentence
    images: Positive
    slopes: tuple[Slope, ...]
    offsets: tuple[Offset, ...]
    points: tuple[OperatingPoint | None, ...]
    likely_from: Share | None = None
    coverage: Rate | None = None
    error_before: Share | None = None
    error_after: Share | None = None


@dataclass(frozen=True)
class ScoreFacts:
    """Everything of a calibration but its matrices.

    Attributes:
        form: "one label" where each picture has exactly one of the labels, "findings" where each holds or doesn't.
        labels: those baked into the bundle, in their order.
        kinds: at least one.
        centres: the kind of each centre, by its place in `kinds`.
        limit: a picture farther from every centre is unlike all that the bundle was calibrated on; None where there were too
            few images to set it.
        wanted: what was asked for.
        fingerprint: of the encoder whose scores these are: another recipe's scores are other numbers.
        labels_sha256: of the bundle's file of labels.
        source: what to call the images.
        images: how many.
        seed: of the draw of the three parts.
        flagged: share of the held-back images that are flagged, though they are of these kinds.
        format: of the file.
    """

    form: Form
    labels: tuple[Label, ...]
    kinds: tuple[Kind, ...]
    centres: tuple[Count, ...]
    limit: Distance | None
    wanted: Wanted
    fingerprint: Sentence
    labels_sha256: Sha256
    source: Sentence
    images: Positive
    seed: Count
    flagged: Rate | None = None
    format: Positive = 1
