"""What a parity report can say: figures, points of plots, rows of stages, as gates, pages and `parity.json` name them.

A figure that was not measured is None. A gate names a figure by its path, "vision.centred_cosine.min".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from .gates import Measured
from .typed_json import field_types, without_none

MOST_SHOWN = 12  # single images in a report, of each kind


@dataclass(frozen=True)
class Spread:
    """The mean and the least of all inputs, and what one in a hundred is below: of few inputs, nearly the least."""

    mean: float
    min: float
    p01: float | None = None


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95% interval: by bootstrap, Wilson's for changed answers and the rates of a label."""

    value: float
    low: float
    high: float


@runtime_checkable
class Sampled(Protocol):
    """Figures of a sample: {figure's path: its interval}, and what a figure rests on: units, their name, tokens or None."""

    @property
    def intervals(self) -> dict[str, Interval]: ...

    def rests_on(self, figure: str) -> tuple[int, str, int | None]: ...


@dataclass(frozen=True)
class Paired:
    """A statistic of both sides, and of bundle minus reference on the same resampled inputs."""

    reference: Interval
    bundle: Interval
    difference: Interval


@dataclass(frozen=True)
class PixelFigures:
    """Preprocessed pixels against independent code: the greatest error in grey levels, and the share of unequal values."""

    max_error: float
    unequal_share: float | None = None


@dataclass(frozen=True)
class SameIds:
    """Whether every text became the same ids on both sides."""

    ids_equal: bool


@dataclass(frozen=True)
class SpeedFigures:
    """Seconds of one input on both sides, in turns.

    Attributes:
        pytorch_seconds, bundle_seconds: medians.
        ratio_to_pytorch: the bundle's time to PyTorch's; None where the turns were too few, or too different, to say it, or where
            the time that the processor worked says something else.
        low, high: its 95% interval; None without a ratio.
    """

    pytorch_seconds: float
    bundle_seconds: float
    ratio_to_pytorch: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class EmbeddingFigures:
    """One tower's embeddings.

    Attributes:
        max_error: the greatest absolute error of a value.
        cosine, centred_cosine: of each input's two embeddings; one input alone can't be centred.
        recall_overlap: share of the ten nearest neighbours that both sides agree on.
        count: how many inputs.
        ids_equal: whether the bundle's tokenizer gives the reference's ids; of texts only.
        intervals: {"centred_cosine.mean", "centred_cosine.p01": by resampled inputs}.
    """

    max_error: float
    cosine: Spread
    centred_cosine: Spread | None
    recall_overlap: float
    count: int
    ids_equal: bool | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)

    def rests_on(self, figure: str) -> tuple[int, str, int | None]:
        return self.count, "images" if self.ids_equal is None else "texts", None


@dataclass(frozen=True)
class Rates:
    """How often images of a label get it, and how often others don't; None where there are no such images."""

    sensitivity: Interval | None
    specificity: Interval | None


@dataclass(frozen=True)
class LabelFigures:
    """One label against the others, on both sides, by each image's best label; `images` have the label."""

    label: str
    images: int
    reference: Rates
    bundle: Rates


@dataclass(frozen=True)
class Confusions:
    """How many images of each label (a row) got which label (a column), both in the order of `labels`."""

    labels: tuple[str, ...]
    reference: tuple[tuple[int, ...], ...]
    bundle: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ScoreFigures:
    """Scores of labels by softmax.

    Attributes:
        labels: their names.
        flips: share of images whose best label changed.
        kl_divergence: mean over the images, in nats.
        max_error: the greatest change of a probability.
        accuracy, auc, ece: against the images' own labels; AUC is the macro average, ECE the calibration error.
        auc_difference: absolute.
        accuracy_kept, auc_kept: a student's share of its teacher's.
        confusions, by_label: against the images' own labels.
        images: how many.
        intervals: {"flips": Wilson's}.
    """

    labels: tuple[str, ...]
    flips: float
    kl_divergence: float
    max_error: float
    accuracy: Paired | None = None
    auc: Paired | None = None
    ece: Paired | None = None
    auc_difference: float | None = None
    accuracy_kept: float | None = None
    auc_kept: float | None = None
    confusions: Confusions | None = None
    by_label: tuple[LabelFigures, ...] = ()
    images: int = 0
    intervals: dict[str, Interval] = field(default_factory=dict)

    def rests_on(self, figure: str) -> tuple[int, str, int | None]:
        return self.images, "images", None


@dataclass(frozen=True)
class TowerSizes:
    """Bytes of all towers, and their ratio to fp32; None where the bundle lacks a tower that the parameters count."""

    towers_bytes: int
    ratio_to_fp32: float | None = None


@dataclass(frozen=True)
class EncoderFigures:
    """Of an image-text encoder; `operations_to_teacher` is a student's."""

    pixels: PixelFigures
    vision: EmbeddingFigures
    scores: ScoreFigures
    size: TowerSizes
    text: EmbeddingFigures | None = None
    speed: SpeedFigures | None = None
    operations_to_teacher: float | None = None


@dataclass(frozen=True)
class KLDivergence:
    """Of the next token's distribution, in nats, over all positions.

    Attributes:
        mean, median, p99: of the positions.
        ratio_to_plain: of the mean, to llama.cpp's own quantizer without a matrix.
    """

    mean: float
    median: float
    p99: float
    ratio_to_plain: float | None = None


@dataclass(frozen=True, kw_only=True)
class DivergenceFigures:
    """Two distributions of the next token, over all positions of some prompts.

    Attributes:
        kld: KL divergence.
        same_top: share of positions at which both find the same token likeliest.
        perplexity, perplexity_ratio: the reference's, and bundle to reference.
        tokens: positions.
        units: independent things that the tokens come from. Tokens of one text resemble one another, so intervals resample these.
        intervals: {"kld.mean", "kld.p99", "same_top", ...}.
    """

    kld: KLDivergence
    same_top: float
    perplexity_ratio: float
    perplexity: float
    tokens: int
    units: int
    intervals: dict[str, Interval] = field(default_factory=dict)

    def rests_on(self, figure: str) -> tuple[int, str, int | None]:
        return self.units, "passages", self.tokens


@dataclass(frozen=True, kw_only=True)
class ImageFigures(DivergenceFigures):
    """The same on prompts with an image, and the projected image tokens themselves."""

    max_error: float
    cosine: Spread
    centred_cosine: Spread

    def rests_on(self, figure: str) -> tuple[int, str, int | None]:
        # Cosines are of the images' own tokens, not of the words around them.
        return self.units, "images", self.tokens if figure.startswith(("kld", "same_top", "perplexity")) else None


@dataclass(frozen=True)
class TaskFigures:
    """Multiple-choice questions.

    Attributes:
        items: how many.
        flips: share of answers that changed.
        accuracy: of both sides.
        majority: accuracy of always giving the commonest answer.
    """

    items: int
    flips: float
    accuracy: Paired
    majority: float


@dataclass(frozen=True)
class GeneratorSizes:
    """Of a language model's file, with {type: tensors} in it, and of its vision tower with the projector."""

    language_bytes: int
    bits_per_weight: float
    types: dict[str, int]
    projector_bytes: int | None = None


@dataclass(frozen=True)
class VocabularyFigures:
    """Of a vocabulary that was cut. All divergences are then over the tokens that stayed: the reference's probabilities of these,
    made to sum to one.

    Attributes:
        kept, of: how many tokens stayed, and how many there were.
        missed_share: of the tokens that the measured texts are for the reference, those that were dropped.
        dropped_mass: what the reference gives to all dropped tokens together, on average over places in the texts.
    """

    kept: int
    of: int
    missed_share: float
    dropped_mass: float


@dataclass(frozen=True)
class GeneratorFigures:
    """Of a language model.

    Attributes:
        size, speed: of the files, and of reading one prompt.
        tokenizer, prompt: whether texts, and a question about an image, become the reference's ids: where the vocabulary was cut,
            up to renumbering, and a text that needs a dropped token comes back from its own.
        text, image: on held-back text, and with images.
        baseline: on text, what llama.cpp's own quantizer makes without a matrix.
        pixels: what enters the vision tower.
        tasks: {name: questions}.
        vocabulary: what was lost with it, where it was cut.
    """

    size: GeneratorSizes
    text: DivergenceFigures
    tokenizer: SameIds
    speed: SpeedFigures
    tasks: dict[str, TaskFigures]
    baseline: DivergenceFigures | None = None
    pixels: PixelFigures | None = None
    prompt: SameIds | None = None
    image: ImageFigures | None = None
    vocabulary: VocabularyFigures | None = None


@dataclass(frozen=True)
class StageRow:
    """The error after one stage: norms relative to the value's, and the greatest absolute one.

    What goes through no exported fp32 graph has no hops by way of it.
    """

    stage: str
    pytorch_to_bundle: float
    max_error: float
    pytorch_to_fp32: float | None = None
    fp32_to_bundle: float | None = None


@dataclass(frozen=True)
class ScorePoints:
    """Probabilities of images and labels, pair by pair."""

    reference: tuple[float, ...]
    bundle: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic: rates, point by point."""

    false_positive: tuple[float, ...]
    true_positive: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The same of both sides."""

    reference: Curve
    bundle: Curve


@dataclass(frozen=True)
class CalibrationBins:
    """Images by the probability of their best label: its mean, the share of right answers, and how many images, by bin."""

    probability: tuple[float, ...]
    right: tuple[float, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """The same of both sides."""

    reference: CalibrationBins
    bundle: CalibrationBins


@dataclass(frozen=True)
class ImageAnswer:
    """One image and what both sides answer.

    Attributes:
        number: its place among the images that could be read, from 1, by path; never a name.
        centred_cosine: of its two embeddings.
        reference, bundle: the best labels.
        reference_probability, bundle_probability: of these labels, each by its own side.
        truth: its own label, where it has one.
    """

    number: int
    centred_cosine: float
    reference: str
    bundle: str
    reference_probability: float
    bundle_probability: float
    truth: str | None = None


@dataclass(frozen=True)
class EncoderPlots:
    """What an encoder's page draws.

    Attributes:
        scores: a spread of all.
        roc, calibration: where the images had labels.
        worst: the images with the least centred cosine, the least first.
        flipped: images whose best label changed, the surest of their new one first; not more than `MOST_SHOWN` of each.
    """

    scores: ScorePoints
    roc: Curves | None = None
    calibration: Calibration | None = None
    worst: tuple[ImageAnswer, ...] = ()
    flipped: tuple[ImageAnswer, ...] = ()


@dataclass(frozen=True)
class Places:
    """By place in the prompt: its middle in tokens, share of equal first choices, mean KL divergence."""

    place: tuple[float, ...]
    same_top: tuple[float, ...]
    kld: tuple[float, ...]


@dataclass(frozen=True)
class GeneratorPlots:
    """Points of a language model's plots."""

    by_position: Places


def check_figure(kind: type, path: str) -> None:
    """Fail unless figures of this type have a number of this name, measured or not.

    Raises:
        LookupError: there is none.
    """
    found: Any = kind
    for name in path.split("."):
        types = field_types(found) if isinstance(found, type) and dataclasses.is_dataclass(found) else {}
        if name not in types:
            raise LookupError(f"{kind.__name__} has no figure {path!r}")
        found = without_none(types[name])
    if found not in (bool, int, float):
        raise LookupError(f"{path!r} of {kind.__name__} is no single figure")


def read_figure(figures: EncoderFigures | GeneratorFigures, path: str) -> Measured | None:
    """The figure of this name, with what it rests on; None where it was not measured.

    Raises:
        LookupError: figures of this type have none of this name.
    """
    check_figure(type(figures), path)
    section, _, rest = path.partition(".")
    whole = value = getattr(figures, section)
    for name in rest.split("."):
        value = None if value is None else getattr(value, name)
    if value is None:
        return None
    if not isinstance(whole, Sampled):
        return Measured(float(value))
    interval, (units, unit, tokens) = whole.intervals.get(rest), whole.rests_on(rest)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Measured(float(value), low, high, units, unit, tokens)
