"""Studies, series, instances and results in the database: entered, found, removed. Each function works within a transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeVar

from . import reports
from .arrivals import Identity
from .records import Instance, Listed, Result, Series, Study

T = TypeVar("T")

# A study's state follows from its jobs; what matters most comes first.
_STATE = """
    CASE
    WHEN EXISTS (SELECT 1 FROM jobs WHERE study = studies.uid AND state = 'parked') THEN 'needs a look'
    WHEN EXISTS (SELECT 1 FROM jobs WHERE study = studies.uid AND state = 'running') THEN 'running'
    WHEN EXISTS (SELECT 1 FROM jobs WHERE study = studies.uid AND state = 'waiting') THEN 'waiting'
    WHEN EXISTS (SELECT 1 FROM jobs WHERE study = studies.uid) THEN 'done'
    ELSE 'new' END
"""


@dataclass(frozen=True)
class Wanted:
    """Which studies of the worklist; what is left at its default chooses nothing.

    Attributes:
        text: a part of the patient's name or number, the accession number or the description; upper and lower case of the
            letters A to Z are alike.
        modality: of one of its series.
        state: as in `Listed`.
        since, until: days of the study, YYYYMMDD, both included.
        limit: how many studies at most.
        offset: how many to pass over.
    """

    text: str = ""
    modality: str = ""
    state: str = ""
    since: str = ""
    until: str = ""
    limit: int = 100
    offset: int = 0


EVERY_STUDY = Wanted()


def enter(connection: sqlite3.Connection, found: Identity) -> None:
    """Enter an instance that is not there yet, with its series and study where they are new."""
    _insert(connection, "studies", found.study, "OR IGNORE")
    _insert(connection, "series", found.series, "OR IGNORE")
    _insert(connection, "instances", found.instance, "")


def _insert(connection: sqlite3.Connection, table: str, row: Study | Series | Instance, how: str) -> None:
    values = astuple(row)
    # The table's name is one of three words above.
    connection.execute(f"INSERT {how} INTO {table} VALUES ({', '.join('?' * len(values))})", values)  # nosec B608


def instance(connection: sqlite3.Connection, uid: str) -> Instance | None:
    return _one(Instance, connection.execute("SELECT * FROM instances WHERE uid = ?", (uid,)))


def study(connection: sqlite3.Connection, uid: str) -> Study | None:
    return _one(Study, connection.execute("SELECT * FROM studies WHERE uid = ?", (uid,)))


def one_series(connection: sqlite3.Connection, uid: str) -> Series | None:
    return _one(Series, connection.execute("SELECT * FROM series WHERE uid = ?", (uid,)))


def one_listed(connection: sqlite3.Connection, uid: str) -> Listed | None:
    """A study as the worklist shows it."""
    row = connection.execute(f"SELECT *, {_STATE} FROM studies WHERE uid = ?", (uid,)).fetchone()  # nosec B608
    return None if row is None else _listed(connection, Study(*row[:-1]), row[-1])


def series_of(connection: sqlite3.Connection, study_uid: str) -> list[Series]:
    """By number, those without one last."""
    rows = connection.execute("SELECT * FROM series WHERE study = ? ORDER BY number IS NULL, number, uid", (study_uid,))
    return [Series(*row) for row in rows]


def instances_of(connection: sqlite3.Connection, series_uid: str) -> list[Instance]:
    """By number, those without one last, in the order in which they came."""
    rows = connection.execute(
        "SELECT * FROM instances WHERE series = ? ORDER BY number IS NULL, number, received, uid", (series_uid,)
    )
    return [Instance(*row) for row in rows]


def studies(connection: sqlite3.Connection, wanted: Wanted) -> list[Listed]:
    """The newest first."""
    terms, values = ["1"], []
    if wanted.text:
        sought = "".join(f"\\{sign}" if sign in "\\%_" else sign for sign in wanted.text)
        columns = ("patient_name", "patient_id", "accession", "description")
        terms.append("(" + " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns) + ")")
        values += [f"%{sought}%"] * len(columns)
    for term, value in (
        ("EXISTS (SELECT 1 FROM series WHERE study = studies.uid AND modality = ?)", wanted.modality),
        (f"{_STATE} = ?", wanted.state), ("date >= ?", wanted.since), ("date <= ?", wanted.until),
    ):  # fmt: skip
        if value:
            terms.append(term)
            values.append(value)
    # What a user says is a value; the terms are those above.
    rows = connection.execute(
        f"SELECT *, {_STATE} FROM studies WHERE {' AND '.join(terms)} ORDER BY received DESC, uid LIMIT ? OFFSET ?",  # nosec B608
        (*values, max(wanted.limit, 0), max(wanted.offset, 0)),
    ).fetchall()
    return [_listed(connection, Study(*row[:-1]), row[-1]) for row in rows]


def _listed(connection: sqlite3.Connection, found: Study, state: str) -> Listed:
    modalities = connection.execute(
        "SELECT DISTINCT modality FROM series WHERE study = ? AND modality <> '' ORDER BY modality", (found.uid,)
    ).fetchall()
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM instances JOIN series ON series.uid = instances.series WHERE study = ?",
        (found.uid,),
    ).fetchone()
    # The middle one of the first series that has pixels.
    pictures = connection.execute(
        "SELECT instances.uid, series.uid FROM instances JOIN series ON series.uid = instances.series "
        "WHERE study = ? AND (kind <> 'dicom' OR rows IS NOT NULL) "
        "ORDER BY series.number IS NULL, series.number, series.uid, instances.number IS NULL, instances.number, received",
        (found.uid,),
    ).fetchall()
    first = [row[0] for row in pictures if row[1] == pictures[0][1]]
    report = reports.latest(connection, found.uid)
    return Listed(
        found, state, tuple(row[0] for row in modalities), count, size, first[len(first) // 2] if first else None,
        "none" if report is None else report.state,
    )  # fmt: skip


def results_of(connection: sqlite3.Connection, study_uid: str) -> list[Result]:
    """The oldest first."""
    rows = connection.execute("SELECT * FROM results WHERE study = ? ORDER BY id", (study_uid,))
    return [_result(row) for row in rows]


def result_of(connection: sqlite3.Connection, job: int) -> Result | None:
    """What a job found."""
    row = connection.execute("SELECT * FROM results WHERE job = ?", (job,)).fetchone()
    return None if row is None else _result(row)


def _result(row: sqlite3.Row) -> Result:
    return Result(**{**dict(row), "content": json.loads(row["content"])})


def remove_study(connection: sqlite3.Connection, uid: str) -> bool:
    """Remove a study, what belongs to it, and the names of its objects; their files go with `Objects.remove_unlinked`.

    Returns:
        Whether it was there.
    """
    connection.execute(
        "INSERT OR IGNORE INTO unlinked SELECT sha256 FROM instances JOIN series ON series.uid = instances.series "
        "WHERE study = ?",
        (uid,),
    )
    return connection.execute("DELETE FROM studies WHERE uid = ?", (uid,)).rowcount > 0


def _one(kind: type[T], rows: sqlite3.Cursor) -> T | None:
    row: Any = rows.fetchone()
    return None if row is None else kind(**{field.name: row[field.name] for field in fields(kind)})  # type: ignore[arg-type]  # a dataclass, which no TypeVar can say
