"""The queue and its workers: each job once, tried again, parked, cancelled; workers that die or are only thought dead."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from station_films import film

from medge.runtime.errors import ClaimLostError, ImageError, StationError, StationFullError
from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import DATABASE
from medge.runtime.station.store.database import Database
from medge.runtime.station.work import jobs
from medge.runtime.station.work.crew import Crew
from medge.runtime.station.work.jobs import Limits, NewJob
from medge.runtime.station.work.queue import Queue
from medge.runtime.station.work.worker import Outcome, Task, Worker


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    database = Database(tmp_path / DATABASE, make=True)
    yield Queue(database, Limits(lease=10, backoff=5), clock)
    database.close()


def done(task: Task) -> Any:
    return {"of": task.job.payload}


def results(queue: Queue) -> list[tuple[int, str]]:
    with queue._database.read() as connection:
        return [tuple(row) for row in connection.execute("SELECT job, content FROM results ORDER BY id")]


def test_a_job_is_done_once_with_its_result(queue: Queue) -> None:
    job = queue.add("judge", {"n": 1}, key="judge 1")
    assert queue.add("judge", {"n": 2}, key="judge 1") == job
    worker = Worker(queue, {"judge": done})
    assert (worker.run_one(), worker.run_one()) == (True, False)
    assert queue.add("judge", key="judge 1").state == "done"
    assert results(queue) == [(job.id, '{"of": {"n": 1}}')]
    assert queue.counts() == {"done": 1}


def test_a_job_waits_for_others_of_its_key_and_what_comes_later_is_another(queue: Queue, clock: Clock) -> None:
    seen: list[int] = []
    worker = Worker(queue, {"judge": lambda task: seen.append(task.job.id)})
    first = queue.add("judge", key="series 1", settle=3)
    clock.at += 2
    assert queue.add("judge", key="series 1", settle=3).id == first.id
    clock.at += 2
    assert not worker.run_one()  # the second one began the wait anew
    clock.at += 2
    held = queue.claim(["judge"], "w")
    assert held is not None
    assert held.job.id == first.id
    later = queue.add("judge", key="series 1", settle=3)  # it may have missed this one
    assert later.id != first.id
    queue.complete(held, 1)
    clock.at += 3
    assert worker.run_one()
    assert seen == [later.id]
    assert queue.add("judge", key="series 1", settle=3).id not in (first.id, later.id)


def test_a_series_that_never_ends_is_begun_all_the_same(
    queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add("judge", key="series 1", settle=3)
    monkeypatch.setattr("medge.runtime.station.work.jobs.LONGEST_SETTLING", -1.0)
    clock.at += 2
    queue.add("judge", key="series 1", settle=3)
    clock.at += 1
    assert Worker(queue, {"judge": done}).run_one()


def test_a_crew_does_jobs_of_each_lane_at_once_and_gives_back_what_runs(tmp_path: Path) -> None:
    with Station.open(tmp_path / "s") as station:
        begun, quick = threading.Event(), threading.Event()

        def slow(task: Task) -> None:
            begun.set()
            while True:
                task.check()
                time.sleep(0.01)

        crew = Crew(station.queue, [{"report": slow}, {"judge": lambda task: quick.set()}])
        assert crew.kinds == {"report", "judge"}
        crew.start()
        report = station.queue.add("report")
        assert begun.wait(10)
        station.queue.add("judge")
        assert quick.wait(10)
        crew.stop()
        found = station.queue.get(report.id)
        assert found is not None
        assert (found.state, found.failures) == ("waiting", 0)


def test_priority_then_order_and_only_kinds_that_are_known(queue: Queue) -> None:
    for name, priority in (("a", 0), ("b", 0), ("urgent", 5), ("c", 0)):
        queue.add("judge", name, priority=priority)
    queue.add("print", "never")
    waiting = {job.payload: queue.ahead(job) for job in queue.list(kind="judge")}
    assert waiting == {"urgent": 0, "a": 1, "b": 2, "c": 3}
    order: list[str] = []
    worker = Worker(queue, {"judge": lambda task: order.append(task.job.payload)})
    while worker.run_one():
        pass
    assert order == ["urgent", "a", "b", "c"]
    assert queue.counts() == {"done": 4, "waiting": 1}


def test_tried_again_later_each_time_and_parked_with_the_reason(
    queue: Queue, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(task: Task) -> None:
        raise ImageError("Mark^Ann's film: no pixels")

    job = queue.add("judge")
    worker = Worker(queue, {"judge": refuse})
    with caplog.at_level(logging.DEBUG):
        assert worker.run_one()
        for wait in (5, 20):
            clock.at += wait - 0.1
            assert not worker.run_one()
            clock.at += 0.1
            assert worker.run_one()
    found = queue.get(job.id)
    assert found is not None
    assert (found.state, found.failures, found.reason) == ("parked", 3, "Mark^Ann's film: no pixels")
    assert "Mark" not in caplog.text  # in the store, not in the log
    clock.at += 1000
    assert not worker.run_one()
    assert queue.retry(job.id).failures == 0
    assert Worker(queue, {"judge": done}).run_one()
    assert queue.counts() == {"done": 1}


def test_what_a_library_says_is_not_kept(queue: Queue) -> None:
    def fault(task: Task) -> None:
        raise ValueError("Mark^Ann")

    job = queue.add("judge")
    Worker(queue, {"judge": fault}).run_one()
    assert [one.reason for one in queue.list()] == ["ValueError in the handler"]
    Worker(queue, {"judge": lambda task: object()}).run_one()
    assert results(queue) == []
    assert queue.get(job.id).failures == 1  # type: ignore[union-attr]  # it is there, and waits for its second try


def test_a_result_that_is_no_json_is_a_failure(queue: Queue) -> None:
    queue.add("judge")
    Worker(queue, {"judge": lambda task: object()}).run_one()
    assert [one.reason for one in queue.list()] == ["the handler's result can't be written as JSON (TypeError)"]
    assert results(queue) == []


def test_two_workers_never_hold_one_job(tmp_path: Path) -> None:
    """Eight threads with connections of their own and a process's worth of databases take 60 jobs."""
    path = tmp_path / DATABASE
    first = Queue(Database(path, make=True))
    for number in range(60):
        first.add("judge", number)
    queues = [first, *(Queue(Database(path, make=False)) for _ in range(3))]
    held: list[int] = []
    begin = threading.Barrier(8)

    def take(queue: Queue) -> None:
        begin.wait()
        while claim := queue.claim(["judge"], threading.current_thread().name):
            held.append(claim.job.id)

    threads = [threading.Thread(target=take, args=[queues[number % 4]]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held) == [job.id for job in reversed(first.list())]
    for queue in queues:
        queue._database.close()


def test_a_worker_that_was_thought_dead_does_not_count(queue: Queue, clock: Clock) -> None:
    job = queue.add("judge")
    slow = queue.claim(["judge"], "slow")
    assert slow is not None
    clock.at += 9
    queue.extend(slow)
    clock.at += 9
    assert queue.claim(["judge"], "other") is None
    clock.at += 2
    other = queue.claim(["judge"], "other")
    assert other is not None
    assert (other.job.id, other.job.losses) == (job.id, 1)
    actions: list[Callable[[], object]] = [
        lambda: queue.complete(slow, "late"), lambda: queue.fail(slow, "late"), lambda: queue.extend(slow),
        lambda: queue.tell(slow, 1, 2, "late"), lambda: queue.give_back(slow), lambda: queue.close_cancelled(slow),
    ]  # fmt: skip
    for act in actions:
        with pytest.raises(ClaimLostError):
            act()
    queue.complete(other, "right")
    with pytest.raises(ClaimLostError):
        queue.complete(other, "twice")
    assert results(queue) == [(job.id, '"right"')]


def test_a_job_that_ends_its_workers_is_parked(queue: Queue, clock: Clock) -> None:
    job = queue.add("judge")
    for _ in range(queue.limits.losses):
        assert queue.claim(["judge"], "doomed") is not None
        clock.at += 11
    assert queue.claim(["judge"], "next") is None
    found = queue.get(job.id)
    assert found is not None
    assert (found.state, found.losses) == ("parked", 5)
    assert "the worker ended" in found.reason


def test_a_station_that_starts_takes_jobs_back(tmp_path: Path) -> None:
    with Station.open(tmp_path / "s") as station:
        station.queue.add("judge")
        late = station.queue.claim(["judge"], "killed")
        assert late is not None
    with Station.open(tmp_path / "s") as station:
        assert station.queue.counts() == {"waiting": 1}
        with pytest.raises(ClaimLostError):
            station.queue.complete(late, "late")
        assert Worker(station.queue, {"judge": done}).run_one()
        assert len(results(station.queue)) == 1


def test_jobs_that_follow_are_there_with_the_result_or_not_at_all(queue: Queue) -> None:
    queue.add("judge", key="judge")
    worker = Worker(
        queue, {"judge": lambda task: Outcome(1, [NewJob("print", key="print"), NewJob("send", study="none")])}
    )
    with pytest.raises(StationError, match="study that the job belongs to"):
        held = queue.claim(["judge"], "w")
        assert held is not None
        queue.complete(held, 1, [NewJob("print", key="print"), NewJob("send", study="1.2.3")])
    assert (queue.counts(), results(queue)) == ({"running": 1}, [])
    queue.give_back(held)
    worker = Worker(queue, {"judge": lambda task: Outcome(1, [NewJob("print", key="print")])})
    assert worker.run_one()
    assert queue.counts() == {"done": 1, "waiting": 1}


def test_what_belongs_to_a_result_is_written_with_it_or_not_at_all(queue: Queue) -> None:
    def also(connection: sqlite3.Connection) -> None:
        jobs.add(connection, NewJob("seen"), 0)

    held = (queue.add("judge"), queue.claim(["judge"], "w"))[1]
    assert held is not None
    queue.give_back(held)
    with pytest.raises(ClaimLostError):
        queue.complete(held, 1, also=also)
    assert queue.counts() == {"waiting": 1}
    assert Worker(queue, {"judge": lambda task: Outcome(1, also=also)}).run_one()
    assert queue.counts() == {"done": 1, "waiting": 1}
    assert [job.kind for job in queue.list(state="waiting")] == ["seen"]


def test_who_finds_nothing_to_do_waits_for_no_writer(queue: Queue, clock: Clock) -> None:
    queue.add("judge")
    running = queue.claim(["judge"], "w")
    queue.add("judge")
    with queue._database.write(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(queue.claim, ["print"], "other").result(10) is None
    assert running is not None
    clock.at += 11  # its lease has ended: everybody takes it back
    assert queue.claim(["print"], "other") is None
    assert queue.counts() == {"waiting": 2}


def test_cancelled(queue: Queue) -> None:
    waiting, running = queue.add("judge", priority=-1), queue.add("judge")
    seen: list[int] = []

    def judge(task: Task) -> None:
        queue.cancel(running.id)
        for step in range(1000):
            task.progress("steps", step, 1000)
            seen.append(step)
            time.sleep(0.01)
        raise AssertionError("it was not stopped")

    queue.limits = Limits(lease=0.2)
    assert Worker(queue, {"judge": judge}).run_one()
    assert queue.cancel(waiting.id).state == "cancelled"
    assert queue.counts() == {"cancelled": 2}
    with pytest.raises(StationError, match="is cancelled, so it can't be cancelled"):
        queue.cancel(running.id)
    with pytest.raises(StationError, match="there is no job 99"):
        queue.cancel(99)
    assert queue.retry(running.id).state == "waiting"
    with pytest.raises(StationError, match="only a parked or cancelled one"):
        queue.retry(running.id)
    assert Worker(queue, {"judge": done}).run_one()


def test_cancelled_while_its_handler_failed(queue: Queue) -> None:
    def judge(task: Task) -> None:
        queue.cancel(task.job.id)
        raise ImageError("no pixels")

    queue.add("judge")
    assert Worker(queue, {"judge": judge}).run_one()
    assert queue.counts() == {"cancelled": 1}


def test_progress_and_signs_of_life(tmp_path: Path) -> None:
    """A job that takes longer than its lease, with a worker that lives."""
    with Station.open(tmp_path / "s", limits=Limits(lease=0.4)) as station:
        job = station.queue.add("judge")
        told: list[tuple[int, int, str]] = []

        def judge(task: Task) -> str:
            for step in (1, 2, 3):
                time.sleep(0.4)
                assert station.queue.claim(["judge"], "thief") is None
                task.progress("pictures", step, 3)
                found = station.queue.get(job.id)
                assert found is not None
                told.append((found.steps_done, found.steps, found.doing))
            return "well"

        assert Worker(station.queue, {"judge": judge}).run_one()
        assert told[0] == (1, 3, "pictures")
        assert told[-1] == (3, 3, "pictures")
        found = station.result(job.id)
        assert found is not None
        assert found.content == "well"


def test_a_worker_that_is_told_to_stop_gives_its_job_back(queue: Queue) -> None:
    job, stop, begun = queue.add("judge"), threading.Event(), threading.Event()

    def judge(task: Task) -> None:
        begun.set()
        while True:
            task.check()
            time.sleep(0.01)

    thread = threading.Thread(target=Worker(queue, {"judge": judge}, poll=0.05).run, args=[stop])
    thread.start()
    assert begun.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    found = queue.get(job.id)
    assert found is not None
    assert (found.state, found.failures, found.losses) == ("waiting", 0, 0)


def test_a_worker_hears_of_new_jobs_at_once(queue: Queue) -> None:
    stop, seen = threading.Event(), threading.Event()
    thread = threading.Thread(target=Worker(queue, {"judge": lambda task: seen.set()}, poll=60).run, args=[stop])
    thread.start()
    try:
        time.sleep(0.1)
        queue.add("judge")
        assert seen.wait(10)
    finally:
        stop.set()
        queue.wake()
        thread.join(10)
    assert queue.counts() == {"done": 1}


def test_a_disk_that_is_full_for_a_moment_costs_no_result(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.add("judge")
    complete, times = queue.complete, [0]

    def full_twice(*words: Any) -> None:
        times[0] += 1
        if times[0] < 3:
            raise StationFullError("no space left")
        complete(*words)

    monkeypatch.setattr(queue, "complete", full_twice)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert Worker(queue, {"judge": done}).run_one()
    assert queue.counts() == {"done": 1}


def test_jobs_go_with_their_study(tmp_path: Path) -> None:
    with Station.open(tmp_path / "s") as station:
        got = station.put(film(1), who="CT1", then=lambda one: [NewJob("judge", one.uid, one.uid, study="1.2.1.1")])
        assert station.studies()[0].state == "waiting"
        station.put(film(1), who="CT1", then=lambda one: [NewJob("judge", one.uid)])  # sent twice: no second job
        assert station.queue.counts() == {"waiting": 1}
        held = station.queue.claim(["judge"], "w")
        assert held is not None
        assert station.studies()[0].state == "running"
        station.remove("1.2.1.1", who="ann")
        with pytest.raises(ClaimLostError):
            station.queue.complete(held, "late")
        assert station.put(film(1), who="CT1").is_new
        station.queue.add("judge", key=got.instance.uid, study="1.2.1.1")
        Worker(station.queue, {"judge": done}).run_one()
        assert station.studies()[0].state == "done"
        assert [result.content for result in station.results("1.2.1.1")] == [{"of": None}]


def test_a_put_whose_jobs_can_not_be_added_stores_nothing(tmp_path: Path) -> None:
    with Station.open(tmp_path / "s") as station:
        with pytest.raises(StationError, match="study that the job belongs to"):
            station.put(film(1), who="CT1", then=lambda one: [NewJob("judge", study="9.9")])
        assert station.studies() == []
        assert station.tidy() > 0
        assert not any((station.folder / "objects").glob("??/*"))


def test_a_reader_sees_one_moment(queue: Queue) -> None:
    with queue._database.read() as connection:
        before = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        queue.add("judge")
        assert connection.execute("SELECT count(*) FROM jobs").fetchone()[0] == before
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("BEGIN")
    assert queue.counts() == {"waiting": 1}
