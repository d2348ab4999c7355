"""A language model in less memory than its weights take: speed, and what is read again for each token, mapped and read.

    python benchmarks/from_storage.py [--model FILE] [--rounds 3] [--tokens 5]

MedGemma 4B's shapes with 8 of its 34 layers and random weights at q4_k_m (1.0 GB; written where no file is given: 6 GB of disk,
a few minutes) answer in a process of their own, in a control group whose memory limit leaves a share of the weights room beside
what is no file. "mapped" leaves the weights in their file, as a phone does, and its limit is lowered step by step while it
answers; "read" copies them into memory, as a computer does, and each limit is a process of its own. Rounds take turns. What
storage gives is measured in each round by reading the file from beginning to end.

One thread works; a time is the wall's without what the thread waited for a processor (/proc/thread-self/schedstat), so that other
programs do not count: what is left is computing and waiting for storage.

Runs as root on Linux with control groups of version 1. Stores benchmarks/results/from_storage.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from medge.runtime.device.storage import forget, storage_speed

RESULTS = Path(__file__).parent / "results" / "from_storage.json"
GROUPS = Path("/sys/fs/cgroup/memory")
LAYERS, RECIPE = 8, "q4_k_m"
SHARES = (1.1, 1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25, 0.1)  # room left for the weights / their size
READ_SHARES = (1.1, 1.0, 0.9)
UNLIMITED = 1 << 60
LEAST = 0.05  # of the weights read again; from less no speed is reckoned
WARM = 3  # tokens at a limit before any is counted

# Joins the group, opens the model, answers under each limit; prints a line of JSON after loading and one for each token.
_CHILD = """
import json, os, sys, time
from pathlib import Path
group, limits, way, tokens = Path(sys.argv[1]), json.loads(sys.argv[3]), sys.argv[4], int(sys.argv[5])
from from_storage import clock
from medge.runtime.generator.conversation import Sampling
from medge.runtime.generator.engine import Engine
(group / "cgroup.procs").write_text(str(os.getpid()))
def stored():
    return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])
def anonymous():
    return int(next(line for line in open(group / "memory.stat") if line.startswith("total_rss ")).split()[1])
def say(**facts):
    print(json.dumps(facts), flush=True)
options = {"mapped": {"from_storage": True}, "read": {}, "mapped and repacked": {"measuring": True}}[way]
began = clock()
with Engine(Path(sys.argv[2]), context=512, threads=1, **options) as engine:
    say(loading=clock() - began)
    answer = engine.generate([2, 818, 5279], Sampling(len(limits) * tokens + 1), past_end=True)
    next(answer)
    for limit in limits:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        for _ in range(tokens):
            own, cpu, read = clock(), time.process_time(), stored()
            next(answer)
            say(limit=limit, own=clock() - own, cpu=time.process_time() - cpu, read=stored() - read, anonymous=anonymous())
"""


def clock() -> float:
    """Seconds, without those that this thread has waited for a processor."""
    return time.perf_counter() - int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def write_model(place: Path) -> Path:
    from medge.export.families.gemma3 import open_gemma
    from medge.export.standin.medgemma_random import write_medgemma_4b_random
    from medge.export.to_gguf.write import write_language
    from medge.quant.gguf_file.quantize import quantize_language
    from medge.quant.recipes.gguf import GGUF_RECIPES

    write_medgemma_4b_random(place / "checkpoint", layers=LAYERS)
    write_language(open_gemma(place / "checkpoint"), place / "full.gguf", "bf16")
    quantize_language(place / "full.gguf", place / "model.gguf", GGUF_RECIPES[RECIPE])
    return place / "model.gguf"


@contextmanager
def group(most: int) -> Iterator[Path]:
    """A control group with a memory limit of so many bytes."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    ours = next(line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory")
    folder = GROUPS / ours.lstrip("/") / f"medge-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(most))
        yield folder
    finally:
        folder.rmdir()


def answered(model: Path, way: str, limits: Sequence[int], tokens: int) -> tuple[float, list[dict[str, float]]] | None:
    """Seconds of loading under the first limit, and figures of the tokens counted under each; None where the kernel ended it."""
    forget(model)
    with group(limits[0]) as folder:
        command = [sys.executable, "-c", _CHILD, folder, model, json.dumps(list(limits)), way, WARM + tokens]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    if done.returncode == -signal.SIGKILL:
        return None
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    first, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    return first["loading"], [line for number, line in enumerate(lines) if number % (WARM + tokens) >= WARM]


def summary(tokens: list[dict[str, float]], weights: int) -> dict[str, float]:
    """The mean token: reading ahead makes single ones jump."""
    return {
        "tokens": len(tokens), "seconds": statistics.fmean(t["own"] for t in tokens),
        "cpu_seconds": statistics.fmean(t["cpu"] for t in tokens),
        "read_again": statistics.fmean(t["read"] for t in tokens) / weights, "anonymous": max(t["anonymous"] for t in tokens),
    }  # fmt: skip


def slower(rows: list[dict[str, float]], free: float, weights: int, speed: float) -> float:
    """What reading in between takes, as a multiple of reading as much of a file from beginning to end: the median limit's."""
    read = [row for row in rows if row["read_again"] > LEAST]
    return statistics.median((row["seconds"] - free) * speed / (row["read_again"] * weights) for row in read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a file of such a model, where one is at hand")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=5, help="counted under each limit in each round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model.absolute() if arguments.model else write_model(Path(temporary))
        weights = model.stat().st_size
        free: dict[str, list[dict[str, float]]] = {"mapped": [], "read": [], "mapped and repacked": []}
        mapped: dict[float, list[list[dict[str, float]]]] = {share: [] for share in SHARES}
        read: dict[float, list[dict[str, float]] | None] = {share: [] for share in READ_SHARES}
        storage: list[float] = []
        loading: list[float] = []
        for number in range(arguments.rounds):
            for way, tokens in free.items():
                found = answered(model, way, [UNLIMITED], arguments.tokens)
                assert found is not None
                tokens += found[1]
            beside = int(max(token["anonymous"] for token in free["mapped"]))  # what is no file is the same either way
            storage.append(storage_speed(model, weights, clock) or 0.0)
            limits = [beside + int(share * weights) for share in SHARES]
            found = answered(model, "mapped", limits, arguments.tokens)
            assert found is not None
            loading.append(found[0])
            for share, limit in zip(SHARES, limits, strict=True):
                mapped[share].append([token for token in found[1] if token["limit"] == limit])
                print(number, share, json.dumps(summary(mapped[share][-1], weights)), flush=True)
            for share, before in read.items():
                if before is not None:  # else it would be killed again
                    found = answered(model, "read", [beside + int(share * weights)], arguments.tokens)
                    read[share] = None if found is None else before + found[1]
    rows = [
        {
            "share": share, **summary([token for one in found for token in one], weights),
            "read_again_of_rounds": [summary(one, weights)["read_again"] for one in found],
        }
        for share, found in mapped.items()
    ]  # fmt: skip
    plain = {way: summary(tokens, weights) for way, tokens in free.items()}
    facts = {
        "date": date.today().isoformat(), "kernel": platform.release().partition("-")[0], "layers": LAYERS, "recipe": RECIPE,
        "weights": weights, "beside": beside, "rounds": arguments.rounds, "storage_bytes_per_second": storage,
        "loading_seconds": loading,
        "free": plain, "mapped": rows,
        "slower": slower(rows, plain["mapped"]["seconds"], weights, statistics.median(storage)),
        "read": [{"share": share, **(summary(found, weights) if found else {"killed": True})} for share, found in read.items()],
    }  # fmt: skip
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
