"""Another version in the place of the one that runs: an update, the way back, and what an interruption has left.

The order is what makes a kill harmless. The new version is laid out whole and tests itself, with a copy of the store's database,
before anything else is touched. Then the change is noted, the link is switched, the store's tables are changed by the new
version, which is tested again where it runs; at every moment the version that `current` names is whole and can read the
store, or bring it up to date. A newer version can read an older one's store, and not the other way: on the way back the database
comes first, then the link.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..bundles.claim import remove, scratch_folder
from ..errors import KitError, MedgeError
from ..progress import Progress, no_progress
from . import programs, store
from .admission import Verify, admit
from .installation import CURRENT, Installation, Pending, What
from .layout import TRUST
from .tree import Laid, differences, lay_out, partial_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Changed:
    """What was done.

    Attributes:
        counter: of the version that runs now.
        before: of the one that ran; None of a first installation.
        medge: the version's medge.
        signer: who has signed the kit; "" on the way back.
        laid: what laying it out took; None on the way back.
    """

    counter: int
    before: int | None
    medge: str
    signer: str = ""
    laid: Laid | None = None


def apply(
    here: Installation, stick: Path, verify: Verify, *, clock: datetime, allow_expired: bool = False,
    progress: Progress = no_progress, say: Say = lambda text: None, learn: Callable[[Path], list[str]] = lambda folder: [],
) -> Changed:  # fmt: skip
    """Bring a kit's version onto the device and let it run. Studies, users and keys stay as they are.

    Args:
        here: the installation.
        stick: the kit's folder: of a whole kit, or of an update of a version that is here.
        verify: checks a signature.
        clock: this machine's.
        allow_expired: take a kit that has expired by this machine's clock.
        progress: told of bytes.
        say: told what is being done.
        learn: takes what a stick's folder brings of keys and revocations.

    Raises:
        KitError: the kit may not come here, lacks something, or its version failed its self-test: then the one before runs.
        TrustError: nobody whom this device trusts has signed it.
        StationError, StorageError: the store or the disk refused; the version before runs.
    """
    with here.alone(), scratch_folder(here.prefix / "apply") as scratch:
        resume(here, say)
        say("checking the kit's signature")
        for one in learn(stick / TRUST):
            say(one)
        admitted = admit(stick, here, scratch, verify, clock=clock, allow_expired=allow_expired)
        kit, before = admitted.kit, here.current()
        _tidy(here, kit.counter)
        say(f"laying out version {kit.counter}")
        laid = lay_out(kit, here.versions, admitted.base, progress)
        if before != kit.counter:
            say(f"version {kit.counter} tests itself")
            schema = _tested_before(here, kit.counter, kit.statement.medge)
            _change(here, kit.counter, before, "installed" if before is None else "updated", schema, say)
        return Changed(kit.counter, before, kit.statement.medge, admitted.signer, laid)


def rollback(here: Installation, *, say: Say = lambda text: None) -> Changed:
    """Go back to the version before, which is still there. Its store is put back where the newer version has changed its tables
    and nothing was entered since.

    Raises:
        KitError: there is none, it is damaged, it failed its self-test, or it can't read the store.
        StationError, StorageError: the store or the disk refused.
    """
    with here.alone():
        ended = resume(here, say)
        if ended is not None and ended.what == "rolled back":  # what an interrupted run of this command had begun
            return Changed(ended.to, ended.before, here.version(ended.to).statement.medge)
        now = here.current()
        older = [counter for counter in here.counters() if now is not None and counter < now]
        if now is None or not older:
            raise KitError(f"{here.prefix} holds no older version to go back to; bring one on a stick")
        to = here.version(older[-1])
        say(f"checking version {to.counter}")
        if found := next(differences(to), ""):
            raise KitError(f"version {to.counter} is not whole any more ({found}); bring a kit instead")
        say(f"version {to.counter} tests itself")
        answer = programs.selftest(to.folder, None)
        if not answer.good:
            raise KitError(f"version {to.counter} fails its self-test ({_listed(answer.failed)}); nothing was changed")
        _refuse_unreadable(here, now, answer.schema)
        _change(here, to.counter, now, "rolled back", answer.schema, say)
        return Changed(to.counter, now, to.statement.medge)


def resume(here: Installation, say: Say = lambda text: None) -> Pending | None:
    """End a change that was interrupted: the new version runs where it passes its self-test, else the one before.

    Returns:
        The change that was ended; None where there was none, or it had not come to the switch.

    Raises:
        KitError: it failed; the version before runs.
    """
    pending = here.state.pending
    if pending is None:
        here.save()  # and so remove what a kill has left of the last time
        return None
    say(f"a change to version {pending.to} was interrupted; looking at what there is")
    if here.current() == pending.to:
        with _service_stopped(here):
            _finish(here, pending, say)
        return pending
    here.save(pending=None)  # it was interrupted before the switch, or on the way back after it
    return None


def _tidy(here: Installation, counter: int) -> None:
    """Remove versions that are half laid out, but for this one."""
    for path in here.versions.glob(".*.partial"):
        if path != partial_of(here.versions, counter):
            remove(path)


def _tested_before(here: Installation, counter: int, medge: str) -> int:
    """Let a version test itself before anything else is touched; the version of its store's tables.

    Raises:
        KitError: it fails; it is removed.
    """
    with scratch_folder(here.prefix / "rehearsal") as scratch:
        copied, database = None, store.database_of(here.store)
        if database is not None:
            copied = scratch / database.name
            store.copy(database, copied)
        try:
            answer = programs.selftest(here.folder(counter), copied)
            failed = _listed(answer.failed) if not answer.good else ""
            if not failed and answer.medge != medge:
                failed = f"it says that it is medge {answer.medge}, and its kit says {medge}"
        except KitError as error:
            failed = str(error)
        if not failed:
            return answer.schema
    here.note(counter, medge, "failed its self-test")
    here.discard(counter)
    raise KitError(f"version {counter} failed its self-test on this machine, and nothing was changed: {failed}")


def _listed(failed: tuple[str, ...]) -> str:
    return "; ".join(failed[:3]) or "it does not say why"


@contextlib.contextmanager
def _service_stopped(here: Installation) -> Iterator[None]:
    """While the block runs, the station is stopped; then whichever version `current` names is started."""
    programs.service(here, "stop")
    try:
        store.refuse_running(here.store)
        yield
    finally:
        if here.current() is not None:
            programs.service(here, "start")


def _refuse_unreadable(here: Installation, now: int, schema: int) -> None:
    """Refuse the way back to a version that could not read the store.

    Raises:
        KitError: it could not.
    """
    database, backup = store.database_of(here.store), store.backup_of(here.backups, now)
    if database is None or store.schema_of(database) <= schema:
        return
    if not backup.is_file() or store.schema_of(backup) > schema or not store.must_be_put_back(database, backup):
        raise KitError(
            f"the version before can't read {database}, and there is no backup of it from then; stay with this version"
        )


def _change(here: Installation, to: int, before: int | None, what: What, schema: int, say: Say) -> None:
    say("stopping the station")
    with _service_stopped(here):
        database = store.database_of(here.store)
        if what != "rolled back" and database is not None and store.schema_of(database) != schema:
            say("backing up the store's database")
            store.copy(database, store.backup_of(here.backups, to))
        pending = Pending(to, before, what)
        here.save(pending=pending)
        if what == "rolled back" and before is not None:
            _put_store_back(here, before)
        here.switch(to)
        _finish(here, pending, say)


def _finish(here: Installation, pending: Pending, say: Say) -> None:
    """With the link switched: bring the store up to date, test the version where it runs, and note it; or go back.

    Raises:
        KitError: it failed; the version before runs.
    """
    kit = here.version(pending.to)
    try:
        say("bringing the store up to date")
        programs.migrate(kit.folder, here.store)
        say(f"version {pending.to} tests itself where it runs")
        answer = programs.selftest(here.prefix / CURRENT, None)
        if not answer.good:
            raise KitError(_listed(answer.failed))
    except MedgeError as error:
        _undo(here, pending, kit.statement.medge)
        runs = "no version runs" if pending.before is None else f"version {pending.before} runs again"
        raise KitError(f"version {pending.to} failed where it runs, and {runs}: {error}") from error
    state = here.state
    changes: dict[str, object] = {"pending": None}
    if pending.to >= state.highest:
        newest = max(state.newest or "", kit.statement.created)
        changes |= {"highest": pending.to, "digest": kit.statement.identity, "newest": newest}
    here.note(pending.to, kit.statement.medge, pending.what, **changes)
    here.keep(pending.to, pending.before)
    store.keep_newest(here.backups)


def _put_store_back(here: Installation, newer: int) -> None:
    """Put the database back as it was before a version, where that one has changed its tables."""
    database, backup = store.database_of(here.store), store.backup_of(here.backups, newer)
    if database is not None and store.must_be_put_back(database, backup):
        store.put_back(backup, database)


def _undo(here: Installation, pending: Pending, medge: str) -> None:
    """Let the version before run again.

    Raises:
        KitError: the store has entries since, which it could not read; the newer version stays.
    """
    if pending.what != "rolled back":
        _put_store_back(here, pending.to)
    here.switch(pending.before)
    if pending.what == "rolled back" and pending.before is not None:
        programs.migrate(here.folder(pending.before), here.store)
    here.note(pending.to, medge, "failed its self-test", pending=None)
    if pending.what != "rolled back" and here.folder(pending.to) not in Path(sys.executable).parents:
        here.discard(pending.to)


def problems(here: Installation) -> list[str]:
    """What is not whole: of the version that runs, of its store.

    Raises:
        KitError: the installation can't be read.
    """
    current = here.current()
    if current is None:
        return []
    return [f"version {current}: {one}" for one in differences(here.version(current))]
