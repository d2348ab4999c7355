"""What a key-value cache in fewer bits costs: distance from 16 bits on long texts that nothing was fitted on, speed and memory.

python benchmarks/cache.py [--data ../shared/data] [--prompts 3] [--length 4096] [--rounds 7]

medgemma-mini in bf16 reads prompts of PubMedQA's abstracts, of MedQA's questions and of radiology reports, each with three
caches; the next word's distribution is compared at every fourth position after the first 1024, so that the cache is long.
Then all three answer at that depth, round by round in turn. Memory is the planner's, for a 4B; the same script checks it
against what this process takes for medgemma-mini's. Stores benchmarks/results/cache.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from compensation import held_back

from medge.export.families.gemma3 import open_gemma
from medge.export.parity.divergence import Divergence
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.to_gguf.write import write_language
from medge.runtime.bundles.facts import GeneratorFacts
from medge.runtime.device.gguf_header import read_header
from medge.runtime.generator.cache import CACHES, CacheName
from medge.runtime.generator.conversation import Sampling
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.planner import need

RESULTS = Path(__file__).parent / "results" / "cache.json"
FIRST, EACH, ANSWER = 1024, 4, 16
# The published 4B.
FACTS_4B = GeneratorFacts(
    "gemma3", 4_300_000_000, 34, 2560, 4, 256, 1024, 6, 131_072, 262_208, 896, 256, 14, (1, 106)
)  # fmt: skip
CONTEXTS = (8192, 32_768)


def long_prompts(engine: Engine, texts: list[str], length: int, count: int) -> list[tuple[list[int], list[int]]]:
    """Texts joined to prompts: (ids, which text each token is of)."""
    found, ids, of = [], [2], [0]
    for number, text in enumerate(texts):
        new = engine.tokenize(text + "\n\n", special=False)
        ids, of = ids + new, of + [number] * len(new)
        if len(ids) >= length:
            found.append((ids[:length], of[:length]))
            ids, of = [2], [number + 1]
        if len(found) == count:
            break
    return found


def distances(full: Path, texts: dict[str, list[str]], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """{cache: {kind of text: figures}}."""
    exact: list[tuple[str, list[int], list[int], np.ndarray]] = []
    with Engine(full, context=arguments.length, measuring=True) as engine:
        for name, some in texts.items():
            for ids, of in long_prompts(engine, some, arguments.length, arguments.prompts):
                exact.append((name, ids, of, engine.logits(ids, FIRST, EACH).astype(np.float16)))
    out: dict[str, dict[str, Any]] = {}
    for cache in CACHES:
        with Engine(full, context=arguments.length, measuring=True, cache=CACHES[cache]) as engine:
            found = {name: Divergence.empty() for name in texts}
            for name, ids, of, rows in exact:
                places = [place for place in range(FIRST, len(ids) - 1) if place % EACH == 0]
                ours = engine.logits(ids, FIRST, EACH)[: len(places)]
                found[name].add(
                    rows[: len(places)].astype(np.float32), ours, [ids[place + 1] for place in places], 0,
                    [of[place + 1] for place in places],
                )  # fmt: skip
        figures = {name: one.figures() for name, one in found.items()}
        out[cache] = {
            name: {"kld": asdict(one.intervals["kld.mean"]), "same_top": asdict(one.intervals["same_top"]), "tokens": one.tokens}
            for name, one in figures.items()
        }  # fmt: skip
        print(cache, json.dumps(out[cache]), flush=True)
    return out


def speeds(full: Path, texts: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """{cache: CPU seconds of reading a long prompt and of each token after it, their ratios to 16 bits in each round}."""
    engines = {cache: Engine(full, context=arguments.length, cache=types) for cache, types in CACHES.items()}
    [(ids, _)] = long_prompts(engines["f16"], texts, arguments.length - ANSWER * (arguments.rounds + 2), 1)
    reading: dict[CacheName, list[float]] = {cache: [] for cache in CACHES}
    writing: dict[CacheName, list[float]] = {cache: [] for cache in CACHES}
    for number in range(arguments.rounds):
        for cache, engine in engines.items():
            fresh = [engine.tokenize(f"{number} ")[0], *ids[1:]]
            began = time.process_time()
            engine.prefill(fresh)
            reading[cache].append(time.process_time() - began)
            answer = engine.generate(fresh, Sampling(ANSWER + 1), past_end=True)
            next(answer)
            began = time.process_time()
            deque(answer, 0)
            writing[cache].append((time.process_time() - began) / ANSWER)
    for engine in engines.values():
        engine.close()
    return {
        cache: {
            what: {"cpu_seconds": statistics.median(rows[cache]), "ratio": _ratios(rows[cache], rows["f16"])}
            for what, rows in (("reading", reading), ("writing", writing))
        }
        for cache in CACHES
    }


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    found = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    return {"median": statistics.median(found), "least": found[0], "most": found[-1]}


def memory(full: Path, length: int) -> dict[str, dict[str, Any]]:
    """Of each cache: the planner's bytes for a 4B, and of medgemma-mini's beside what llama.cpp keeps of it."""
    header = read_header(full)
    facts = GeneratorFacts(
        "gemma3", 0, header.get("block_count"), header.get("embedding_length"), header.get("attention.head_count_kv"),
        header.get("attention.key_length"), header.get("attention.sliding_window"), 6, length,
        header.metadata["tokenizer.ggml.tokens"], 0, 0, 1, (1,),
    )  # fmt: skip
    out: dict[str, dict[str, Any]] = {}
    for cache in CACHES:
        with Engine(full, context=length, cache=CACHES[cache]) as engine:
            engine.prefill([2] * (length - 1))
            kept = engine.lib.llama_state_seq_get_size(engine._context, 0)
        out[cache] = {
            "planned_4b": {str(context): need(FACTS_4B, 0, context, cache=cache).cache for context in CONTEXTS},
            "planned_mini": need(facts, 0, length, cache=cache).cache, "kept_mini": int(kept),
        }  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--prompts", type=int, default=3, help="of each kind of text")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_medgemma_mini(place / "mini")
        full = place / "full.gguf"
        write_language(open_gemma(place / "mini"), full, "bf16")
        texts = held_back(arguments.data)
        facts = {
            "date": date.today().isoformat(), "length": arguments.length, "prompts": arguments.prompts,
            "memory": memory(full, arguments.length), "speed": speeds(full, texts["PubMedQA"], arguments),
            "distance": distances(full, texts, arguments),
        }  # fmt: skip
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts["speed"], indent=1))


if __name__ == "__main__":
    main()
