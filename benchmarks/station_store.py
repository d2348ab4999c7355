"""How long a station takes to start with many objects, after a clean end and after a kill, and what the rest costs then.

    python benchmarks/station_store.py --objects 20000 --out benchmarks/results/station_store.json

Small DICOM files are put into a station in memory, where a disk's flushes cost nothing, which is copied to the disk; there
some more are put as they would be in a clinic, the station is started anew in fresh processes, and killed in one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from station_kills import film

from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import restore
from medge.runtime.station.store.catalogue import Wanted
from medge.runtime.station.work.jobs import NewJob

A_BATCH = 100  # objects, in studies of five
TIMED = 100  # objects put on the disk, and claims


def fill(station: Station, numbers: range) -> Iterator[float]:
    """Put films, each with a job; the seconds that each took."""
    for number in numbers:
        content = film(number % A_BATCH, number // A_BATCH)
        begun = time.perf_counter()
        study = f"1.2.1.{number // A_BATCH}.{number % A_BATCH // 5}"
        station.put(content, who="sender", then=lambda one, study=study: [NewJob("judge", one.uid, one.uid, study)])
        yield time.perf_counter() - begun


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


START = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from medge.runtime.station.station import Station
loaded = time.perf_counter()
station = Station.open(Path(sys.argv[1]))
print(loaded - begun, time.perf_counter() - loaded, len(station.studies()), flush=True)
if len(sys.argv) > 2:  # until it is killed, with much that no checkpoint has written back
    for number in range(2000):
        station.queue.add("noise")
    print("written", flush=True)
    time.sleep(600)
"""


def start(folder: Path) -> dict[str, float]:
    """A station's start in a fresh process: seconds to load the modules, and to open it."""
    done = subprocess.run([sys.executable, "-c", START, folder], capture_output=True, text=True, check=True)
    loading, opening, _ = map(float, done.stdout.split())
    return {"loading": loading, "opening": opening}


def kill_one(folder: Path) -> None:
    """Start a station, have it write, and kill it."""
    process = subprocess.Popen([sys.executable, "-c", START, folder, "write"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "written":
        if process.poll() is not None:
            raise RuntimeError("the station ended by itself")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def measure(objects: int, disk: Path, memory: Path) -> dict[str, Any]:
    """All figures, with a station in a folder of `disk` that was filled in `memory`."""
    with Station.open(memory / "station") as station:
        for number, _ in enumerate(fill(station, range(objects)), start=1):
            if number % 1000 == 0:
                print(f"{number} objects", file=sys.stderr, flush=True)
    shutil.copytree(memory / "station", disk / "station")
    found: dict[str, Any] = {"objects": objects, "start": start(disk / "station")}
    kill_one(disk / "station")
    found["start_after_kill"] = start(disk / "station")
    with Station.open(disk / "station") as station:
        found["put"] = statistics.median(fill(station, range(objects, objects + TIMED)))
        found["worklist"] = seconds(lambda: station.studies(Wanted(limit=100)))
        found["worklist_waiting"] = seconds(lambda: station.studies(Wanted(state="waiting", limit=100)))
        found["search"] = seconds(lambda: station.studies(Wanted(text="nobody", limit=100)))
        claims = [seconds(lambda: station.queue.claim(["judge"], "worker")) for _ in range(TIMED)]
        found["claim"] = statistics.median(claims)
        found["tidy"] = seconds(station.tidy)
        found["database_bytes"] = (disk / "station" / "station.sqlite").stat().st_size
        found["backup"] = seconds(lambda: station.backup(memory / "backup", who="benchmark"))
        found["backup_again"] = seconds(lambda: station.backup(memory / "backup", who="benchmark"))
    found["restore"] = seconds(lambda: restore(memory / "backup", memory / "restored"))
    return found


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder in memory")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=arguments.memory) as memory:
        found = measure(arguments.objects, Path(disk), Path(memory))
    found["date"] = datetime.date.today().isoformat()
    arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
