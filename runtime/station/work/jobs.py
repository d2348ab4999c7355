"""Jobs in the database. Each function works within a transaction.

A job is waiting until a worker claims it, then running until it is done, parked or cancelled. A claim is a random word that only
one worker has: whatever a worker writes about a job is refused when the claim is no longer the job's.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from ...errors import ClaimLostError, ConflictError, StationError
from ..store.clock import now


@dataclass(frozen=True)
class NewJob:
    """A job to be added.

    Attributes:
        kind: which handler does it: "classify".
        payload: what the handler is given; what JSON can hold.
        key: a job of the same key is not added twice; where "", each is a job of its own. What makes two jobs the same belongs
            in it: the instance, and the bundle.
        study: the UID of the study that it belongs to; it is removed with it.
        priority: those with a higher one come first, then those that came first.
        settle: seconds that it waits for others of its key, which begin anew with each, for `LONGEST_SETTLING` at most. Such a
            job takes in what was there when it was claimed: one of its key that is added later is another job.
    """

    kind: str
    payload: Any = None
    key: str = ""
    study: str | None = None
    priority: int = 0
    settle: float | None = None


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes:
        id: its number.
        kind, key, study, priority: as it was added.
        payload: as it was added.
        state: "waiting", "running", "done", "parked" or "cancelled".
        failures: how often its handler raised.
        losses: how often its worker ended, or showed no sign of life, while it ran.
        reason: why it failed last, or was parked; "" where it never did.
        worker: who has it, or had it last.
        steps_done, steps: how far it is; 0 of 0 where it does not say.
        doing: what it says it is doing.
        created, ended: in seconds since 1970; `ended` is None while it is open.
    """

    id: int
    kind: str
    key: str
    payload: Any
    study: str | None
    priority: int
    state: str
    failures: int
    losses: int
    reason: str
    worker: str
    steps_done: int
    steps: int
    doing: str
    created: float
    ended: float | None


@dataclass(frozen=True)
class Claim:
    """A job that one worker has.

    Attributes:
        job: as it was when it was claimed.
        word: what shows that the worker has it.
    """

    job: Job
    word: str


@dataclass(frozen=True)
class Limits:
    """How often a job is tried, and how long its worker may be silent.

    Attributes:
        failures: failures after which a job is parked.
        losses: workers lost after which it is parked: it may be what ends them.
        lease: seconds without a sign of life after which a job is another worker's.
        backoff: seconds until the second try; each further try waits four times as long.
    """

    failures: int = 3
    losses: int = 5
    lease: float = 60.0
    backoff: float = 5.0


DEFAULT_LIMITS = Limits()
LONGEST_SETTLING = 60.0  # seconds


def _job(row: sqlite3.Row) -> Job:
    return Job(**{**{field.name: row[field.name] for field in fields(Job)}, "payload": json.loads(row["payload"])})


def add(connection: sqlite3.Connection, new: NewJob, at: float) -> Job:
    """Add a job, or find the one that has its key.

    Args:
        connection: of a transaction that writes.
        new: the job.
        at: `time.monotonic()`.

    Raises:
        StationError: its study is not there.
    """
    key = new.key or secrets.token_hex(16)
    due = 0.0 if new.settle is None else at + new.settle
    if new.settle is not None:
        # One that has begun may have read what there was before the new one came.
        connection.execute("UPDATE jobs SET key = key || ' ' || id WHERE key = ? AND state <> 'waiting'", (key,))
        connection.execute(
            "UPDATE jobs SET due = ? WHERE key = ? AND failures = 0 AND due > 0 AND created > ?",
            (due, key, now() - LONGEST_SETTLING),
        )
    try:
        connection.execute(
            "INSERT INTO jobs (kind, key, payload, study, priority, state, due, created) "
            "VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?) ON CONFLICT (key) DO NOTHING",
            (new.kind, key, json.dumps(new.payload, ensure_ascii=False), new.study, new.priority, due, now()),
        )
    except sqlite3.IntegrityError as error:
        raise StationError("the study that the job belongs to is not in the station") from error
    return _job(connection.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone())


def get(connection: sqlite3.Connection, number: int) -> Job | None:
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone()
    return None if row is None else _job(row)


def listed(
    connection: sqlite3.Connection, *, state: str = "", study: str = "", kind: str = "", limit: int = 100
) -> list[Job]:
    """The newest first; "" chooses nothing."""
    rows = connection.execute(
        "SELECT * FROM jobs WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR study = ?2) AND (?3 = '' OR kind = ?3) "
        "ORDER BY id DESC LIMIT ?4",
        (state, study, kind, max(limit, 0)),
    )
    return [_job(row) for row in rows]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """{state: how many jobs}; states without any are left out."""
    return dict(tuple(row) for row in connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))


def ahead(connection: sqlite3.Connection, job: Job) -> int:
    """How many jobs of the same kind are taken before a waiting one, those that run included."""
    return int(
        connection.execute(
            "SELECT count(*) FROM jobs WHERE kind = ? AND (state = 'running' OR state = 'waiting' AND "
            "(priority > ? OR priority = ? AND id < ?))",
            (job.kind, job.priority, job.priority, job.id),
        ).fetchone()[0]
    )


def claim(
    connection: sqlite3.Connection, kinds: Collection[str], worker: str, limits: Limits, at: float
) -> Claim | None:
    """Take the next job of some kinds; None where none is due.

    Args:
        connection: of a transaction that writes.
        kinds: those that the worker can do.
        worker: its name.
        limits: the lease.
        at: `time.monotonic()`, which all processes of a machine share until it is switched off.
    """
    lose(connection, limits, at)
    row = connection.execute(
        "SELECT * FROM jobs WHERE state = 'waiting' AND due <= ? AND kind IN (SELECT value FROM json_each(?)) "
        "ORDER BY priority DESC, id LIMIT 1",
        (at, json.dumps(list(kinds))),
    ).fetchone()
    if row is None:
        return None
    word = secrets.token_hex(16)
    connection.execute(
        "UPDATE jobs SET state = 'running', claim = ?, worker = ?, lease = ?, steps_done = 0, steps = 0, doing = '', begun = ? "
        "WHERE id = ?",
        (word, worker, at + limits.lease, now(), row["id"]),
    )
    found = get(connection, row["id"])
    assert found is not None
    return Claim(found, word)


def lose(connection: sqlite3.Connection, limits: Limits, at: float | None) -> int:
    """Take jobs away from workers whose lease has ended; from all workers where `at` is None. How many."""
    return connection.execute(
        """
        UPDATE jobs SET
            state = CASE WHEN stopping THEN 'cancelled' WHEN losses + 1 >= ?1 THEN 'parked' ELSE 'waiting' END,
            ended = CASE WHEN stopping OR losses + 1 >= ?1 THEN ?2 END,
            losses = losses + 1, claim = NULL, lease = NULL, due = 0,
            reason = CASE WHEN stopping THEN reason ELSE 'the worker ended, or showed no sign of life, while it ran' END
        WHERE state = 'running' AND (?3 IS NULL OR lease <= ?3)
        """,
        (limits.losses, now(), at),
    ).rowcount


def begin_again(connection: sqlite3.Connection, limits: Limits) -> int:
    """When a station starts: no worker of the one before has a job any more, and no job waits for a later try. How many ran."""
    connection.execute("UPDATE jobs SET due = 0 WHERE state = 'waiting'")
    return lose(connection, limits, None)


def extend(connection: sqlite3.Connection, held: Claim, limits: Limits, at: float) -> None:
    """Show a sign of life.

    Raises:
        ClaimLostError: it is another's.
    """
    _own(
        connection.execute(
            "UPDATE jobs SET lease = ? WHERE id = ? AND claim = ?", (at + limits.lease, held.job.id, held.word)
        ),
        held,
    )


def goes_on(connection: sqlite3.Connection, held: Claim) -> bool:
    """Whether nobody has cancelled a job that a worker has.

    Raises:
        ClaimLostError: it is another's.
    """
    row = connection.execute(
        "SELECT stopping FROM jobs WHERE id = ? AND claim = ?", (held.job.id, held.word)
    ).fetchone()
    if row is None:
        raise _lost(held)
    return not row["stopping"]


def any_due(connection: sqlite3.Connection, kinds: Collection[str], at: float) -> bool:
    """Whether `claim` would find something to do: a job of these kinds that is due, or any whose lease has ended."""
    row = connection.execute(
        "SELECT 1 FROM jobs WHERE state = 'running' AND lease <= ?1 UNION ALL "
        "SELECT 1 FROM jobs WHERE state = 'waiting' AND due <= ?1 AND kind IN (SELECT value FROM json_each(?2)) LIMIT 1",
        (at, json.dumps(list(kinds))),
    ).fetchone()
    return row is not None


def tell(connection: sqlite3.Connection, held: Claim, done: int, steps: int, doing: str) -> None:
    """Say how far a job is.

    Raises:
        ClaimLostError: it is another's.
    """
    _own(
        connection.execute(
            "UPDATE jobs SET steps_done = ?, steps = ?, doing = ? WHERE id = ? AND claim = ?",
            (done, steps, doing, held.job.id, held.word),
        ),
        held,
    )


def complete(connection: sqlite3.Connection, held: Claim, content: Any) -> None:
    """Close a job with its result: both or neither.

    Raises:
        ClaimLostError: it is another's; nothing was written.
    """
    _close(connection, held, "done", "")
    connection.execute(
        "INSERT INTO results (job, kind, study, content, created) VALUES (?, ?, ?, ?, ?)",
        (held.job.id, held.job.kind, held.job.study, json.dumps(content, ensure_ascii=False), now()),
    )


def fail(connection: sqlite3.Connection, held: Claim, reason: str, limits: Limits, at: float, fault: str = "") -> None:
    """Give a job back that failed: to be tried later, or parked when it was the last try.

    Args:
        connection: of a transaction that writes.
        held: the claim.
        reason: why, in a sentence for the clinic.
        limits: how often a job is tried.
        at: `time.monotonic()`.
        fault: as `fault_of` says it.

    Raises:
        ClaimLostError: it is another's.
    """
    failures = held.job.failures + 1
    if failures >= limits.failures:
        _close(connection, held, "parked", reason)
    else:
        _wait_again(connection, held, at + limits.backoff * 4 ** (failures - 1), reason)
    connection.execute("UPDATE jobs SET failures = ?, fault = ? WHERE id = ?", (failures, fault, held.job.id))


def give_back(connection: sqlite3.Connection, held: Claim) -> None:
    """Give a job back that its worker did not finish because it was told to stop; it counts as no failure.

    Raises:
        ClaimLostError: it is another's.
    """
    _wait_again(connection, held, 0, held.job.reason)


def _wait_again(connection: sqlite3.Connection, held: Claim, due: float, reason: str) -> None:
    """Let a job wait for its next try; it is closed where someone has cancelled it meanwhile."""
    _own(
        connection.execute(
            """
            UPDATE jobs SET
                state = CASE WHEN stopping THEN 'cancelled' ELSE 'waiting' END,
                ended = CASE WHEN stopping THEN ? END, claim = NULL, lease = NULL, due = ?, reason = ?
            WHERE id = ? AND claim = ?
            """,
            (now(), due, reason, held.job.id, held.word),
        ),
        held,
    )


def close_cancelled(connection: sqlite3.Connection, held: Claim) -> None:
    """Close a job whose worker has heard that it was cancelled.

    Raises:
        ClaimLostError: it is another's.
    """
    _close(connection, held, "cancelled", "")


def cancel(connection: sqlite3.Connection, number: int) -> Job:
    """Cancel a job: at once where it waits or is parked, as soon as its worker hears of it where it runs.

    Raises:
        ConflictError: it is closed.
        StationError: there is none.
    """
    ended = connection.execute(
        "UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ? AND state IN ('waiting', 'parked')",
        (now(), number),
    ).rowcount
    running = connection.execute("UPDATE jobs SET stopping = 1 WHERE id = ? AND state = 'running'", (number,)).rowcount
    found = _known(connection, number)
    if not (ended or running):
        raise ConflictError(f"job {number} is {found.state}, so it can't be cancelled")
    return found


def retry(connection: sqlite3.Connection, number: int) -> Job:
    """Try a parked or cancelled job anew, as if it had never been tried.

    Raises:
        ConflictError: it is open or done.
        StationError: there is none.
    """
    changed = connection.execute(
        "UPDATE jobs SET state = 'waiting', failures = 0, losses = 0, due = 0, stopping = 0, ended = NULL "
        "WHERE id = ? AND state IN ('parked', 'cancelled')",
        (number,),
    ).rowcount
    found = _known(connection, number)
    if not changed:
        raise ConflictError(f"job {number} is {found.state}; only a parked or cancelled one can be tried again")
    return found


def _known(connection: sqlite3.Connection, number: int) -> Job:
    found = get(connection, number)
    if found is None:
        raise StationError(f"there is no job {number}")
    return found


def _close(connection: sqlite3.Connection, held: Claim, state: str, reason: str) -> None:
    _own(
        connection.execute(
            "UPDATE jobs SET state = ?, reason = ?, ended = ?, claim = NULL, lease = NULL WHERE id = ? AND claim = ?",
            (state, reason, now(), held.job.id, held.word),
        ),
        held,
    )


def _own(cursor: sqlite3.Cursor, held: Claim) -> None:
    if cursor.rowcount != 1:
        raise _lost(held)


def _lost(held: Claim) -> ClaimLostError:
    return ClaimLostError(f"job {held.job.id} is no longer this worker's; another does it, or it is closed")
