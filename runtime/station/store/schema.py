"""Tables of the station's database, by version. A step that has been released is never changed: a change is a new step."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...errors import StationError

Step = tuple[str, ...]  # SQL statements that lead from one version to the next

_APPLICATION = 0x4D454453  # "MEDS": what SQLite's header says that the file is for


def _noted(table: str, what: str, kind: str, value: str) -> str:
    """A trigger that notes which study or job has changed."""
    name = f"{table}_{what.split()[0].lower()}_noted"
    # The words are those of the steps below.
    return (
        f"CREATE TRIGGER {name} AFTER {what} ON {table} BEGIN INSERT INTO changes (kind, what) "  # nosec B608
        f"VALUES ('{kind}', {value}); END"
    )


_FIRST: Step = (
    """
    CREATE TABLE studies (
        uid TEXT PRIMARY KEY,
        patient_name TEXT NOT NULL, patient_id TEXT NOT NULL, birth_date TEXT NOT NULL, sex TEXT NOT NULL,
        date TEXT NOT NULL, time TEXT NOT NULL, accession TEXT NOT NULL, description TEXT NOT NULL,
        received REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX studies_received ON studies (received)",
    """
    CREATE TABLE series (
        uid TEXT PRIMARY KEY,
        study TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
        modality TEXT NOT NULL, number INTEGER, description TEXT NOT NULL, body_part TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX series_study ON series (study)",
    """
    CREATE TABLE instances (
        uid TEXT PRIMARY KEY,
        series TEXT NOT NULL REFERENCES series ON DELETE CASCADE,
        kind TEXT NOT NULL, sop_class TEXT NOT NULL, transfer_syntax TEXT NOT NULL,
        number INTEGER, frames INTEGER NOT NULL, rows INTEGER, columns INTEGER,
        sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, received REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX instances_series ON instances (series)",
    "CREATE INDEX instances_sha256 ON instances (sha256)",
    # Objects whose last instance was removed, and whose file may still be there.
    "CREATE TABLE unlinked (sha256 TEXT PRIMARY KEY) WITHOUT ROWID",
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL, key TEXT NOT NULL UNIQUE, payload TEXT NOT NULL,
        study TEXT REFERENCES studies ON DELETE CASCADE,
        priority INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'parked', 'cancelled')),
        failures INTEGER NOT NULL DEFAULT 0, losses INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
        due REAL NOT NULL DEFAULT 0, lease REAL, claim TEXT, worker TEXT NOT NULL DEFAULT '',
        stopping INTEGER NOT NULL DEFAULT 0,
        steps_done INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0, doing TEXT NOT NULL DEFAULT '',
        created REAL NOT NULL, ended REAL
    )
    """,
    "CREATE INDEX jobs_next ON jobs (state, priority DESC, id)",
    "CREATE INDEX jobs_study ON jobs (study, state)",
    """
    CREATE TABLE results (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER UNIQUE REFERENCES jobs ON DELETE CASCADE,
        kind TEXT NOT NULL, study TEXT REFERENCES studies ON DELETE CASCADE,
        content TEXT NOT NULL, created REAL NOT NULL
    )
    """,
    "CREATE INDEX results_study ON results (study)",
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL,
        previous TEXT NOT NULL, hash TEXT NOT NULL
    )
    """,
    "CREATE INDEX audit_what ON audit (what)",
    "CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END",
    "CREATE TRIGGER audit_holds BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END",
)

_DOORS: Step = (
    """
    CREATE TABLE users (
        name TEXT PRIMARY KEY, folded TEXT NOT NULL UNIQUE, password TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('viewer', 'reader', 'admin')),
        created REAL NOT NULL, changed REAL NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY, folded TEXT NOT NULL UNIQUE, hash TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('viewer', 'reader', 'admin')),
        created REAL NOT NULL, ends REAL, used REAL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE sessions (
        hash TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
        began REAL NOT NULL, used REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX sessions_user ON sessions (user)",
    "CREATE TABLE attempts (key TEXT PRIMARY KEY, count INTEGER NOT NULL, last REAL NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
)

# What the station makes of studies: reports in versions, embeddings to search, and which study or job has changed.
_READING: Step = (
    """
    CREATE TABLE reports (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        study TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
        version INTEGER NOT NULL, text TEXT NOT NULL, author TEXT NOT NULL, model TEXT NOT NULL, job INTEGER UNIQUE,
        written REAL NOT NULL, signed_by TEXT NOT NULL DEFAULT '', signed_at REAL, released_at REAL,
        UNIQUE (study, version)
    )
    """,
    """
    CREATE TRIGGER reports_stay BEFORE UPDATE ON reports
    WHEN NEW.text <> OLD.text OR NEW.version <> OLD.version OR NEW.author <> OLD.author OR NEW.model <> OLD.model
        OR OLD.signed_at IS NOT NULL AND (NEW.signed_at IS NOT OLD.signed_at OR NEW.signed_by <> OLD.signed_by)
        OR OLD.released_at IS NOT NULL AND NEW.released_at IS NOT OLD.released_at
    BEGIN SELECT RAISE(ABORT, 'a version of a report is never changed'); END
    """,
    """
    CREATE TABLE embeddings (
        id INTEGER PRIMARY KEY,
        instance TEXT NOT NULL REFERENCES instances ON DELETE CASCADE,
        frame INTEGER NOT NULL, space TEXT NOT NULL, vector BLOB NOT NULL,
        UNIQUE (instance, frame, space)
    )
    """,
    "CREATE INDEX embeddings_space ON embeddings (space)",
    "CREATE TABLE changes (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, what TEXT NOT NULL)",
    # Whoever listens reads what is new; who was away for longer than this reads everything anew.
    """
    CREATE TRIGGER changes_few AFTER INSERT ON changes WHEN NEW.id % 100 = 0
    BEGIN DELETE FROM changes WHERE id <= NEW.id - 1000; END
    """,
    _noted("instances", "INSERT", "study", "(SELECT study FROM series WHERE uid = NEW.series)"),
    _noted("studies", "DELETE", "study", "OLD.uid"),
    _noted("reports", "INSERT", "study", "NEW.study"),
    _noted("reports", "UPDATE", "study", "NEW.study"),
    _noted("jobs", "INSERT", "job", "NEW.id"),
    _noted("jobs", "UPDATE OF state, steps_done, doing", "job", "NEW.id"),
)

# What the makers may be told of a job without telling of a patient: when it was begun, and what failed where in medge's code.
_TOLD: Step = (
    "ALTER TABLE jobs ADD COLUMN begun REAL",
    "ALTER TABLE jobs ADD COLUMN fault TEXT NOT NULL DEFAULT ''",
)

STEPS: tuple[Step, ...] = (_FIRST, _READING, _DOORS, _TOLD)


def version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a station's database; 0 of an empty file.

    Raises:
        StationError: it is another program's.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    program = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (found or tables) and program != _APPLICATION:
        raise StationError(f"{path} is not a station's database; choose another folder")
    return found


def migrate(connection: sqlite3.Connection, path: Path, steps: tuple[Step, ...]) -> None:
    """Bring a database to the newest version, each step in a transaction of its own.

    Raises:
        StationError: it is of a newer medge, or another program's.
    """
    found = version(connection, path)
    if found > len(steps):
        raise StationError(
            f"{path} is of version {found}, and this medge knows versions up to {len(steps)}; use a newer medge"
        )
    for number, step in enumerate(steps[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
