"""Answers over a patient's record against the right ones: numbers with their unit, dates, yes or no, lists, words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..items import AnswerKind
from .means import mean_of
from .short import words, yes_or_no

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_ISO = re.compile(r"\b\d{4}(?:-\d\d(?:-\d\d)?)?(?![\d-])(?:T[\d:.+Z-]*)?")
# "2 January 2019", "January 2nd, 2019"
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])[-+]?\d+(?:\.\d+)?")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)
NONE = ("none", "no", "nothing")  # a list without an entry, as models say it


def score_of(said: str, right: str, kind: AnswerKind) -> tuple[int, float]:
    """Whether an answer is right (1 or 0), and, of a list, F1 of its entries; of others the two are the same.

    Args:
        said: the model's answer.
        right: the right one.
        kind: what it is.
    """
    match kind:
        case "number":
            hit = _same_number(said, right)
        case "date":
            hit = date_in(said) == date_in(right)
        case "yes or no":
            hit = yes_or_no(said) == yes_or_no(right)
        case "list":
            f1 = _list_f1(said, right)
            return int(f1 == 1), f1
        case _:
            hit = words(said) == words(right)
    return int(hit), float(hit)


def sound(answer: str, kind: AnswerKind) -> bool:
    """Whether a text can be the right answer of a kind: a date has a date, a number a number, yes or no one of the two."""
    match kind:
        case "number":
            return _NUMBER.match(answer) is not None
        case "date":
            return date_in(answer) == answer
        case "yes or no":
            return answer in ("yes", "no")
        case _:
            return bool(words(answer))


def date_in(text: str) -> str:
    """The first date of a text as YYYY-MM-DD, YYYY-MM or YYYY; "" where there is none.

    Dates of digits with slashes are none: which is the month depends on the country.
    """
    places = [(found.start(), found[0].split("T")[0]) for found in _ISO.finditer(text)]
    for pattern, day, month in ((_DAY_FIRST, 1, 2), (_MONTH_FIRST, 2, 1)):
        for found in pattern.finditer(text):
            number = _MONTHS.index(found[month][:3].lower()) + 1
            places.append((found.start(), f"{found[3]}-{number:02}-{int(found[day]):02}"))
    return min(places, default=(0, ""))[1]


def _entries(text: str, marks: str) -> set[str]:
    """The entries of a list, in plain words, with one of these marks or a line end between them."""
    found = {" ".join(words(part)) for part in re.split(rf"[{marks}\n]", _BULLET.sub("", text))} - {""}
    return set() if found <= set(NONE) else found


def _list_f1(said: str, right: str) -> float:
    """F1 of the entries of two lists. Models also write commas between entries, but an entry can have commas of its own
    ("Influenza, seasonal"): the reading counts that agrees better."""
    truth = _entries(right, ";")
    readings = [_entries(said, ";"), _entries(said, ";,")]
    return max(1.0 if one == truth else 2 * len(one & truth) / (len(one) + len(truth)) for one in readings)


def _same_number(said: str, right: str) -> bool:
    """Whether the first number that is no date equals the right one to three significant digits, and its unit follows it."""
    truth = _NUMBER.search(right)
    if truth is None:
        return False
    undated = _ISO.sub(lambda found: found[0] if "-" not in found[0] else " ", said)
    found = _NUMBER.search(undated)
    if found is None:
        return False
    unit, rest = _unit(right[truth.end() :]).replace(" ", ""), _unit(undated[found.end() :])
    wanted = r"\s*".join(map(re.escape, unit)) + (r"(?![^\W_]|/\w)" if unit else "")
    return _rounded(found[0]) == _rounded(truth[0]) and re.match(wanted, rest) is not None


def _rounded(number: str) -> float:
    return float(f"{float(number.replace(',', '')):.3g}")


def _unit(text: str) -> str:
    """A unit without the marks of UCUM, in which records write it: mm[Hg] is mmhg, 10*3/uL is 10^3/ul, {score} is nothing."""
    plain = re.sub(r"\{[^}]*\}", "", text).lower().strip()
    return plain.replace("[", "").replace("]", "").replace("*", "^").replace("µ", "u")


def figures_of_records(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy of all and mean F1 of lists, with intervals over patients; in all and by kind of answer.

    Args:
        rows: of the file of items, at least one.
    """
    kinds = sorted({str(row["kind"]) for row in rows})
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    told = {kind: {"count": len(chosen), "figures": _figures(chosen)} for kind, chosen in by_kind.items()}
    return {"figures": _figures(rows), "subgroups": {"kind": told}}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lists = [row for row in rows if row["kind"] == "list"]
    found = {"accuracy": mean_of(rows, "right", "group", proportion=True)}
    return found | ({"list_f1": mean_of(lists, "f1", "group")} if lists else {})
