"""What a station holds: objects taken once and whole, found again, let go of; its log, its versions, a disk that is full."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from station_films import PNG, film

from medge.runtime.errors import ObjectRefusedError, StationError, StationFullError
from medge.runtime.station.station import Station
from medge.runtime.station.store import clock, reports, schema
from medge.runtime.station.store.arrivals import Patient
from medge.runtime.station.store.backup import DATABASE, restore
from medge.runtime.station.store.catalogue import Wanted
from medge.runtime.station.store.database import Database
from medge.runtime.station.store.objects import Space
from medge.runtime.station.store.retention import Retention
from medge.runtime.station.work.jobs import NewJob

DAY = 86_400.0


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station.open(tmp_path / "station") as opened:
        yield opened


def files(station: Station) -> set[str]:
    return {path.name for path in (station.folder / "objects").glob("??/*")}


def test_an_object_is_there_once_and_whole(station: Station) -> None:
    content = film(7, StudyDescription="Chest", Rows=4)
    first, second = station.put(content, who="CT1"), station.put(io.BytesIO(content), who="CT1")
    assert (first.is_new, second.is_new, second.differs) == (True, False, False)
    assert first.instance == second.instance
    assert (first.instance.uid, first.instance.number, first.instance.rows) == ("1.2.1.1.9.7", 7, 4)
    with station.read(first.instance) as stream:
        assert stream.read() == content
    [listed] = station.studies()
    assert (listed.study.patient_name, listed.study.description, listed.modalities) == ("Mark^Ann", "Chest", ("DX",))
    assert (listed.instances, listed.bytes, listed.state) == (1, len(content), "new")
    assert files(station) == {first.instance.sha256}


def test_another_object_with_a_known_uid_is_not_kept(station: Station) -> None:
    station.put(film(1), who="CT1")
    found = station.put(film(1, pixels=b"\1" * 16), who="CT2")
    assert (found.is_new, found.differs) == (False, True)
    assert files(station) == {found.instance.sha256}
    assert [(entry.who, entry.what) for entry in station.history(what=found.instance.uid)] == [("CT2", "1.2.1.1.9.1")]


def test_another_patients_number_in_a_study_is_noted(station: Station) -> None:
    station.put(film(1), who="CT1")
    station.put(film(2, PatientID="P2"), who="CT1")
    assert station.history(limit=1)[0].action == "sent an object with another patient's number"
    with pytest.raises(ObjectRefusedError, match="series belongs to another study"):
        station.put(film(3, study="1.2.1.2", SeriesInstanceUID="1.2.1.1.8"), who="CT1")


def test_pictures_belong_to_a_study_or_make_one(station: Station) -> None:
    picture = PNG + b"pixels"
    alone = station.put(picture, who="ann", patient=Patient(name="Doe^Jo\x1b[2J", id="77"))
    assert not station.put(picture, who="bob").is_new
    beside = station.put(picture, who="ann", study="1.2.1.5")
    assert beside.is_new
    assert alone.instance.sha256 == beside.instance.sha256
    assert {listed.study.patient_name for listed in station.studies()} == {"Doe^Jo [2J", ""}
    station.remove("1.2.1.5", who="ann")
    assert files(station) == {alone.instance.sha256}  # the other study's


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither DICOM nor"),
        (b"#!/bin/sh\n" * 50, "neither DICOM nor"),
        (film(1)[:200], "has no|damaged"),
        (film(1, StudyInstanceUID=""), "has no StudyInstanceUID"),
        (film(1, SOPInstanceUID="../../etc/passwd"), "SOPInstanceUID is no UID"),
        (PNG + b"0" * 5000, "more than the 4000 bytes"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with Station.open(tmp_path / "s", space=Space(largest=4000)) as station:
        with pytest.raises(ObjectRefusedError, match=words):
            station.put(content, who="CT1")
        assert station.studies() == []
        assert files(station) == set()
        assert list((station.folder / "arriving").iterdir()) == []


def test_nothing_from_outside_becomes_a_path(station: Station) -> None:
    with pytest.raises(StationError, match="SHA-256"):
        station._objects.place("../../../etc/passwd")
    before = {path for path in station.folder.parent.rglob("*") if path.is_dir()}
    station.put(film(1, PatientName="../../x", PatientID="/etc/passwd", StudyDescription="..\\..\\y"), who="../z")
    assert {path for path in station.folder.parent.rglob("*") if path.is_dir()} == before


def test_the_worklist_is_filtered(station: Station) -> None:
    for number, (name, modality, date) in enumerate(
        (("Mark^Ann", "CT", "20260101"), ("Mark^Bob", "DX", "20260201"), ("100%^Cy", "DX", "20260301"))
    ):
        station.put(film(1, study=f"1.2.1.{number}", PatientName=name, Modality=modality, StudyDate=date), who="CT1")

    def names(wanted: Wanted) -> list[str]:
        return [listed.study.patient_name for listed in station.studies(wanted)]

    assert names(Wanted()) == ["100%^Cy", "Mark^Bob", "Mark^Ann"]
    assert names(Wanted(text="mark", modality="DX")) == ["Mark^Bob"]
    assert names(Wanted(text="%")) == ["100%^Cy"]
    assert names(Wanted(since="20260201", until="20260228")) == ["Mark^Bob"]
    assert names(Wanted(limit=1, offset=1)) == ["Mark^Bob"]
    station.queue.add("judge", study="1.2.1.0")
    assert names(Wanted(state="waiting")) == ["Mark^Ann"]
    assert names(Wanted(text="' OR 1=1 --")) == []


def test_one_owner(station: Station) -> None:
    with pytest.raises(StationError, match="is running already"):
        Station.open(station.folder)
    code = (
        "import sys; from pathlib import Path; from medge.runtime.station.station import Station\n"
        "from medge.runtime.errors import StationError\n"
        "try: Station.open(Path(sys.argv[1]))\n"
        "except StationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, station.folder], capture_output=True, text=True, check=True)
    assert "is running already" in done.stdout
    with Station.join(station.folder) as joined:
        assert joined.put(film(1), who="CT1").is_new
    station.close()
    with Station.open(station.folder) as again:
        assert len(again.studies()) == 1
    with pytest.raises(StationError, match="is closed"):
        station.studies()


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(StationError, match="neither empty nor a station"):
        Station.open(tmp_path)
    with pytest.raises(StationError, match="holds no station"):
        Station.join(tmp_path)


def test_what_a_kill_has_left_is_removed(station: Station) -> None:
    kept = station.put(film(1), who="CT1").instance.sha256
    station.close()
    (station.folder / "arriving" / "half").write_bytes(film(2)[:100])  # a power cut while it came
    stray = "ab" * 32  # a kill between a file's name and its entry
    (station.folder / "objects" / "ab" / stray).write_bytes(film(3))
    with Station.open(station.folder) as again:
        assert list((again.folder / "arriving").iterdir()) == []
        assert again.tidy() == len(film(3))
        assert files(again) == {kept}


def test_a_missing_file_comes_back_when_it_is_sent_again(station: Station) -> None:
    instance = station.put(film(1), who="CT1").instance
    (station.folder / "objects" / instance.sha256[:2] / instance.sha256).unlink()
    with pytest.raises(StationError, match="can't be read"):
        station.read(instance)
    assert not station.put(film(1), who="CT1").is_new
    with station.read(instance) as stream:
        assert stream.read() == film(1)


def test_less_than_the_reserve(tmp_path: Path) -> None:
    left = [10_000]
    with Station.open(tmp_path / "s", space=Space(reserve=5_000, free=lambda folder: left[0])) as station:
        assert station.put(film(1), who="CT1").is_new
        left[0] = 5_100
        with pytest.raises(StationFullError, match="disk is full"):
            station.put(film(2), who="CT1")
        assert [listed.instances for listed in station.studies()] == [1]
        assert station.queue.add("judge").state == "waiting"  # the rest goes on
        left[0] = 10_000
        assert station.put(film(2), who="CT1").is_new


def test_the_system_says_that_the_disk_is_full(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StationFullError, match="No space left"):
        station.put(film(1), who="CT1")
    monkeypatch.undo()
    assert files(station) == set()
    assert station.put(film(1), who="CT1").is_new


def test_a_real_disk_that_is_full(tmp_path: Path) -> None:
    """A disk of 3 MB in memory, without a reserve: objects until it is full, then what is there is read and removed."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from station_films import film\n"
        "from medge.runtime.station.station import Station; from medge.runtime.station.store.objects import Space\n"
        "from medge.runtime.errors import StationFullError\n"
        "s = Station.open(Path(sys.argv[1]) / 's', space=Space(reserve=0, ballast=300_000)); n = 0\n"
        "try:\n"
        "    while n < 100: s.put(film(n, study=f'1.2.1.{n}', pixels=bytes(100_000)), who='CT1'); n += 1\n"
        "except StationFullError as error: print('full', type(error).__name__)\n"
        "print(n, len(s.studies()), all(s.read(i).read() for x in s.studies() for r in s.series(x.study.uid)"
        " for i in s.instances(r.uid)))\n"
        "print(s.remove('1.2.1.0', who='ann'), s.put(film(500), who='CT1').is_new, s.history_break())"
    )
    script = 'mount -t tmpfs -o size=3m none "$0" && exec "$@"'
    place = tmp_path / "disk"
    place.mkdir()
    alone = next((
        words for words in (["unshare", "-m"], ["unshare", "-rm"])
        if subprocess.run([*words, "sh", "-c", 'mount -t tmpfs -o size=64k none "$0"', place], capture_output=True, check=False
                          ).returncode == 0
    ), None)  # fmt: skip
    if alone is None:
        pytest.skip("this machine lets nobody mount a disk in memory (unshare -rm)")
    done = subprocess.run(
        [*alone, "sh", "-c", script, place, sys.executable, "-c", code, place, Path(__file__).parents[2]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, counted, after = done.stdout.splitlines()
    assert said == "full StationFullError"
    taken, listed, readable = counted.split()
    assert int(taken) > 5
    assert (taken, readable) == (listed, "True")
    assert after == "True True None"


def test_old_studies_go_and_those_with_work_stay(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    today = clock.now()
    for number, age in enumerate((40, 35, 10)):
        monkeypatch.setattr("medge.runtime.station.station.now", lambda age=age: today - age * DAY)
        station.put(film(1, study=f"1.2.1.{number}"), who="CT1")
    monkeypatch.setattr("medge.runtime.station.station.now", lambda: today)
    job = station.queue.add("judge", study="1.2.1.0")
    assert station.sweep(Retention(days=30)) == ["1.2.1.1"]
    station.queue.cancel(job.id)
    monkeypatch.setattr("medge.runtime.station.station.now", lambda: today - 20 * DAY)
    assert station.sweep(Retention(days=1)) == []  # the clock went back
    monkeypatch.setattr("medge.runtime.station.station.now", lambda: today)
    assert station.sweep(Retention(days=30)) == ["1.2.1.0"]
    assert len(files(station)) == 1
    assert [entry.what for entry in station.history() if entry.action == "removed"] == ["1.2.1.0", "1.2.1.1"]


def test_the_oldest_go_where_space_is_short(tmp_path: Path) -> None:
    left = [10_000]
    with Station.open(tmp_path / "s", space=Space(reserve=1_000, free=lambda folder: left[0])) as station:
        for number in range(4):
            station.put(film(1, study=f"1.2.1.{number}", pixels=bytes([number]) * 16), who="CT1")
        size = len(film(1, study="1.2.1.0"))
        assert station.sweep(Retention(bytes=3 * size)) == ["1.2.1.0"]
        left[0] = 1_000 + 100
        assert station.sweep(Retention(free=100 + size + 1)) == ["1.2.1.1", "1.2.1.2"]
        assert station.sweep(Retention()) == []
        assert len(files(station)) == 1


def test_a_backup_while_objects_come_and_go(station: Station, tmp_path: Path) -> None:
    for number in range(10):
        station.put(film(number, study=f"1.2.1.{number}", pixels=bytes([number]) * 16), who="CT1")
    stop, count = threading.Event(), [10]

    def send() -> None:
        while not stop.is_set():
            station.put(film(count[0], study=f"1.2.1.{count[0]}", pixels=os.urandom(16)), who="CT1")
            count[0] += 1

    def removed(what: str, done: int, total: int) -> None:
        if done == 1:
            # A study that the copy of the database names; by another thread, as in a station.
            remover = threading.Thread(target=station.remove, args=["1.2.1.3"], kwargs={"who": "ann"})
            remover.start()
            remover.join()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        copied = station.backup(tmp_path / "backup", who="ann", progress=removed)
    finally:
        stop.set()
        sender.join()
    assert copied.new == copied.objects >= 10
    assert restore(tmp_path / "backup", tmp_path / "elsewhere").objects == copied.objects
    with Station.open(tmp_path / "elsewhere") as other:
        assert other.study("1.2.1.3") is not None
        listed = other.studies(Wanted(limit=10_000))
        assert len(listed) == copied.objects
        for one in listed:
            for series in other.series(one.study.uid):
                for instance in other.instances(series.uid):
                    with other.read(instance) as stream:
                        assert len(stream.read()) == instance.bytes
        assert other.history_break() is None
    station.tidy()
    assert station.study("1.2.1.3") is None
    again = station.backup(tmp_path / "backup", who="ann")
    assert again.new == again.objects - copied.objects + 1  # one was removed
    assert {path.name for path in (tmp_path / "backup" / "objects").glob("??/*")} == files(station)


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(database)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    finally:
        connection.close()


def test_what_is_restored_is_equal(station: Station, tmp_path: Path) -> None:
    station.put(film(1), who="CT1", then=lambda one: [NewJob("judge", one.uid, study="1.2.1.1")])
    station.set("language", "sw", who="ann")
    station.backup(tmp_path / "backup", who="ann")
    station.close()
    restore(tmp_path / "backup", tmp_path / "elsewhere")
    assert rows(tmp_path / "elsewhere" / DATABASE) == rows(station.folder / DATABASE)


def test_a_damaged_backup_is_refused(station: Station, tmp_path: Path) -> None:
    instance = station.put(film(1), who="CT1").instance
    backup = tmp_path / "backup"
    station.backup(backup, who="ann")
    [path] = (backup / "objects").glob("??/*")
    whole = path.read_bytes()
    for content, words in ((whole[:-1] + b"x", "have changed"), (None, "can't be read")):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(StationError, match=f"{instance.sha256}.*{words}"):
            restore(backup, tmp_path / "elsewhere")
        assert not (tmp_path / "elsewhere").exists()
    station.backup(backup, who="ann")  # mends it
    assert restore(backup, tmp_path / "elsewhere").objects == 1
    with pytest.raises(StationError, match="exists; choose"):
        restore(backup, tmp_path / "elsewhere")
    with Station.open(tmp_path / "other") as other, pytest.raises(StationError, match="backup of another station"):
        other.backup(backup, who="ann")
    with pytest.raises(StationError, match="no backup"):
        restore(tmp_path / "nothing", tmp_path / "elsewhere")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").touch()
    with pytest.raises(StationError, match="neither empty nor a backup"):
        station.backup(tmp_path / "letters", who="ann")


def test_a_change_of_the_audit_log_is_found(station: Station) -> None:
    for number in range(5):
        station.note("ann", "asked to classify", f"1.2.{number}", {"bundle": "b"})
    assert station.history_break() is None
    assert [entry.what for entry in station.history(limit=2)] == ["1.2.4", "1.2.3"]
    station.close()

    def broken(*statements: str) -> str | None:
        database = station.folder / DATABASE
        before = database.read_bytes()
        connection = sqlite3.connect(database)
        for statement in ("DROP TRIGGER audit_stays", "DROP TRIGGER audit_holds", *statements):
            connection.execute(statement)
        connection.commit()
        connection.close()
        with Station.open(station.folder) as opened:
            found = opened.history_break()
        database.write_bytes(before)
        return found.reason if found else None

    assert broken() is None
    assert broken("UPDATE audit SET who = 'bob' WHERE id = 3") == "entry 3 was changed after it was written"
    assert broken("DELETE FROM audit WHERE id = 2") == "entry 2 is missing; the next one is 3"
    assert broken("DELETE FROM audit WHERE id > 3") == "the last entries, 4 to 5, are missing"
    assert broken("UPDATE audit SET previous = '' WHERE id = 2") == "entry 2 does not follow the one before it"
    with Station.open(station.folder) as opened, opened.database.write() as connection:
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            connection.execute("DELETE FROM audit")
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            connection.execute("UPDATE audit SET who = 'bob'")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_nobody_else_reads_what_a_station_holds(station: Station, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir(mode=0o755)
    station.put(film(1), who="CT1")
    station.backup(tmp_path / "stick", who="ann")
    restore(tmp_path / "stick", tmp_path / "elsewhere")

    def mode(*names: str) -> int:
        return tmp_path.joinpath(*names).stat().st_mode & 0o077

    for names in (["station"], ["station", DATABASE], ["station", f"{DATABASE}-wal"], ["station", "objects"], ["elsewhere"],
                  ["stick", DATABASE], ["stick", "objects"]):  # fmt: skip
        assert mode(*names) == 0, names


def test_settings(station: Station) -> None:
    assert station.setting("language") is None
    station.set("language", "fr", who="ann")
    station.set("language", {"of": "sw"}, who="ann")
    assert station.setting("language") == {"of": "sw"}
    assert [entry.what for entry in station.history()] == ["language"] * 2


def test_an_older_station_is_brought_up_to_date(station: Station) -> None:
    """A station with rows in it; the next version adds a column and a table."""
    station.put(film(1), who="CT1")
    station.close()
    path, steps = station.folder / DATABASE, schema.STEPS
    last = len(steps)
    newer = (*steps, ("ALTER TABLE studies ADD COLUMN site TEXT NOT NULL DEFAULT ''", "CREATE TABLE sites (name TEXT)"))
    with pytest.raises(StationError, match=f"is of version {last}, and this medge uses version {last + 1}"):
        Database(path, make=False, steps=newer)
    broken = (*steps, ("CREATE TABLE sites (name TEXT)", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError):
        Database(path, make=True, steps=broken)
    for _ in range(2):
        database = Database(path, make=True, steps=newer)
        with database.read() as connection:
            assert connection.execute("SELECT site, patient_id FROM studies").fetchall()[0]["patient_id"] == "P1"
            assert schema.version(connection, path) == last + 1
        database.close()
    with pytest.raises(StationError, match="use a newer medge"):
        Station.open(station.folder)


def test_a_station_of_version_1_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "s" / DATABASE
    path.parent.mkdir()
    database = Database(path, make=True, steps=schema.STEPS[:1])
    with database.write() as connection:
        connection.execute("INSERT INTO studies VALUES ('1.2', 'Mark^Ann', 'P1', '', '', '', '', '', '', 5)")
        connection.execute("INSERT INTO series VALUES ('1.2.8', '1.2', 'DX', 1, '', '')")
    database.close()
    with Station.open(path.parent) as station:
        assert [(one.study.uid, one.report, one.picture) for one in station.studies()] == [("1.2", "none", None)]
        with station.database.write() as connection:
            reports.change(connection, "1.2", "Findings", version=0, who="ann")
        assert station.studies()[0].report == "draft"


def test_a_damaged_or_foreign_database(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign" / DATABASE
    foreign.parent.mkdir()
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StationError, match="not a station's database"):
        Station.open(foreign.parent)
    damaged = tmp_path / "damaged" / DATABASE
    damaged.parent.mkdir()
    damaged.write_bytes(b"no database at all" * 100)
    with pytest.raises(StationError, match="is damaged; restore"):
        Station.open(damaged.parent)
