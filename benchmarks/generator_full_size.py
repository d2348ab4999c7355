"""MedGemma 4B's size with random weights: memory of the export, size, memory and speed of the q4_k_m bundle.

python benchmarks/generator_full_size.py [--checkpoint DIR] [--place DIR]

Needs 25 GB of disk and about half an hour on two cores; results go to benchmarks/results/generator_full_size.json. The
checkpoint is written where none is given. PyTorch runs the same weights in bf16 in the same run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from medge.export.families.gemma3 import open_gemma
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.standin.medgemma_random import write_medgemma_4b_random
from medge.runtime.bench.generator import run_apart
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.generator.planner import need

RESULTS = Path(__file__).parent / "results" / "generator_full_size.json"
CONTEXT = 4096

_EXPORT = """
import json, sys, time
from pathlib import Path
from medge.export.families.gemma3 import open_gemma
from medge.export.to_gguf.write import write_language
from medge.runtime.device.memory import peak_memory
start = time.perf_counter()
write_language(open_gemma(Path(sys.argv[1])), Path(sys.argv[2]), "bf16")
print(json.dumps({"seconds": time.perf_counter() - start, "peak_bytes": peak_memory()}))
"""
_PYTORCH = """
import json, statistics, sys, time
import torch
from transformers import Gemma3ForConditionalGeneration
from medge.runtime.device.memory import peak_memory
model = Gemma3ForConditionalGeneration.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
ids = torch.randint(300, 9000, (1, 64))
with torch.inference_mode():
    start = time.perf_counter()
    out = model(input_ids=ids, use_cache=True)
    prefill = time.perf_counter() - start
    cache, token, times = out.past_key_values, out.logits[:, -1:].argmax(-1), []
    for _ in range(8):
        start = time.perf_counter()
        out = model(input_ids=token, past_key_values=cache, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
        times.append(time.perf_counter() - start)
print(json.dumps({"tokens_per_second": 1 / statistics.median(times), "prefill_tokens_per_second": 64 / prefill,
                  "peak_bytes": peak_memory()}))
"""


def apart(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a process of its own, so that its peak memory is its own; the last line it prints is JSON."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--place", type=Path, help="Where the bundles go.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.place) as scratch:
        place = Path(scratch)
        checkpoint = arguments.checkpoint or place / "medgemma-4b-random"
        if arguments.checkpoint is None:
            write_medgemma_4b_random(checkpoint)
        opened = open_gemma(checkpoint)
        largest = max(2 * _values(opened.shape(name)) for name in opened.shards)
        result: dict[str, Any] = {"export": {**apart(_EXPORT, str(checkpoint), str(place / "full.gguf")),
                                             "largest_tensor_bytes": largest}}  # fmt: skip
        (place / "full.gguf").unlink()
        print(json.dumps(result), flush=True)
        bundle, _ = export_medgemma(
            GeneratorJob(checkpoint, place / "q4_k_m", "q4_k_m", without_importance=True, skip_parity=True)
        )
        weights = {
            entry.role: entry.bytes for entry in bundle.manifest.files if entry.role in ("language", "projector")
        }
        published = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
        planned = need(bundle.manifest.generator, sum(weights.values()), CONTEXT)
        result["bundle"] = {"bytes": weights, "published_bytes": published, "planned_bytes": planned.total}
        result["medge"] = run_apart(place / "q4_k_m", 2, CONTEXT)
        print(json.dumps(result), flush=True)
        result["pytorch_bf16"] = apart(_PYTORCH, str(checkpoint))
        shutil.rmtree(Bundle.open(place / "q4_k_m", verify=False, allow_failed_parity=True).folder)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _values(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


if __name__ == "__main__":
    main()
