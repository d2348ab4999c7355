"""What it costs to run a language model in a process of its own, against the same model in this process.

python benchmarks/isolation.py BUNDLE [--rounds 7] [--tokens 32]

Two readers, processes of their own, answer in turns: "here" with `load_generator(BUNDLE)`, "apart" with `isolate=True`; one
thread each. Processor time is that of the reader and of the process that it started; memory is each one's greatest. Stores
benchmarks/results/isolation.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "isolation.json"
_READER = """
import json, sys, time
import psutil
import medge
from medge.runtime.device.memory import peak_memory
from medge.runtime.golden.phantom import phantom

def spent():
    times = [process.cpu_times() for process in psutil.Process().children()]
    return time.process_time() + sum(each.user + each.system for each in times)

def peak():
    found = [peak_memory()]
    for process in psutil.Process().children():
        status = open(f"/proc/{process.pid}/status").read().splitlines()
        found.append(int(next(row for row in status if row.startswith("VmHWM:")).split()[1]) * 1024)
    return found

start, first = time.perf_counter(), spent()
reader = medge.load_generator(sys.argv[1], verify=False, allow_failed_parity=True, context=2048, threads=1,
                              isolate=sys.argv[2] == "apart")
reader.context
print(json.dumps({"seconds": time.perf_counter() - start, "cpu": spent() - first}), flush=True)
image = phantom()
for line in sys.stdin:
    kind, number, tokens = json.loads(line)
    question = f"{number}. Describe what a radiograph of the chest shows, in as many words as you can."
    wall, cpu = time.perf_counter(), spent()
    answer = reader.ask(image if kind == "image" else None, question, medge.Sampling(limit=tokens))
    print(json.dumps({"seconds": time.perf_counter() - wall, "cpu": spent() - cpu, "tokens": answer.tokens,
                      "text": answer.text, "peak": peak()}), flush=True)
"""


class Reader:
    """A process that answers on request."""

    def __init__(self, bundle: Path, how: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", _READER, str(bundle), how]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, kind: str, number: int, tokens: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([kind, number, tokens]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=32)
    asked = parser.parse_args()
    readers = {how: Reader(asked.bundle, how) for how in ("here", "apart")}
    found: dict[str, list[dict[str, Any]]] = {f"{kind}.{how}": [] for kind in ("text", "image") for how in readers}
    for number in range(asked.rounds):
        for kind in ("text", "image"):
            both = [readers[how].ask(kind, number, asked.tokens) for how in readers]
            if both[0]["text"] != both[1]["text"]:
                raise SystemExit(f"the answers differ: {both[0]['text']!r} and {both[1]['text']!r}")
            for how, one in zip(readers, both, strict=True):
                found[f"{kind}.{how}"].append(one)
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(), "machine": platform.processor() or platform.machine(),
        "bundle": asked.bundle.name, "rounds": asked.rounds, "tokens": asked.tokens,
    }  # fmt: skip
    for how, reader in readers.items():
        facts[how] = {
            "start_cpu_seconds": round(reader.opened["cpu"], 3),
            "text_cpu_seconds_a_token": round(
                statistics.median(one["cpu"] / one["tokens"] for one in found[f"text.{how}"]), 5
            ),
            "image_cpu_seconds": round(statistics.median(one["cpu"] for one in found[f"image.{how}"]), 3),
            "peak_megabytes": [round(size / 1e6) for size in found[f"image.{how}"][-1]["peak"]],
        }
        reader.close()
    for kind in ("text", "image"):  # by turns: what slows the machine slows both
        pairs = zip(found[f"{kind}.apart"], found[f"{kind}.here"], strict=True)
        facts[f"{kind}_cpu_ratio"] = round(statistics.median(one["cpu"] / other["cpu"] for one, other in pairs), 3)
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
