"""Tokens per second through medge against llama.cpp's own bench, on the same file, in turns; and medge without large pages.

python benchmarks/generator_speed.py BUNDLE --llama-bench PATH

`llama-bench` is not in llama-cpp-python's wheel: benchmarks/build-llama-tools builds it from the source that lies beside the
wheel, against the very libraries of the wheel. Each round runs both once; the ratio of the medians is reported and stored in
benchmarks/results/generator_speed.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from medge.runtime.bench.generator import ANSWER_TOKENS, PROMPT_TOKENS, run_apart
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.cpu import usable_cores

PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h; child processes inherit it
RESULTS = Path(__file__).parent / "results" / "generator_speed.json"


def llama_bench(binary: Path, model: Path) -> dict[str, float]:
    command = [str(binary), "-m", str(model), "-p", str(PROMPT_TOKENS), "-n", str(ANSWER_TOKENS), "-r", "3", "-o", "json",
               "-t", str(usable_cores()), "-b", "512", "-ub", "512", "-d", f"0,{PROMPT_TOKENS}"]  # fmt: skip
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "prefill_tokens_per_second": next(row["avg_ts"] for row in rows if row["n_prompt"] and not row["n_depth"]),
        "tokens_per_second": next(row["avg_ts"] for row in rows if row["n_gen"] and row["n_depth"]),  # after the prompt
    }


def with_small_pages(bundle: Path) -> dict[str, Any]:
    """What runtime/device/huge_pages.py brings: the same measurement in a process to which the kernel gives no large pages."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        return run_apart(bundle, 3)
    finally:
        prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--llama-bench", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle, verify=False, allow_failed_parity=True)
    model = bundle.path("language")
    assert model is not None
    found: dict[str, list[dict[str, Any]]] = {"medge": [], "medge, small pages": [], "llama-bench": []}
    for number in range(arguments.rounds):
        found["medge"].append(run_apart(arguments.bundle, 3))
        found["medge, small pages"].append(with_small_pages(arguments.bundle))
        found["llama-bench"].append(llama_bench(arguments.llama_bench, model))
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    result: dict[str, Any] = {"file": model.name, "bytes": model.stat().st_size, "rounds": arguments.rounds}
    for key in ("tokens_per_second", "prefill_tokens_per_second"):
        medians = {name: statistics.median(row[key] for row in rows) for name, rows in found.items()}
        result[key] = {**medians, "ratio": medians["medge"] / medians["llama-bench"]}
    first, second = (
        statistics.median(row[f"{name}_question_seconds"] for row in found["medge"]) for name in ("first", "second")
    )
    result["second_question"] = {"first_seconds": first, "second_seconds": second, "ratio": second / first}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
