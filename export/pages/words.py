"""Figures of parity in plain words."""

from __future__ import annotations

from ...runtime.bundles.figures import Interval
from ...runtime.bundles.parity_report import GateResult
from ...runtime.pages.words import number, span

# {end of a figure's path: (name, what it means)}; the longest that fits counts.
FIGURES: dict[str, tuple[str, str]] = {
    "pixels.max_error": (
        "pixels, greatest error",
        "Grey levels between the bundle's resized image and independent code.",
    ),
    "max_error": ("greatest error", "The greatest change of a single value of an embedding."),
    "centred_cosine.mean": (
        "centred cosine, mean",
        "Likeness of two embeddings without what all images share; 1 is equal.",
    ),
    "centred_cosine.min": ("centred cosine, least", "The same for the input whose embeddings differ most."),
    "centred_cosine.p01": ("centred cosine, 1%", "Of a hundred inputs, 99 are more alike than this."),
    "cosine.mean": ("cosine, mean", "Likeness of two embeddings; it flatters, because all embeddings are alike."),
    "cosine.min": ("cosine, least", "The same for the input whose embeddings differ most."),
    "flips": ("changed answers", "Share of images whose first label is another."),
    "auc_difference": ("AUC, change", "How much worse or better labels are told apart; 0 is no change."),
    "accuracy_kept": ("accuracy kept", "The student's accuracy as a share of its teacher's."),
    "auc_kept": ("AUC kept", "The student's AUC as a share of its teacher's."),
    "kld.mean": ("KL divergence, mean", "Distance of the next token's probabilities, in nats; 0 is equal."),
    "kld.p99": ("KL divergence, 99%", "Of a hundred places in the text, 99 are nearer than this."),
    "kld.ratio_to_plain": (
        "KL divergence to plain",
        "As a share of what llama.cpp's quantizer makes without a matrix.",
    ),
    "same_top": ("same first choice", "Share of places at which both find the same next token likeliest."),
    "ids_equal": ("same token ids", "1 where texts become the ids of the original's tokenizer."),
}
PARTS = {
    "vision": "image tower", "text": "text", "image": "with images", "scores": "answers", "tokenizer": "tokenizer",
    "prompt": "prompt with an image",
}  # fmt: skip


def figure_words(path: str) -> tuple[str, str]:
    """A figure's name and what it means; the path itself where no words are known."""
    ends = [end for end in FIGURES if path == end or path.endswith(f".{end}")]
    if not ends:
        return path, ""
    end = max(ends, key=len)
    name, meaning = FIGURES[end]
    part = path.split(".")[0]
    return (f"{PARTS[part]}: {name}" if part in PARTS else name), meaning


def measured(gate: GateResult) -> str:
    """What a gate measured, with so many digits that it does not look equal to a bound that it isn't equal to."""
    texts = [number(gate.value, digits) for digits in range(3, 9)]
    return next((text for text in texts if gate.value == gate.bound or text != number(gate.bound)), texts[-1])


def interval(value: Interval) -> str:
    """ "0.800 to 0.950"."""
    return span(value.low, value.high)
