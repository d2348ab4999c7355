"""How the page of a run begins: its main figure, what was asked, what was left out, and what the intervals are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pages.words import number, span, three
from .words import METHODS, ORIGINAL, count_text, figure_text, sentence

Facts = Mapping[str, Any]
NOT_RECORDED = "not recorded"


def things(facts: Facts) -> str:
    """What the items are: "image" or "question"."""
    return "image" if "on_the_test_side" in facts["items"] else "question"


def lead_of(facts: Facts, headline: str) -> str:
    """The main figure with its interval, of what, and how it was asked."""
    figure = facts.get("figures", {}).get(headline)
    if figure is None:
        return f"No {things(facts)} could be evaluated, so there are no figures."
    over = count_text(facts["items"]["evaluated"], things(facts))
    if groups := facts["items"].get("groups"):
        over += f" of {count_text(groups['count'], groups['of'])}"
    interval = "" if figure["low"] is None else f" (95% interval {span(figure['low'], figure['high'])})"
    how = METHODS.get(facts["task"]["method"], facts["task"]["method"])
    lead = f"{sentence(figure_text(headline))} {three(figure['value'])}{interval} over {over}, {how}."
    if facts["model"]["parity"] not in ("passed", ORIGINAL):
        lead += f" The bundle's parity with its original: {facts['model']['parity']}."
    return lead


def asked_of(facts: Facts) -> str:
    """What stands beside every score, since it says nothing without: task, method, and how many items."""
    task, count = facts["task"], facts["items"]["evaluated"]
    return f"Task {task['name']}, {task['method']}, {count_text(count, things(facts))}."


def intervals_of(facts: Facts) -> str:
    """What the intervals are over, and what one without a width means."""
    return f"{_over(facts)} One without a width comes of too few {things(facts)}s and says nothing."


def _over(facts: Facts) -> str:
    thing, groups = things(facts), facts["items"].get("groups")
    if facts["task"]["form"] == "image questions":
        return "All intervals are 95%, over images, since several questions are about one."
    if groups:
        return f"All intervals are 95%, over {groups['of']}s: {thing}s of one {groups['of']} are not independent of one another."
    if thing == "question":
        return "All intervals are 95%, over questions."
    return (
        f"All intervals are 95%, over {thing}s, since the data don't say which belong together; where a patient has several, "
        "they are too narrow."
    )


def left_out(facts: Facts) -> list[str]:
    """What of the data was not evaluated, and why; what was evaluated but cut short."""
    items, task, thing = facts["items"], facts["task"], things(facts)
    there = items.get("on_the_test_side", items.get("in_the_data", 0))
    chosen = items["evaluated"] + items.get("unreadable", 0)
    said = []
    if chosen < there:
        drawn = (
            f"drawn at random with seed {facts['seed']} (--limit {facts['limit']})"
            if facts["limit"] is not None
            else "done"
        )
        said.append(f"Of {count_text(there, thing)} {chosen:,} were {drawn}.")
    if items.get("unreadable"):
        said.append(f"{count_text(items['unreadable'], thing)} could not be read; medge named them as it ran.")
    if items.get("images_absent"):
        said.append(f"{count_text(items['images_absent'], 'image')} that the data name were not in the folder.")
    if unlisted := items.get("labels_unlisted"):
        named = ", ".join(f"{label} ({count})" for label, count in sorted(unlisted.items()))
        said.append(f"{count_text(sum(unlisted.values()), 'image')} with labels that the task does not know: {named}.")
    for why, count in items.get("left_out", {}).items():
        said.append(f"{count:,} entries of the data: {why}.")
    if items.get("too_long"):
        said.append(
            f"{count_text(items['too_long'], 'question')} did not fit the model's context, and counted as wrong."
        )
    if items.get("cut_off"):
        said.append(f"{count_text(items['cut_off'], 'answer')} ended at the limit of {task.get('limit')} tokens.")
    return said or [f"Nothing: all {there:,} {thing}s were evaluated."]


def facts_of(facts: Facts) -> list[tuple[str, str]]:
    """[(name, fact)] of the model, the data and the run."""
    model, task, items = facts["model"], facts["task"], facts["items"]
    told = [
        ("date", facts.get("date") or NOT_RECORDED), ("medge", facts["medge_version"]), ("bundle", facts["bundle"]),
        ("recipe", ", ".join(f"{part} {recipe}" for part, recipe in model["recipes"].items())),
        ("parity", model["parity"]),
        ("size on disk", megabytes(model["bytes"])), ("peak memory", megabytes(model.get("peak_bytes"))),
        ("time", seconds_text(facts.get("seconds_an_item"), things(facts))),
        ("preprocessing", model.get("profile", "")),
        ("data", task["source"]), ("prompts from", task.get("prompts_from", "")),
        ("probe", task.get("fitted", "")), ("split", task.get("split", "")),
        ("training side", count_text(items["on_the_training_side"], "image") if task.get("fitted") else ""),
        ("names", "hashed (--no-names)" if facts["no_names"] else ""),
    ]  # fmt: skip
    return [(name, text) for name, text in told if text]


def megabytes(count: int | None) -> str:
    """ "2.5 MB"; says where it was not recorded."""
    return NOT_RECORDED if count is None else f"{count / 1e6:,.1f} MB"


def seconds_text(seconds: float | None, thing: str) -> str:
    """ "0.25 s an image"; says where it was not recorded."""
    return NOT_RECORDED if seconds is None else f"{number(seconds)} s {'an' if thing == 'image' else 'a'} {thing}"
