"""Fifty clients on the station's API at once, and its memory over a soak, for station_load.py.

A client asks, waits for the answer and asks again: five times in seven `/v1/classify` with a PNG, else the worklist. First
without a pause, for what the station can answer at most; then for the soak with pauses, during which the memory of all of the
station's processes is read every few seconds. A line is laid through the memory after a warm-up; its uncertainty follows from
the means of equal parts of the soak, since one reading says much of the next.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.data import get_testdata_file
from scipy.stats import t as student
from station_serving import HOST, Server, form
from station_studies import head_ct

from medge.runtime.pictures.images import read_image
from medge.runtime.station.reading.pictures import as_png

CLIENTS = 50
SIDE = 1024  # pixels of a film's longer side
MINUTE = 60.0  # seconds without a pause
PAUSE = 4.0  # seconds between answer and question during the soak, on average
EVERY = 5.0  # seconds between two readings of memory
WARM_UP = 0.2  # share of the soak: allocators and caches fill
BLOCKS = 12  # equal parts of the rest
SHORTEST = 2.0  # minutes of a soak: some readings in each part
STUDIES = 100  # that the worklist holds


@dataclass
class Seen:
    """What clients saw: seconds of each answer by route, and how many answers had which status."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    def facts(self, lasted: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for route, times in self.seconds.items():
            low, median, high = np.quantile(times, [0.0, 0.5, 0.99])
            found[route] = {"requests": len(times), "least": low, "median": median, "p99": high, "most": max(times)}
        count = sum(self.statuses.values())
        return {
            "seconds": lasted, "requests": count, "requests_a_second": count / lasted,
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())}, "routes": found,
        }  # fmt: skip


def pictures(data: Path) -> list[bytes]:
    """PNGs: a chest film of 1024 pixels, slices of a head CT of 512, a CT of 128."""
    film = read_image(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    small = read_image(str(get_testdata_file("CT_small.dcm", download=False)))
    slices = [read_image(content) for content in head_ct(data)[8:20:4]]
    return [as_png(film, SIDE), *map(as_png, slices), as_png(small)]


def questions(images: list[bytes]) -> list[tuple[str, bytes]]:
    """(route, request): of seven there are five that classify, and two that list studies."""
    found = []
    for image in images:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        body = json.dumps({"images": [url]}).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        found.append(("/v1/classify", head.encode() + b"\r\n\r\n" + body))
    listing = ("/v1/studies", f"GET /v1/studies?limit=50 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return [*found, *[listing] * (len(found) // 2)]


async def client(
    port: int, asked: list[tuple[str, bytes]], number: int, until: float, pause: float, seen: Seen
) -> None:
    """Ask and ask again; plain HTTP over one connection, since a library would take more of the cores than it asks for."""
    chance = random.Random(number)
    reader, writer = await asyncio.open_connection(HOST, port)
    while time.monotonic() < until:
        if pause:
            await asyncio.sleep(chance.uniform(0, 2 * pause))
        route, request = chance.choice(asked)
        begun = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        seen.seconds.setdefault(route, []).append(time.perf_counter() - begun)
        seen.statuses[int(head.split()[1])] += 1
        if b"connection: close" in head:
            writer.close()
            reader, writer = await asyncio.open_connection(HOST, port)
    writer.close()


async def load(server: Server, asked: list[tuple[str, bytes]], seconds: float, pause: float) -> Seen:
    """All clients for some seconds."""
    seen, until = Seen(), time.monotonic() + seconds
    await asyncio.gather(*(client(server.port, asked, number, until, pause, seen) for number in range(CLIENTS)))
    return seen


async def soak(server: Server, asked: list[tuple[str, bytes]], seconds: float) -> tuple[Seen, list[tuple[float, int]]]:
    """As `load`, with the memory: (seconds since the begin, bytes)."""
    begun, memory = time.monotonic(), list[tuple[float, int]]()

    async def watch() -> None:
        while time.monotonic() - begun < seconds:
            memory.append((time.monotonic() - begun, await asyncio.to_thread(server.tree.memory)))
            await asyncio.sleep(EVERY)

    seen, _ = await asyncio.gather(load(server, asked, seconds, PAUSE), watch())
    return seen, memory


def slope(memory: list[tuple[float, int]]) -> dict[str, float]:
    """Bytes an hour after the warm-up, with a 95% interval."""
    rows = np.array([row for row in memory if row[0] >= WARM_UP * memory[-1][0]])
    times, sizes = (np.array([part.mean() for part in np.array_split(rows[:, column], BLOCKS)]) for column in (0, 1))
    hours = times / 3600
    rise, level = np.polyfit(hours, sizes, 1)
    rest = sizes - (rise * hours + level)
    error = np.sqrt((rest**2).sum() / (BLOCKS - 2) / ((hours - hours.mean()) ** 2).sum())
    either = float(student.ppf(0.975, BLOCKS - 2) * error)
    return {"value": float(rise), "low": float(rise - either), "high": float(rise + either)}


def fill(server: Server, image: bytes) -> None:
    """Give the station studies to list, each a picture of its own, and wait until they are judged."""
    line = server.connection()
    for number in range(STUDIES):
        body, content = form([("film.png", image + bytes([number]))])  # what follows a PNG's end is read by nobody
        line.request("POST", "/v1/studies", body, {"Content-Type": content})
        answer = line.getresponse()
        if answer.status != 200 or b'"error":{' in answer.read():
            raise RuntimeError(f"a study was refused: {answer.status}")
    line.close()
    until = time.monotonic() + 300
    while any(one["state"] != "done" for one in server.ask(f"/v1/studies?limit={STUDIES}")["studies"]):
        if time.monotonic() > until:
            raise RuntimeError("the station does not judge what it was sent")
        time.sleep(1)


def measure(
    server: Server, data: Path, share: float, soak_minutes: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """What the clients saw without a pause and during the soak, and what the memory did."""
    images = pictures(data)
    fill(server, images[-1])
    asked = questions(images)
    asyncio.run(load(server, asked, 5.0, 0.0))  # decoders start
    lasted = MINUTE * share
    pressed = asyncio.run(load(server, asked, lasted, 0.0)).facts(lasted)
    say(f"without a pause: {json.dumps(pressed)}")
    seconds = 60.0 * soak_minutes
    seen, memory = asyncio.run(soak(server, asked, seconds))
    sizes = [size for _, size in memory]
    found = {
        "clients": CLIENTS, "studies": STUDIES, "pause_seconds": PAUSE, "image_bytes": [*map(len, images)], "pressed": pressed,
        "soak": {
            **seen.facts(seconds), "processes": server.tree.processes(), "readings": len(memory),
            "bytes_at_begin": sizes[0], "bytes_after_warm_up": sizes[int(len(sizes) * WARM_UP)], "bytes_at_end": sizes[-1],
            "bytes_most": max(sizes), "bytes_an_hour": slope(memory), "warm_up": WARM_UP,
        },
        "memory": [[round(at), size] for at, size in memory[:: max(1, len(memory) // 120)]],
    }  # fmt: skip
    say(f"soak: {json.dumps(found['soak'])}")
    return found
