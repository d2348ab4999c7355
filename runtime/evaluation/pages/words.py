"""What the figures of an evaluation are called, and what they mean."""

from __future__ import annotations

MEANINGS = {
    "accuracy": "Share of items whose answer is right.",
    "answered": "Share of questions whose answer names an option; one that names none is wrong.",
    "balanced_accuracy": "Mean over the labels of the share of a label's items that get it.",
    "calibration_error": "Mean distance of a stated probability from the share of right answers (ECE); less is better.",
    "chexbert_macro_f1_of_14": "Mean F1 of fourteen findings that CheXbert reads in both reports; 0 of one that neither has.",
    "chexbert_macro_f1_of_5": "The same of the five findings of CheXpert's leaderboard.",
    "chexbert_micro_f1_of_14": "F1 of fourteen findings that CheXbert reads in both reports, all reports and findings together.",
    "chexbert_micro_f1_of_5": "The same of the five findings of CheXpert's leaderboard.",
    "closed_accuracy": "Share of right answers among questions that have few possible ones, such as yes and no.",
    "kappa": "Agreement of grades beyond chance, with quadratic weights; 1 is full agreement, 0 is chance.",
    "macro_auc": "How well a label is told from all others, mean over the labels; 1 is best, 0.5 is chance.",
    "macro_f1": "Harmonic mean of a label's precision and sensitivity, mean over the labels.",
    "radgraph_complete_f1": "Entities and their relations that RadGraph finds in both reports.",
    "radgraph_partial_f1": "Entities that RadGraph finds in both reports, having a relation in both or in neither.",
    "radgraph_simple_f1": "Entities that RadGraph finds in both reports.",
    "token_f1": "How many words the answer shares with the right one; 1 is all of both.",
}
METHODS = {
    "zero-shot": "zero-shot, without training on such images",
    "probe": "by a linear probe that was fitted on the training side",
    "step-by-step": "step by step: the model thinks aloud before it answers",
    "likelihood": "by the likelihood of the options' letters",
    "short-answer": "by short answers in words",
    "ask": "by asking for each finding, yes or no",
    "record": "by questions over the record, answered from the lines that it finds there",
    "report": "by reports that the model writes, compared with those of radiologists",
}
ORIGINAL = "original"  # in the place of a verdict of parity: what bundles are measured against
FEWER_IS_BETTER = frozenset({"calibration_error"})


def figure_text(name: str) -> str:
    """The name of a figure, as a table has it."""
    text = name.replace("_", " ").replace("auc", "AUC").replace("f1", "F1")
    return text.replace("chexbert", "CheXbert").replace("radgraph", "RadGraph")


def sentence(text: str) -> str:
    """With a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def count_text(count: int, what: str) -> str:
    """ "1 image", "40 images"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
