"""Twelve moments of benchmarks/station_kills.py, and three of `medge serve` itself: what was acknowledged is stored once and
judged once, whatever was killed."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script
from station_films import film
from station_process import Running, station

from medge.runtime.station.station import Station

SEED, MOMENTS = 12, 12


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_script(Path(__file__).parents[3] / "benchmarks" / "station_kills.py")


def test_killed_under_load_loses_and_doubles_nothing(campaign: ModuleType, tmp_path: Path) -> None:
    load = campaign.Load(tmp_path / "station", campaign.picture)
    try:
        rows = [load.moment(number, campaign.seeded(SEED, number)) for number in range(MOMENTS)]
    finally:
        load.end()
    assert [row for row in rows if row["problems"]] == []
    assert {row["victim"] for row in rows} == set(campaign.VICTIMS)
    assert sum(row["left"] for row in rows) > 0  # a station was killed while objects came
    assert len(load.acknowledged) == sum(row["objects"] for row in rows)


def test_what_a_campaign_sees(campaign: ModuleType, tmp_path: Path) -> None:
    """A station that lost an object, has another that nobody judged, and a file that was changed."""
    folder = tmp_path / "station"
    with Station.open(folder) as station:
        kept = station.put(campaign.film(1, 0), who="sender").instance
        (folder / "objects" / kept.sha256[:2] / kept.sha256).write_bytes(b"changed")
        load: Any = campaign.Load.__new__(campaign.Load)
        load.folder, load.acknowledged = folder, {kept.uid: kept.sha256, "1.2.3.0.9": "0" * 64}
        seen = list(load._account(station))
    assert "2 acknowledged, 1 stored" in seen
    assert "judge: 0 results for 2 objects" in seen
    assert "a file does not hold what its name says" in seen


def test_the_whole_station_killed_while_files_come(bundle: Path, tmp_path: Path) -> None:
    """The sender sends again what was not acknowledged; each film is a study with one job and one result."""
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
    bundles, store = tmp_path / "bundles", tmp_path / "store"
    shutil.copytree(bundle, bundles / "eyes")
    words = ("--store", str(store), "--threads", "1")
    draw, films = random.Random(SEED), {f"1.2.7.{number}": film(number, f"1.2.7.{number}") for number in range(40)}
    acknowledged: set[str] = set()

    def send(running: Running) -> None:
        for uid, content in films.items():
            if uid not in acknowledged:
                try:
                    [got] = running.upload(("film", content))["received"]
                except OSError:  # killed
                    return
                assert got["study"] == uid
                acknowledged.add(uid)

    counts = []
    for _ in range(3):
        with station(bundles, *words) as running:
            sender = threading.Thread(target=send, args=[running])
            target = len(acknowledged) + draw.randint(1, 10)
            sender.start()
            while len(acknowledged) < target and sender.is_alive():
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.01))  # into the middle of another
            running.process.send_signal(signal.SIGKILL)
            sender.join(30)
            counts.append(len(acknowledged))
    assert counts[-1] < len(films)  # otherwise nothing was killed while files came
    with station(bundles, *words) as running:
        send(running)
        running.wait("/v1/jobs?limit=500", lambda jobs: all(job["state"] == "done" for job in jobs))
    assert acknowledged == films.keys()
    with Station.open(store) as held:
        listed = held.studies()
        assert {one.study.uid for one in listed} == films.keys()
        assert len(listed) == sum(one.instances for one in listed) == len(films)
        assert {job.state for job in held.queue.list(limit=500)} == {"done"}
        assert Counter(job.study for job in held.queue.list(limit=500)) == Counter(films.keys())
        assert [len(held.results(uid)) for uid in films] == [1] * len(films)
        assert held.history_break() is None
