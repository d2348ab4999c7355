"""Studies an hour through the station against its encoder in a loop, for station_load.py.

In turns: the runtime alone (`medge.load(bundle)`, one call a study) classifies the pictures that the station looks at; so does a
runtime whose threads sleep where they wait, as the station's do; then a
sender keeps some studies at the station that it has not judged yet, over two connections, and the results' times are read from
the station's database. What counts at the station begins with the first result and ends when the sender has sent its last
study, so that sending, storing and judging go on all the time. A processor's time is that of all processes of each side; the
sender's own is no part of it, but takes its share of the cores.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import statistics
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from station_serving import Reader, Server, form

from medge.runtime.bench.ratio import Took, time_ratio
from medge.runtime.station.reading.choice import MOST_SLICES, evenly
from medge.runtime.station.reading.intake import SETTLE

SENDERS = 2
_ALONE = """
import json, sys, time
from pathlib import Path
import psutil
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.encoder.load import open_encoder

def spent():
    times = [process.cpu_times() for process in psutil.Process().children()]
    return time.process_time() + sum(each.user + each.system for each in times)

# What `medge.load` gives, but for how its threads wait.
encoder = open_encoder(Bundle.open(Path(sys.argv[1])), sleeping=sys.argv[2] == "sleeping")
encoder.bank()
print("true", flush=True)
for line in sys.stdin:
    studies, times = json.loads(line), []
    wall, cpu = time.perf_counter(), spent()
    best = [[found.best for found in encoder.classify(study)] for study in studies]
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": spent() - cpu, "best": best}), flush=True)
"""


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Attributes:
        name: what it is.
        objects: of a study, in order.
        shown: which of them the station's encoder looks at.
        waiting: studies at the station that it has not judged: more than it judges while a series settles.
        count: studies of a turn.
    """

    name: str
    objects: tuple[Dataset, ...]
    shown: tuple[int, ...]
    waiting: int
    count: int

    def study(self, number: int) -> list[bytes]:
        """The objects of one, with identifiers of its own."""
        found = []
        for place, data in enumerate(self.objects):
            data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.1.{number}", f"1.2.2.{number}"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.{place}"
            data.InstanceNumber, data.PatientID = place + 1, str(number)
            out = io.BytesIO()
            data.save_as(out)
            found.append(out.getvalue())
        return found


def head_ct(data: Path) -> list[bytes]:
    """The files of a head CT's 28 slices, in order."""
    found = []
    with tarfile.open(data / "dicom" / "ct_head_28slices.tar.gz") as packed:
        for name in sorted(name for name in packed.getnames() if name.endswith(".dcm")):
            stream = packed.extractfile(name)
            assert stream is not None  # a file, by its ending
            found.append(stream.read())
    return found


def kinds(data: Path, share: float) -> list[Kind]:
    """Chest films of 3.6 million pixels, one to a study, and a head CT's 28 slices, of which the encoder looks at nine."""
    film = dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    slices = tuple(dcmread(io.BytesIO(content)) for content in head_ct(data))
    return [
        Kind("chest film", (film,), (0,), 50, max(100, round(200 * share))),
        Kind("head CT", slices, tuple(evenly(len(slices), MOST_SLICES)), 15, max(30, round(60 * share))),
    ]


def judged_at(store: Path, after: int = 0) -> list[float]:
    """When results were stored, but for so many of the first; each study has one."""
    with contextlib.closing(
        sqlite3.connect(f"file:{store}/station.sqlite?mode=ro", uri=True, timeout=30)
    ) as connection:
        rows = connection.execute("SELECT created FROM results ORDER BY id LIMIT -1 OFFSET ?", [after]).fetchall()
    return [created for (created,) in rows]


class Watch:
    """What the station's processors have worked, by the clock: read several times a second."""

    def __init__(self, server: Server) -> None:
        self._server, self._read, self._over = server, list[tuple[float, float]](), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._read.append((time.time(), self._server.tree.cpu()))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> float:
        """Seconds of processors between two times."""
        inside = [worked for at, worked in self._read if begin <= at <= end]
        times = [at for at, _ in self._read if begin <= at <= end]
        return (inside[-1] - inside[0]) / (times[-1] - times[0]) * (end - begin)


def through_station(server: Server, store: Path, kind: Kind, first: int) -> Took:
    """Seconds a study, by the clock and of processors, once the station is filled."""
    bodies = iter(
        [(number, form([("f", one) for one in kind.study(number)])) for number in range(first, first + kind.count)]
    )
    before, guard, sent = len(judged_at(store)), threading.Lock(), 0

    def send() -> None:
        nonlocal sent
        with contextlib.closing(server.connection()) as line:
            while True:
                with guard:
                    number, (body, content) = next(bodies, (None, (b"", "")))
                if number is None:
                    return
                line.request("POST", "/v1/studies", body, {"Content-Type": content})
                answer = line.getresponse()
                if answer.status != 200 or b'"error":{' in answer.read():
                    raise RuntimeError(f"a study was refused: {answer.status}")
                with guard:
                    sent += 1
                while sent - len(judged_at(store, before)) >= kind.waiting:
                    time.sleep(0.05)

    with Watch(server) as watch:
        senders = [threading.Thread(target=send) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        ended = time.time()
        while len(found := judged_at(store, before)) < sent:
            time.sleep(0.2)
            if time.time() - ended > 600:
                raise RuntimeError("the station does not judge what it was sent")
    if sent < kind.count:
        raise RuntimeError("a sender has ended early")
    times = [at for at in found if at <= ended]
    begin, end, judged = times[0], times[-1], len(times) - 1
    return Took((end - begin) / judged, watch.between(begin, end) / judged)


def measure(
    server: Server, store: Path, bundle: Path, data: Path, rounds: int, share: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each kind of study."""
    rows, number = [], 1
    for kind in kinds(data, share):
        ours: list[Took] = []
        alone: list[Took] = []
        asleep: list[Took] = []
        with Reader(_ALONE, bundle, "") as runtime, Reader(_ALONE, bundle, "sleeping") as other, files(kind) as paths:
            runtime.ask([paths] * 2)
            other.ask([paths] * 2)
            through_station(server, store, kind, number)  # decoders start, caches fill
            number += kind.count
            for turn in range(rounds):
                for engine, took in ((runtime, alone), (other, asleep)):
                    found = engine.ask([paths] * kind.count)
                    took.append(Took(found["wall"] / kind.count, found["cpu"] / kind.count))
                ours.append(through_station(server, store, kind, number))
                number += kind.count
                say(f"{kind.name}, turn {turn + 1}: alone {alone[-1]}, asleep {asleep[-1]}, station {ours[-1]}")
        rows.append(
            {
                "kind": kind.name, "objects": len(kind.objects), "shown": len(kind.shown),
                "bytes": sum(map(len, kind.study(number))), "studies": kind.count, "rounds": rounds, "waiting": kind.waiting,
                "settle_seconds": SETTLE, "station": [asdict(one) for one in ours],
                "alone": [asdict(one) for one in alone], "asleep": [asdict(one) for one in asleep],
                "to_alone": beside(ours, alone), "to_asleep": beside(ours, asleep),
            }
        )  # fmt: skip
    return rows


def beside(ours: list[Took], theirs: list[Took]) -> dict[str, Any]:
    """How many times as many studies we judge in the same time; `interval` is None where `time_ratio` is not sure."""
    turns = list(zip(ours, theirs, strict=True))
    sure = time_ratio(theirs, ours)
    return {
        "wall": spread([other.wall / mine.wall for mine, other in turns]),
        "cpu": spread([other.cpu / mine.cpu for mine, other in turns]), "interval": None if sure is None else asdict(sure),
    }  # fmt: skip


@contextlib.contextmanager
def files(kind: Kind) -> Iterator[list[str]]:
    """The pictures of a study that the station's encoder looks at, as files."""
    with tempfile.TemporaryDirectory() as place:
        contents, paths = kind.study(0), []
        for shown in kind.shown:
            path = Path(place) / f"{shown}.dcm"
            path.write_bytes(contents[shown])
            paths.append(str(path))
        yield paths


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
