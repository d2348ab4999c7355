"""Kill a station's processes with SIGKILL at random moments under load, and count what was acknowledged, stored and judged.

    python benchmarks/station_kills.py --moments 60

A sender sends objects, some of them twice, to a station's process, which acknowledges each; a worker's process judges them. At a
moment that follows from the seed and its number, one of the two is killed, or both, sometimes again while it starts; then it is
started anew, the sender sends again what was not acknowledged, and when nothing is left to do, every object must be stored once,
whole, and judged once. Each moment is a line of a file: a campaign that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import io
import json
import os
import random
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import DATABASE
from medge.runtime.station.work.jobs import Limits, NewJob
from medge.runtime.station.work.worker import Outcome, Task, Worker

VICTIMS = ("station", "worker", "both")
LIMITS = Limits(lease=2.0, losses=1000)  # a kill is not the job's fault here
HEAD = struct.Struct("<I")
PATIENCE = 120.0  # seconds until all is judged; a busy machine is slow
LONGEST = 10.0  # until the kill, from the object that it waits for, in the time that this machine takes for one
STARTING = 1.2  # seconds until the second kill, while a process starts


def film(number: int, batch: int) -> bytes:
    """A small DICOM file: its UIDs follow from two numbers, its pixels are noise."""
    from pydicom.dataset import Dataset, FileMetaDataset  # half a second that the processes need not spend
    from pydicom.uid import ExplicitVRLittleEndian

    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.3.{batch}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.1.{batch}.{number // 5}", f"1.2.2.{batch}.{number // 5}"
    data.PatientName, data.PatientID, data.Modality, data.InstanceNumber = "A^B", "1", "OT", number
    data.Rows, data.Columns, data.BitsAllocated, data.SamplesPerPixel = 32, 32, 8, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = random.Random(f"{batch} {number}").randbytes(1024)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def picture(number: int, batch: int) -> bytes:
    """As `film`, in what the station takes for a PNG: it starts in half the time, without pydicom."""
    return b"\x89PNG\r\n\x1a\n" + random.Random(f"{batch} {number}").randbytes(1024)


def be_station(folder: Path) -> None:
    """Take objects from standard input, each after its length, and acknowledge each by its UID in a line."""
    with Station.open(folder, limits=LIMITS) as station:
        print("ready", flush=True)
        while head := sys.stdin.buffer.read(HEAD.size):
            content = sys.stdin.buffer.read(*HEAD.unpack(head))
            got = station.put(content, who="sender", then=lambda one: [NewJob("judge", one.uid, f"judge {one.uid}")])
            print(got.instance.uid, flush=True)


def be_worker(folder: Path) -> None:
    """Judge objects until it is killed: their hash, and a job that follows from each."""
    station = Station.join(folder, limits=LIMITS)

    def judge(task: Task) -> Outcome:
        instance = station.instance(task.job.payload)
        assert instance is not None
        with station.read(instance) as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        task.progress("hashes", 1, 1)
        return Outcome(
            {"uid": instance.uid, "sha256": digest}, [NewJob("count", instance.uid, f"count {instance.uid}")]
        )

    print("ready", flush=True)
    Worker(station.queue, {"judge": judge, "count": lambda task: {"uid": task.job.payload}}, poll=0.1).run(
        threading.Event()
    )


class Part:
    """One of the two processes."""

    def __init__(self, role: str, folder: Path) -> None:
        self.role, self.folder = role, folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--be", self.role, "--folder", str(self.folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        if wait and self.line() != "ready":
            raise RuntimeError(f"the {self.role} did not start")

    def line(self) -> str | None:
        """The next line that it says; None where it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                raise RuntimeError(f"the {self.role} says nothing")
            sign = self.process.stdout.read(1)
            if not sign:
                return None
            said += sign
        return said.decode().strip()

    def send(self, content: bytes) -> str | None:
        """Send an object; the UID that is acknowledged, or None where the process has ended before."""
        assert self.process is not None
        assert self.process.stdin is not None
        rest = memoryview(HEAD.pack(len(content)) + content)
        try:
            while rest:
                rest = rest[self.process.stdin.write(rest) or 0 :]
        except OSError:
            return None
        return self.line()

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()


class Load:
    """A station and a worker under load, and what the sender knows.

    Args:
        folder: of the station.
        make: an object from its number in its batch, and the batch's.
    """

    def __init__(self, folder: Path, make: Callable[[int, int], bytes] = film) -> None:
        self.folder, self._make = folder, make
        self.acknowledged: dict[str, str] = {}  # {UID: the hash of what was sent}
        self.pace = 0.01  # seconds that the station took for an object of the batch before
        self.parts = {role: Part(role, folder) for role in ("station", "worker")}
        for part in self.parts.values():
            part.start()

    def end(self) -> None:
        for part in self.parts.values():
            part.kill()

    def moment(self, number: int, rng: random.Random) -> dict[str, Any]:
        """One batch of objects with one kill in it.

        Returns:
            What was done, and the problems that were seen.
        """
        victim, again = rng.choice(VICTIMS), rng.random() < 0.25
        after, delay, second = rng.randint(0, 44), rng.uniform(0, LONGEST) * self.pace, rng.uniform(0, STARTING)
        films = [self._make(one, number) for one in range(rng.randint(15, 40))]
        todo = films + rng.choices(films, k=5)  # some come twice
        victims = [self.parts[role] for role in self.parts if victim in (role, "both")]
        killed = threading.Timer(delay, lambda: [os.kill(part.process.pid, signal.SIGKILL) for part in victims])  # type: ignore[union-attr]  # started above
        left = self._send(todo, after, killed)
        killed.join()
        for part in victims:
            part.kill()
            if again:
                part.start(wait=False)
        if again:
            time.sleep(second)
        for part in victims:
            if again:
                part.kill()
            part.start()
        if self._send(left, None, killed):
            raise RuntimeError("the station ended by itself")
        problems = list(self._problems())
        return {
            "moment": number, "victim": victim, "again": again, "after": after, "delay": round(delay, 3),
            "objects": len(films), "left": len(left), "problems": problems,
        }  # fmt: skip

    def _send(self, films: list[bytes], after: int | None, then: threading.Thread) -> list[bytes]:
        """Send objects until all are acknowledged, or the station has ended: those that are left.

        Before the one whose number is `after`, or the last, `then` is started.
        """
        began = time.monotonic()
        for done, content in enumerate(films):
            if after is not None and done == min(after, len(films) - 1):
                then.start()
            uid = self.parts["station"].send(content)
            if uid is None:
                return films[done:]
            self.acknowledged[uid] = hashlib.sha256(content).hexdigest()
            self.pace = (time.monotonic() - began) / (done + 1)
        return []

    def _problems(self) -> Iterator[str]:
        """What is lost, doubled or damaged once nothing is left to do."""
        with Station.join(self.folder, limits=LIMITS) as station:
            deadline = time.monotonic() + PATIENCE
            while set(counts := station.queue.counts()) & {"waiting", "running"}:
                if time.monotonic() > deadline:
                    yield f"not done in time: {counts}"
                    return
                time.sleep(0.05)
            if set(counts) - {"done"}:
                yield f"not all jobs are done: {counts}"
            yield from self._account(station)

    def _account(self, station: Station) -> Iterator[str]:
        # Asked of SQLite, not of the code that is tested.
        with contextlib.closing(sqlite3.connect(self.folder / DATABASE)) as database:
            stored = database.execute("SELECT uid, sha256 FROM instances").fetchall()
            results = database.execute("SELECT kind, content FROM results").fetchall()
        if sorted(stored) != sorted(self.acknowledged.items()):
            yield f"{len(self.acknowledged)} acknowledged, {len(stored)} stored"
        for kind in ("judge", "count"):
            found = sorted(json.loads(content)["uid"] for of, content in results if of == kind)
            if found != sorted(self.acknowledged):
                yield f"{kind}: {len(found)} results for {len(self.acknowledged)} objects"
        for content in (json.loads(content) for kind, content in results if kind == "judge"):
            if content["sha256"] != self.acknowledged.get(content["uid"]):
                yield f"judged another content than was sent: {content['uid']}"
        if any((self.folder / "arriving").iterdir()):
            yield "a half-received object lies there"
        if broken := station.history_break():
            yield f"the audit log: {broken.reason}"
        station.tidy()
        files = {path.name: path.read_bytes() for path in (self.folder / "objects").glob("??/*")}
        if sorted(files) != sorted(self.acknowledged.values()):
            yield f"{len(files)} files for {len(self.acknowledged)} objects"
        if any(hashlib.sha256(content).hexdigest() != name for name, content in files.items()):
            yield "a file does not hold what its name says"


def seeded(seed: int, number: int) -> random.Random:
    """What decides all of a moment but the machine's own pace."""
    return random.Random(f"{seed} {number}")


def campaign(moments: int, log: Path, seed: int, folder: Path) -> None:
    """Go through the moments that the log does not hold yet, each a line of it."""
    done = {json.loads(line)["moment"] for line in log.read_text().splitlines()} if log.exists() else set()
    load = Load(folder)
    try:
        for number in range(moments):
            if number not in done:
                row = {**load.moment(number, seeded(seed, number)), "date": datetime.date.today().isoformat()}
                with log.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    finally:
        load.end()


def main() -> None:
    """Run a campaign, whose table docs/make_tables.py puts into the documentation; or be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=60)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--log", type=Path, default=Path("benchmarks/results/station_kills.jsonl"))
    parser.add_argument("--be", choices=["station", "worker"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be:
        {"station": be_station, "worker": be_worker}[arguments.be](arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="station-kills-") as name:
        campaign(arguments.moments, arguments.log, arguments.seed, Path(name) / "station")


if __name__ == "__main__":
    main()
