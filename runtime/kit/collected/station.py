"""Counts and timings from a station's store, and how signed reports agree with their drafts."""

from __future__ import annotations

import difflib
import json
import sqlite3
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...assistants.radiology_report import TEMPLATES
from ...station.reading.intake import CLASSIFY, DELIVER
from ...station.store import audit
from ...station.store.backup import DATABASE
from ...station.store.database import Database
from ...station.store.schema import STEPS
from ...station.store.settings import STATION, get_setting
from . import known
from .report import FEWEST, Agreement, Fault, Finding, Held, Work, count, share, spread

Named = Callable[[str], str]  # a bundle's name as the store has it -> as it may be told
_IMPRESSION = "impression"
_MOST_WORDS = 2000  # of a report that are compared; comparing takes time with their square


@dataclass(frozen=True)
class Told:
    """What a store tells.

    Attributes:
        id: which station it is: a random word of its own.
        held, work, faults, agreement: as of `Collected`.
    """

    id: str
    held: Held
    work: list[Work]
    faults: list[Fault]
    agreement: list[Agreement]


def told(store: Path, named: Named, free: int) -> Told:
    """Look at a station's store, while it works or not; nothing in it changes.

    Args:
        store: the station's folder.
        named: what a bundle may be called.
        free: bytes on its disk.

    Raises:
        StationError: there is none, or one of another version.
    """
    database = Database(store / DATABASE, make=False)
    try:
        with database.read() as connection:
            return Told(
                str(get_setting(connection, STATION, "")), _held(connection, free), _work(connection, named),
                _faults(connection), list(_agreement(connection, named)),
            )  # fmt: skip
    finally:
        database.close()


def _one(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])


def _held(connection: sqlite3.Connection, free: int) -> Held:
    modalities: Counter[str] = Counter()
    for said, number in connection.execute("SELECT modality, count(*) FROM series GROUP BY modality"):
        modalities[known.modality(said)] += number
    rare = [name for name, number in modalities.items() if number < FEWEST and name != known.OTHER]
    for name in rare:
        modalities[known.OTHER] += modalities.pop(name)
    unsigned = (
        "SELECT count(*) FROM "
        "(SELECT study FROM reports GROUP BY study HAVING max(job) IS NOT NULL AND max(signed_at) IS NULL)"
    )  # fmt: skip
    return Held(
        studies=count(_one(connection, "SELECT count(*) FROM studies")),
        series={name: count(number) for name, number in sorted(modalities.items())},
        instances=count(_one(connection, "SELECT count(*) FROM instances")),
        reports=count(_one(connection, "SELECT count(DISTINCT study) FROM reports WHERE signed_at IS NOT NULL")),
        unsigned=count(_one(connection, unsigned)),
        schema=len(STEPS), free=free - free % 100_000_000, audit_holds=audit.first_break(connection) is None,
    )  # fmt: skip


def _content(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _work(connection: sqlite3.Connection, named: Named) -> list[Work]:
    """Jobs by kind and model. A job that has no result yet says no model."""
    states: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    again: Counter[tuple[str, str]] = Counter()
    rows = connection.execute(
        "SELECT jobs.kind, state, begun, ended, failures + losses, content FROM jobs "
        "LEFT JOIN results ON results.job = jobs.id"
    )
    for kind, state, begun, ended, failed, text in rows:
        if kind not in known.KINDS:
            continue
        content = _content(text)
        model = content.get("model")
        key = (kind, named(model) if isinstance(model, str) and kind != DELIVER else "")
        states[key][state] += 1
        again[key] += failed > 0
        if state == "done" and begun is not None and ended is not None:
            pictures = content.get("instances") if kind == CLASSIFY else None
            seconds[key].append((ended - begun) / max(1, len(pictures) if isinstance(pictures, list) else 1))
    return [
        Work(kind, model, {state: count(found[state]) for state in known.STATES if found[state]},
             spread(seconds[kind, model]), count(again[kind, model]))
        for (kind, model), found in sorted(states.items())
    ]  # fmt: skip


def _faults(connection: sqlite3.Connection) -> list[Fault]:
    found: Counter[tuple[str, str, str]] = Counter()
    for kind, said in connection.execute("SELECT kind, fault FROM jobs WHERE fault <> ''"):
        if kind in known.KINDS:
            found[kind, *known.fault(said)] += 1
    return [Fault(*key, count(number)) for key, number in sorted(found.items(), key=lambda one: (-one[1], one[0]))]


@dataclass(frozen=True)
class _Compared:
    """One signed report and its draft."""

    unchanged: bool
    kept: float
    edits: int
    changed: Mapping[str, bool]  # by region


def _agreement(connection: sqlite3.Connection, named: Named) -> Iterator[Agreement]:
    found: dict[tuple[str, str], list[_Compared]] = defaultdict(list)
    rows = connection.execute(
        "SELECT reports.study, version, text, model, reports.job, signed_at, content FROM reports "
        "LEFT JOIN results ON results.job = reports.job ORDER BY reports.study, version"
    )
    draft: tuple[int, str, str, Mapping[str, Any]] | None = None
    of, done = None, False
    for study, version, text, model, job, signed_at, content in rows:
        if study != of:
            of, draft, done = study, None, False
        if job is not None:
            draft = (version, text, model, _content(content))
        if signed_at is not None and draft is not None and not done:
            template = draft[3].get("template")
            template = template if isinstance(template, str) and template in TEMPLATES else known.OTHER
            found[template, named(draft[2])].append(_compared(draft[1], text, version - draft[0], template))
            done = True  # what a reopened report becomes is not the draft's doing any more
    for (template, model), each in sorted(found.items()):
        few = len(each) < FEWEST
        yield Agreement(
            template, model, count(len(each)), share(sum(one.unchanged for one in each), len(each)),
            None if few else round(statistics.median(one.kept for one in each), 2), spread([one.edits for one in each]),
            [] if few else list(_findings(template, each)),
        )  # fmt: skip


def _findings(template: str, each: list[_Compared]) -> Iterator[Finding]:
    regions = TEMPLATES[template].regions if template in TEMPLATES else ()
    for region in (*regions, _IMPRESSION):
        having = [one.changed[region] for one in each if region in one.changed]
        yield Finding(region, count(len(having)), share(sum(having), len(having)))


def _compared(draft: str, signed: str, edits: int, template: str) -> _Compared:
    before, after = draft.split(), signed.split()
    parts = parts_of(draft, template)
    now = parts_of(signed, template)
    return _Compared(
        before == after, _kept(before[:_MOST_WORDS], after[:_MOST_WORDS]), edits,
        {region: now.get(region) != text for region, text in parts.items()},
    )  # fmt: skip


def _kept(before: list[str], after: list[str]) -> float:
    """The share of a draft's words that stand in the signed report in the same order."""
    if not before:
        return 0.0
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(before)


def parts_of(text: str, template: str) -> dict[str, str]:
    """{region: what is said} of a report as `reading.drafting.prose` lays it out, blanks evened; "impression" among them.

    A line that begins with no region of the template goes on with the one before.
    """
    regions = TEMPLATES[template].regions if template in TEMPLATES else ()
    found: dict[str, list[str]] = {}
    here: list[str] = []
    for line in (" ".join(one.split()) for one in text.splitlines()):
        head, colon, rest = line.partition(":")
        if line.lower() == _IMPRESSION:
            here = found.setdefault(_IMPRESSION, [])
        elif colon and head.lower() in regions and _IMPRESSION not in found:
            here = found.setdefault(head.lower(), [])
            here.append(rest.strip())
        elif line:
            here.append(line)
    return {region: " ".join(said) for region, said in found.items()}
