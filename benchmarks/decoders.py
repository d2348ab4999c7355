"""What it costs to decode images in processes of their own, against the same decoders in this process, and another checkout.

python benchmarks/decoders.py [--rounds 15] [--before CHECKOUT]

A folder of mixed films, those that pydicom carries and some of them as PNG, JPEG and TIFF, is read by several readers in turns,
each a process of its own: "apart" as medge reads it, "inside" with the decoders in the reader's own process, and "before" with
the medge of another checkout, where one is given. Processor time is that of the reader and of its decoder processes. Stores
benchmarks/results/decoders.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "decoders.json"
SOURCE = Path(__file__).parents[1] / "src"
KINDS = {  # what stands in the table, and which transfer syntaxes it is of
    "uncompressed": ("Explicit VR Little Endian", "Implicit VR Little Endian", "Explicit VR Big Endian"),
    "JPEG": ("JPEG Baseline",), "lossless JPEG": ("JPEG Lossless",), "JPEG-LS": ("JPEG-LS",), "JPEG 2000": ("JPEG 2000",),
    "RLE": ("RLE",),
}  # fmt: skip
_READER = """
import json, sys, time
start = time.perf_counter()
from pathlib import Path
import psutil
from medge.runtime.pictures.images import read_image
from medge.runtime.device.memory import peak_memory

def processes():
    return psutil.Process().children(recursive=True)

def spent():
    times = [process.cpu_times() for process in processes()]
    return time.process_time() + sum(each.user + each.system for each in times)

if sys.argv[1] == "inside":
    import numpy as np
    from medge.runtime.pictures import images
    from medge.runtime.pictures.decoding import child
    from medge.runtime.pictures.decoding.worker import WORKERS
    libraries = {}

    def decode(library, what, payload, options, as_rgb=False):
        if library not in libraries:
            libraries[library] = child._decoders(library)
        found = libraries[library][what](payload, options, lambda pixels: None)
        pixels = np.frombuffer(b"".join(found.pieces), f"u{found.itemsize}")
        shape = (found.samples, found.rows, found.columns) if found.planar else (found.rows, found.columns, found.samples)
        pixels = pixels.reshape(shape)
        if as_rgb:
            return images._from_array(pixels), 0
        return (pixels[..., 0] if found.samples == 1 and not found.planar else pixels), found.planar

    WORKERS.decode = decode

for line in sys.stdin:
    paths = json.loads(line)
    wall, cpu = time.perf_counter(), spent()
    for path in paths:
        read_image(Path(path))
    facts = {"wall": time.perf_counter() - wall, "cpu": spent() - cpu, "peak": peak_memory()}
    facts["decoders"] = []
    for process in processes():
        status = Path(f"/proc/{process.pid}/status").read_text()
        high = next(row for row in status.splitlines() if row.startswith("VmHWM:"))
        facts["decoders"].append([process.cmdline()[-2], int(high.split()[1]) * 1024])
    print(json.dumps(facts), flush=True)
"""


class Reader:
    """A process that reads images on request."""

    def __init__(self, name: str, source: Path) -> None:
        how = "inside" if name == "inside" else "apart"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(source)},
        )  # fmt: skip

    def read(self, paths: Sequence[Path]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def films(folder: Path) -> dict[str, list[Path]]:
    """Readable films by kind; some of them are written into `folder` as ordinary image files."""
    import data_store
    import pydicom
    from PIL import Image

    from medge.runtime.errors import ImageError
    from medge.runtime.pictures.images import read_image

    places = [Path(pydicom.data.__file__).parent / "test_files", Path(data_store.__file__).parent / "data"]
    found: dict[str, list[Path]] = {kind: [] for kind in (*KINDS, "PNG", "JPEG file", "TIFF")}
    for path in sorted(path for place in places for path in place.rglob("*.dcm")):
        try:
            pixels = read_image(path)
            syntax = pydicom.dcmread(path, stop_before_pixels=True, force=True).file_meta.TransferSyntaxUID.name
        except (ImageError, AttributeError):
            continue
        kind = next((kind for kind, starts in KINDS.items() if syntax.startswith(starts)), None)
        if kind is None or pixels.size < 3 * 100 * 100:
            continue
        found[kind].append(path)
        if kind == "uncompressed" and pixels.shape[0] >= 256:
            grey = bool((pixels[..., :1] == pixels).all())
            picture = Image.fromarray(pixels[..., 0] if grey else pixels)
            for name, suffix in (("PNG", "png"), ("JPEG file", "jpg"), ("TIFF", "tiff")):
                picture.save(folder / f"{path.stem}.{suffix}")
                found[name].append(folder / f"{path.stem}.{suffix}")
    return found


def measure(readers: dict[str, Path], by_kind: dict[str, list[Path]], rounds: int) -> dict[str, Any]:
    everything = [path for paths in by_kind.values() for path in paths]
    running = {name: Reader(name, source) for name, source in readers.items()}
    sets = {"all": everything, **by_kind}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {kind: {name: [] for name in readers} for kind in sets}
    first = {name: reader.read(everything) for name, reader in running.items()}  # imports, processes
    for number in range(rounds):
        for kind, paths in sets.items():
            order = list(running) if number % 2 else list(running)[::-1]
            for name in order:
                runs[kind][name].append(running[name].read(paths))
    last = {name: reader.read(everything) for name, reader in running.items()}
    for reader in running.values():
        reader.close()
    return {
        "sets": [_row(kind, len(sets[kind]), runs[kind]) for kind in sets],
        "first_pass": {name: {key: facts[key] for key in ("wall", "cpu")} for name, facts in first.items()},
        "memory": {name: {"reader": facts["peak"], "decoders": facts["decoders"]} for name, facts in last.items()},
    }


def _row(kind: str, images: int, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of a reader, and of the pairs' ratios with the 10th and 90th percentile."""
    row: dict[str, Any] = {"kind": kind, "images": images}
    for clock in ("wall", "cpu"):
        row[clock] = {name: statistics.median(run[clock] for run in each) for name, each in runs.items()}
        row[f"{clock}_ratio"] = {}
        for name in runs:
            if name == "apart":
                continue
            ratios = sorted(a[clock] / b[clock] for a, b in zip(runs["apart"], runs[name], strict=True) if b[clock])
            cut = [ratios[round(share * (len(ratios) - 1))] for share in (0.1, 0.5, 0.9)]
            row[f"{clock}_ratio"][name] = dict(zip(("low", "median", "high"), cut, strict=True))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--before", type=Path, help="another checkout of medge")
    given = parser.parse_args()
    readers = {"apart": SOURCE, "inside": SOURCE}
    if given.before:
        readers["before"] = given.before / "src"
    with tempfile.TemporaryDirectory() as scratch:
        facts = measure(readers, films(Path(scratch)), given.rounds)
    stored = {"date": datetime.now(UTC).date().isoformat(), "rounds": given.rounds, **facts}
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    for row in facts["sets"]:
        print(row["kind"], row["images"], {key: row[key] for key in ("wall_ratio", "cpu_ratio")})
    print(facts["first_pass"], facts["memory"])


if __name__ == "__main__":
    main()
