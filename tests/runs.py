"""Runs of `medge evaluate` with made-up figures, for tests of what is made of them: no model, no data."""

from __future__ import annotations

from typing import Any

from medge.runtime.evaluation.answers.letters import letter_of
from medge.runtime.evaluation.answers.short import agrees, token_f1

Row = dict[str, Any]
FIGURE = {"value": 0.812, "low": 0.751, "high": 0.873}
UNKNOWN = {"value": None, "low": None, "high": None}
BY_LABEL = {"auc": FIGURE, "sensitivity": FIGURE, "specificity": FIGURE, "f1": FIGURE}


def facts(form: str, method: str, evaluated: int, **changed: Any) -> dict[str, Any]:
    """What `metrics.json` holds of a run; `changed` takes the place of whole keys, "task", "model" and "items" are added to."""
    task = {
        "name": "wrists", "title": "Wrists", "form": form, "source": "a hospital, 2026", "method": method,
        "protocol": "Every film counts.", "absent": "", "prompts_from": "its radiologists", **changed.pop("task", {}),
    }  # fmt: skip
    model = {
        "parity": "passed", "recipes": {"vision": "int8", "text": "int8"}, "bytes": 2_500_000, "peak_bytes": 131_000_000,
        **changed.pop("model", {}),
    }  # fmt: skip
    return {
        "schema_version": 2, "bundle": "eyes", "date": "2026-11-26", "medge_version": "0.1.0", "model": model, "task": task,
        "limit": None, "seed": 0, "no_names": False, "items": {"evaluated": evaluated, **changed.pop("items", {})},
        "seconds_an_item": 0.25, **changed,
    }  # fmt: skip


def image_rows(labels: list[str], count: int, *, one: bool = True, shift: int = 5) -> list[Row]:
    """Rows of images: item n has label n modulo their number; every `shift`th is given the next label."""
    rows = []
    for number in range(count):
        true = labels[number % len(labels)]
        said = labels[(number + (number % shift == 0)) % len(labels)]
        scores = {label: 0.7 - number / 1000 if label == said else 0.3 / (len(labels) - 1) for label in labels}
        rows.append(
            {
                "id": f"films/{number}.png", "label": true, "answer": said, "group": f"patient {number // 2}",
                "about sex": "F" if number % 2 else "M", "about age": "80 and over" if number < 3 else "40 to 59",
                **{f"score {label}": score for label, score in scores.items()},
                **{f"true {label}": None if not one and number % 7 == 6 else int(label == true) for label in labels},
                "seconds": 0.25,
            }
        )  # fmt: skip
    return rows


def image_run(labels: list[str], *, one: bool = True, method: str = "zero-shot", **changed: Any) -> dict[str, Any]:
    """Facts of a run over 40 images of 20 patients."""
    names = ("accuracy", "macro_auc", "macro_f1") if one else ("macro_auc", "macro_f1")
    task = {"labels": labels, **changed.pop("task", {})}
    if method == "zero-shot":
        task = {"prompts": {"there": {label: [f"a film of {label}"] * 5 for label in labels}, "gone": {}}} | task
    counts = {
        "unreadable": 1, "on_the_test_side": 48, "on_the_training_side": 100, "images_absent": 7,
        "labels_unlisted": {"cast": 3}, "groups": {"of": "patient", "count": 20}, **changed.pop("items", {}),
    }  # fmt: skip
    return facts(
        "one label" if one else "findings", method, 40, task=task, items=counts, **{
            "figures": dict.fromkeys(names, FIGURE), "labels": {one: {"count": 13, "known": 40, **BY_LABEL} for one in labels},
            "subgroups": {"sex": {sex: {"count": 20, "figures": dict.fromkeys(names, FIGURE)} for sex in "FM"}},
            "limit": 41, **changed,
        },
    )  # fmt: skip


def letter_rows() -> list[Row]:
    """Answers to questions with options: right, wrong, without a letter, cut off, too long."""
    said = ["Final Answer: (A)", "It is <b>tuberculosis</b>.\nFinal Answer: (B)", "I can not say.", "First,", ""]
    stops = ["end", "end", "end", "limit", "too long"]
    return [
        {
            "id": str(number), "label": "A", "answer": letter_of(text, 2), "subject": "lung", "stop": stop, "text": text,
        }
        for number, (text, stop) in enumerate(zip(said * 2, stops * 2, strict=True))
    ]  # fmt: skip


def letter_run(**changed: Any) -> dict[str, Any]:
    """Facts of a run over `letter_rows`."""
    return facts(
        "multiple choice", "step-by-step", 10, task={"prompt": "Think.\n{question}\n{options}", "limit": 64},
        items={"in_the_data": 10, "cut_off": 2, "too_long": 2}, figures={"accuracy": FIGURE, "answered": FIGURE},
        subgroups={}, **changed,
    )  # fmt: skip


def short_rows() -> list[Row]:
    """Answers in words to questions about images, closed and open ones."""
    pairs = [("yes", "Yes."), ("no", "yes"), ("the left lung", "left lung"), ("a mass", "<script>alert(1)</script>")]
    return [
        {
            "id": f"{number}", "label": right, "answer": said, "subject": "chest", "stop": "end", "text": said,
            "image": f"{number // 2}.png", "f1": token_f1(said, right),
            "right": int(agrees(said, right)) if right in ("yes", "no") else None,
        }
        for number, (right, said) in enumerate(pairs)
    ]  # fmt: skip


def short_run(**changed: Any) -> dict[str, Any]:
    """Facts of a run over `short_rows`."""
    return facts(
        "image questions", "short-answer", 4, task={"prompt": "{question} In a word.", "limit": 8},
        items={"in_the_data": 4, "cut_off": 0, "too_long": 0}, figures={"token_f1": FIGURE, "closed_accuracy": FIGURE},
        subgroups={}, **changed,
    )  # fmt: skip


def difference(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    """Of a figure, as a comparison has it."""
    return {"first": 0.8, "second": 0.8 + value, "value": value, "low": low, "high": high}


def flips(count: int) -> dict[str, Any]:
    return {"count": count, "right_to_wrong": 3, "wrong_to_right": 1, "wrong_to_other_wrong": 2, "p": 0.625}


def result(name: str, size: int, lost: dict[str, float | None] | None, **changed: Any) -> dict[str, Any]:
    """A run as a comparison has it; `lost` is the difference of its macro AUC to the first, None of the first itself."""
    against = None
    if lost is not None:
        by_label = {"auc": lost, "sensitivity": lost, "specificity": lost, "f1": lost, "answers": flips(20)}
        against = {
            "items": {"in_both": 40, "only_in_first": 0, "only_in_this": 0}, "figures": {"accuracy": lost, "macro_auc": lost},
            "answers": flips(40), "labels": {"normal": by_label, "fracture": dict(by_label)},
        }  # fmt: skip
    return {
        "name": name, "out": f"evaluations/{name}", "bundle": name, "recipes": {"vision": name}, "bytes": size,
        "peak_bytes": size * 3, "parity": "passed", "seconds_an_item": size / 1e7, "evaluated": 40,
        "figures": {"accuracy": FIGURE, "macro_auc": {**FIGURE, "value": 0.8 + (lost or {"value": 0})["value"]}},
        "against_first": against, **changed,
    }  # fmt: skip
