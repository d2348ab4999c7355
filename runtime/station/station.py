"""A station's folder, opened: what it holds and what it has to do.

station = Station.open(folder)
got = station.put(data, who="CT1", then=lambda one: [NewJob("classify", {"instance": one.uid}, key=f"classify:{one.uid}")])
Worker(station.queue, {"classify": classify}).run(stop)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..bundles.claim import claimed
from ..errors import ObjectRefusedError, PlaceTakenError, StationError, StationFullError, storage_errors
from ..progress import Progress, no_progress
from .doors.doors import Doors
from .store import arrivals, audit, catalogue, retention
from .store.arrivals import NOBODY, Identity, Patient
from .store.backup import DATABASE, Copied, back_up
from .store.catalogue import EVERY_STUDY, Wanted
from .store.clock import now
from .store.database import Database
from .store.objects import DEFAULT_SPACE, Arrived, Objects, Space, refusing_when_full
from .store.records import Instance, Listed, Received, Result, Series, Study
from .store.retention import Retention
from .store.settings import STATION, get_setting, set_setting
from .work.jobs import DEFAULT_LIMITS, Limits, NewJob
from .work.queue import Queue

_STATION = "station"  # who does what nobody asked for, in the audit log
_OWNER = "owner"  # claimed by the process that has the station open
_FILES = "removal"  # claimed by whoever removes files, and by a backup, which reads them
_OURS = {"objects", "arriving", "ballast"}  # what the first start may have made before it was ended
_owned: set[Path] = set()
_guard = threading.Lock()  # of `_owned`


class Station:
    """What a station holds, for its own process (`open`) and for workers that it starts (`join`).

    Threads share it. What a method has written is on the disk when it returns, or it raises:

    Raises:
        StationFullError: by every method that writes: the disk is full. What was stored before is safe.
        StationError: by every method: the database is damaged, can't be used, or the station is closed.
    """

    def __init__(self, folder: Path, database: Database, objects: Objects, limits: Limits) -> None:
        self.folder = folder
        self.queue = Queue(database, limits)
        self.database = database  # for what works within a transaction of the caller's: reports, embeddings, changes
        self._objects = objects
        self.doors = Doors(database)
        self._held = contextlib.ExitStack()

    @classmethod
    def open(cls, folder: Path, *, space: Space = DEFAULT_SPACE, limits: Limits = DEFAULT_LIMITS) -> Station:
        """Open a station's folder as its only owner, and put right what a kill or a power cut has left.

        Args:
            folder: made where it is missing.
            space: what it takes of its disk.
            limits: how often a job is tried.

        Raises:
            StationError: the station is open already, or its database is damaged or of a newer medge.
            StorageError: the file system refused.
        """
        folder = folder.absolute()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_owner(folder))
            with refusing_when_full(), storage_errors(folder):
                if not (folder / DATABASE).exists() and any(
                    path.name not in _OURS and not path.name.startswith(".") for path in folder.iterdir()
                ):
                    raise StationError(f"{folder} is neither empty nor a station; choose another folder")
                objects = Objects(folder, space)
                objects.prepare()
                database = Database(folder / DATABASE, make=True)
            stack.callback(database.close)
            station = cls(folder, database, objects, limits)
            with database.write() as connection:
                if get_setting(connection, STATION) is None:
                    set_setting(connection, STATION, secrets.token_hex(16))
            station.queue.begin_again()
            station._held = stack.pop_all()
        return station

    @classmethod
    def join(cls, folder: Path, *, space: Space = DEFAULT_SPACE, limits: Limits = DEFAULT_LIMITS) -> Station:
        """Use the folder of a station that another process of this machine has open: for its workers and its backup.

        Args:
            folder: of the station.
            space, limits: as the station has them.

        Raises:
            StationError: there is no station, or it is of another version.
        """
        folder = folder.absolute()
        database = Database(folder / DATABASE, make=False)
        objects = Objects(folder, space)
        station = cls(folder, database, objects, limits)
        station._held.callback(database.close)
        return station

    def close(self) -> None:
        """Let go of the folder; what threads still write ends with a `StationError`."""
        self._held.close()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(
        self, source: bytes | BinaryIO, *, who: str, study: str | None = None, patient: Patient = NOBODY,
        then: Callable[[Instance], Sequence[NewJob]] = lambda instance: (),
    ) -> Received:  # fmt: skip
        """Take an object: when this returns, it and its jobs are on the disk, once, however often it was sent.

        Args:
            source: a DICOM file or a picture, or a stream of one.
            who: who sent it, for the audit log.
            study: of a picture, the study that it belongs to; where None, it is a study of its own. DICOM says its own.
            patient: of a picture; of a study that is there already, what it says stays.
            then: the jobs that a new instance asks for; those that name no study belong to the instance's.

        Returns:
            What the station holds under the object's UID. An object whose UID is there with other bytes is not kept.

        Raises:
            StationFullError: the disk is full, or has less than the reserve; it may be sent again later.
            ObjectRefusedError: it is neither DICOM with its identifiers nor a picture, or too large.
        """
        with self._objects.receive(source) as arrived:
            found = arrivals.identify(arrived, now(), study=study, patient=patient)
            with self.database.write() as connection:
                received = self._enter(connection, arrived, found, who)
                if received.is_new:
                    for new in then(received.instance):
                        belongs = dataclasses.replace(new, study=new.study or found.study.uid)
                        self.queue.add_within(connection, belongs)
        if received.is_new:
            self.queue.wake()
        return received

    def _enter(self, connection: sqlite3.Connection, arrived: Arrived, found: Identity, who: str) -> Received:
        known = catalogue.instance(connection, found.instance.uid)
        if known is not None:
            differs = known.sha256 != arrived.sha256
            if differs:
                detail = {"kept": known.sha256, "refused": arrived.sha256}
                audit.note(connection, who, "sent another object under a known UID", known.uid, detail)
            elif not self._objects.holds(known.sha256):
                self._objects.keep(arrived)
            return Received(known, is_new=False, differs=differs)
        series = catalogue.one_series(connection, found.series.uid)
        if series is not None and series.study != found.study.uid:
            raise ObjectRefusedError("the object's series belongs to another study here; its identifiers are wrong")
        study = catalogue.study(connection, found.study.uid)
        if study is None:
            audit.note(connection, who, "sent a study", found.study.uid)
        elif found.instance.kind == "dicom" and study.patient_id != found.study.patient_id:
            audit.note(connection, who, "sent an object with another patient's number", found.instance.uid)
        self._objects.keep(arrived)
        catalogue.enter(connection, found)
        return Received(found.instance, is_new=True)

    def studies(self, wanted: Wanted = EVERY_STUDY) -> list[Listed]:
        """The worklist, the newest first."""
        with self.database.read() as connection:
            return catalogue.studies(connection, wanted)

    def study(self, uid: str) -> Study | None:
        with self.database.read() as connection:
            return catalogue.study(connection, uid)

    def series(self, study: str) -> list[Series]:
        """The series of a study, by number."""
        with self.database.read() as connection:
            return catalogue.series_of(connection, study)

    def instances(self, series: str) -> list[Instance]:
        """The instances of a series, by number."""
        with self.database.read() as connection:
            return catalogue.instances_of(connection, series)

    def instance(self, uid: str) -> Instance | None:
        with self.database.read() as connection:
            return catalogue.instance(connection, uid)

    def study_of(self, instance: Instance) -> str:
        """The UID of an instance's study; "" where it was removed."""
        with self.database.read() as connection:
            series = catalogue.one_series(connection, instance.series)
        return "" if series is None else series.study

    def read(self, instance: Instance) -> BinaryIO:
        """An instance's bytes as they came, to be closed by the caller.

        Raises:
            StationError: the object's file is missing.
        """
        return self._objects.open(instance.sha256)

    def results(self, study: str) -> list[Result]:
        """What jobs found about a study, the oldest first."""
        with self.database.read() as connection:
            return catalogue.results_of(connection, study)

    def result(self, job: int) -> Result | None:
        """What one job found; None where it is not done."""
        with self.database.read() as connection:
            return catalogue.result_of(connection, job)

    def remove(self, study: str, *, who: str) -> bool:
        """Remove a study with its objects, jobs and results; whether it was there. The audit log keeps what was done to it."""
        return bool(self._let_go(lambda connection: [study] if catalogue.study(connection, study) else [], who, {}))

    def sweep(self, kept: Retention) -> list[str]:
        """Let go of studies that are too old, and of the oldest where space is short; the UIDs of those that went.

        A study with a job that waits, runs or is parked stays.
        """
        at, gone = now(), []
        if kept.days is not None:
            gone += self._let_go(
                functools.partial(retention.too_old, days=kept.days, at=at), _STATION, {"why": "too old"}
            )
        surplus = 0 if kept.free is None else kept.free - self.free_bytes()
        if kept.bytes is not None:
            with self.database.read() as connection:
                surplus = max(surplus, retention.total_bytes(connection) - kept.bytes)
        if surplus > 0:
            gone += self._let_go(functools.partial(retention.oldest_over, surplus=surplus), _STATION, {"why": "space"})
        return gone

    def _let_go(
        self, choose: Callable[[sqlite3.Connection], list[str]], who: str, detail: Mapping[str, Any]
    ) -> list[str]:
        """Remove the studies that are chosen, also from a disk that is full."""
        try:
            chosen = self._remove(choose, who, detail)
        except StationFullError:
            if not self._objects.drop_ballast():
                raise
            chosen = self._remove(choose, who, detail)
        self._remove_files()
        self._objects.take_ballast()
        return chosen

    def _remove(
        self, choose: Callable[[sqlite3.Connection], list[str]], who: str, detail: Mapping[str, Any]
    ) -> list[str]:
        with self.database.write() as connection:
            chosen = choose(connection)
            for uid in chosen:
                catalogue.remove_study(connection, uid)
                audit.note(connection, who, "removed", uid, detail)
        return chosen

    def _remove_files(self) -> None:
        """Remove the files that nothing names; after a backup that runs, which may still copy them."""
        with contextlib.suppress(PlaceTakenError), claimed(self.folder / _FILES), self.database.write() as connection:
            self._objects.remove_unlinked(connection)

    def tidy(self) -> int:
        """Remove files that no entry names: what a kill has left, and removals that waited for a backup; how many bytes.

        Takes a while with many objects; the station works meanwhile.
        """
        self._remove_files()
        freed = 0
        for number in range(256):
            with self.database.write() as connection:
                freed += self._objects.remove_strays(connection, number)
        return freed

    def free_bytes(self) -> int:
        """Bytes that the disk takes before objects reach the reserve; below zero where they have."""
        return self._objects.spare()

    def backup(self, to: Path, *, who: str, progress: Progress = no_progress) -> Copied:
        """Copy the station as it is at one moment, while it works; `store.backup.restore` makes a station of the copy.

        Args:
            to: an empty folder, or an earlier backup of this station, to which only what is new is copied.
            who: who asked for it, for the audit log.
            progress: told of objects.

        Raises:
            StationError: another backup is running, an object is missing or damaged, or the folder holds something else.
            StorageError: the file system refused.
        """
        with self.database.write() as connection:
            audit.note(connection, who, "backed up")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claimed(self.folder / _FILES))
            except PlaceTakenError as error:
                raise StationError("another backup of this station is running; wait until it has ended") from error
            return back_up(self.database, self._objects, to.absolute(), progress)

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting's value, or `default` where it was never set."""
        with self.database.read() as connection:
            return get_setting(connection, key, default)

    def set(self, key: str, value: Any, *, who: str) -> None:
        """Set a value that JSON can hold; the audit log says who did, and not the value, which may be a secret."""
        with self.database.write() as connection:
            set_setting(connection, key, value)
            audit.note(connection, who, "changed a setting", key)

    def note(self, who: str, action: audit.Action, what: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Add an entry to the audit log.

        Args:
            who: a user's name, or a device's title.
            action: what was done.
            what: what it was done to: a UID or a job's number; no patient's name.
            detail: more, such as the bundle; what JSON can hold.
        """
        with self.database.write() as connection:
            audit.note(connection, who, action, what, detail)

    def history(self, *, what: str = "", before: int = 0, limit: int = 100) -> list[audit.Entry]:
        """The audit log, the newest first.

        Args:
            what: only entries about this UID or job.
            before: only those with a smaller number; 0 for all.
            limit: how many at most.
        """
        with self.database.read() as connection:
            return audit.entries(connection, what=what, before=before, limit=limit)

    def history_break(self) -> audit.Break | None:
        """Where the audit log's chain does not hold; None where it does. Reads all of it."""
        with self.database.read() as connection:
            return audit.first_break(connection)


@contextlib.contextmanager
def _owner(folder: Path) -> Iterator[None]:
    """Be the only station of a folder, among processes and within this one."""
    busy = StationError(f"the station in {folder} is running already; end it first, or choose another folder")
    with _guard:
        if folder in _owned:
            raise busy
        _owned.add(folder)
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claimed(folder / _OWNER))
            except PlaceTakenError as error:
                raise busy from error
            yield
    finally:
        with _guard:
            _owned.discard(folder)
