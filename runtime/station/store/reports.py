"""Reports on studies, in versions: a text is never changed, what changes is which version is the newest.

Each function works within a transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ...errors import ConflictError
from . import audit
from .clock import now

_MOST_VERSIONS = 10_000
# What the audit log says of reports.
ACTIONS: frozenset[audit.Action] = frozenset(
    {"report drafted", "report changed", "report signed", "report released", "report reopened"}
)


@dataclass(frozen=True)
class Report:
    """One version of a study's report.

    Attributes:
        study: the study's UID.
        version: from 1.
        text: of the report.
        author: who wrote this version: a user's name, or "station" of a model's draft.
        model: the bundle that wrote the draft that this began with; "" of none.
        written: in seconds since 1970.
        signed_by: the name of whoever answers for it; "" of a draft.
        signed_at, released_at: in seconds since 1970; None where it is not.
    """

    study: str
    version: int
    text: str
    author: str
    model: str
    written: float
    signed_by: str
    signed_at: float | None
    released_at: float | None

    @property
    def state(self) -> str:
        """ "draft", "signed" or "released"."""
        return "draft" if self.signed_at is None else "signed" if self.released_at is None else "released"


_COLUMNS = "study, version, text, author, model, written, signed_by, signed_at, released_at"


def latest(connection: sqlite3.Connection, study: str) -> Report | None:
    """The newest version; None where there is no report."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM reports WHERE study = ? ORDER BY version DESC LIMIT 1",  # nosec B608
        (study,),
    ).fetchone()
    return None if row is None else Report(*row)


def draft(connection: sqlite3.Connection, study: str, text: str, *, author: str, model: str, job: int) -> bool:
    """Enter what a model wrote, unless a person has written, or somebody has signed, meanwhile; whether it was entered.

    Args:
        connection: of a transaction.
        study: the study's UID.
        text: the draft.
        author: who made it, for the audit log.
        model: the bundle.
        job: the job's number; its draft is entered once, however often it is done.
    """
    if connection.execute("SELECT 1 FROM reports WHERE job = ?", (job,)).fetchone():
        return True
    found = latest(connection, study)
    if found is not None and (found.author != author or found.signed_at is not None):
        return False
    _enter(connection, study, 1 if found is None else found.version + 1, text, author, model, job)
    audit.note(connection, author, "report drafted", study, {"bundle": model})
    return True


def change(connection: sqlite3.Connection, study: str, text: str, *, version: int, who: str) -> Report:
    """Write a new version.

    Args:
        connection: of a transaction.
        study: the study's UID.
        text: of the whole report.
        version: the one that was changed; 0 where there was none.
        who: the user's name.

    Raises:
        ConflictError: another version is the newest, or it is signed.
    """
    found = _open(connection, study, version)
    model = "" if found is None else found.model
    made = _enter(connection, study, version + 1, text, who, model, None)
    audit.note(connection, who, "report changed", study, {"version": made.version})
    return made


def sign(connection: sqlite3.Connection, study: str, *, version: int, name: str, who: str) -> Report:
    """Sign the newest version.

    Args:
        connection: of a transaction.
        study: the study's UID.
        version: the one that was read.
        name: of whoever answers for it.
        who: the user's name.

    Raises:
        ConflictError: there is none, another version is the newest, or it is signed.
    """
    if _open(connection, study, version) is None:
        raise ConflictError("there is no report to sign; write one first")
    connection.execute(
        "UPDATE reports SET signed_by = ?, signed_at = ? WHERE study = ? AND version = ?", (name, now(), study, version)
    )
    audit.note(connection, who, "report signed", study, {"version": version, "name": name})
    return _latest(connection, study)


def release(connection: sqlite3.Connection, study: str, *, who: str) -> Report:
    """Let the signed version go out.

    Raises:
        ConflictError: it is not signed, or released already.
    """
    found = latest(connection, study)
    if found is None or found.state != "signed":
        raise ConflictError(
            "the report is released already" if found and found.released_at else "only a signed report can be released"
        )
    connection.execute(
        "UPDATE reports SET released_at = ? WHERE study = ? AND version = ?", (now(), study, found.version)
    )
    audit.note(connection, who, "report released", study, {"version": found.version})
    return _latest(connection, study)


def reopen(connection: sqlite3.Connection, study: str, *, who: str) -> Report:
    """Begin a new version with the text of the signed one, which stays as it is.

    Raises:
        ConflictError: it is not signed.
    """
    found = latest(connection, study)
    if found is None or found.signed_at is None:
        raise ConflictError("only a signed report can be reopened; a draft is open")
    made = _enter(connection, study, found.version + 1, found.text, who, found.model, None)
    audit.note(connection, who, "report reopened", study, {"version": made.version})
    return made


def _open(connection: sqlite3.Connection, study: str, version: int) -> Report | None:
    """The newest version, which must be this one, and a draft."""
    found = latest(connection, study)
    newest = 0 if found is None else found.version
    if newest != version:
        raise ConflictError(f"the report is at version {newest} now; read it again before you change or sign it")
    if found is not None and found.signed_at is not None:
        raise ConflictError("the report is signed; reopen it to write a new version")
    return found


def _enter(
    connection: sqlite3.Connection, study: str, version: int, text: str, author: str, model: str, job: int | None
) -> Report:
    if version > _MOST_VERSIONS:
        raise ConflictError(f"a report has at most {_MOST_VERSIONS} versions")
    connection.execute(
        "INSERT INTO reports (study, version, text, author, model, job, written) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (study, version, text, author, model, job, now()),
    )
    return _latest(connection, study)


def _latest(connection: sqlite3.Connection, study: str) -> Report:
    found = latest(connection, study)
    assert found is not None
    return found
