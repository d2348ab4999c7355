"""Time a language model's bundle in a process of its own.

python -m medge.runtime.bench.generator BUNDLE ROUNDS CONTEXT
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..device.memory import peak_memory
from ..errors import MedgeError
from ..progress import Progress, no_progress
from .asked import Asked, Benched

PROMPT_TOKENS, ANSWER_TOKENS = 256, 32
TEXT = "The patient was seen in the clinic today and reports that the cough has become less since the last visit. "


def bench(folder: Path, asked: Asked, _progress: Progress = no_progress) -> Benched:
    """Time a bundle in a process of its own.

    Raises:
        MedgeError: other engines are asked for, or the benchmark ended early.
    """
    from rich.table import Table

    if asked.against:
        raise MedgeError("--against compares encoders; a language model is compared by benchmarks/")
    facts = run_apart(folder, asked.rounds)
    table = Table(title=f"{facts['bundle']}, medians of {asked.rounds} rounds, {facts['threads']} threads")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row("cold start", f"{facts['cold_start_seconds']:.2f} s")
    table.add_row("reading a prompt", f"{facts['prefill_tokens_per_second']:.1f} tokens/s")
    table.add_row("generating", f"{facts['tokens_per_second']:.1f} tokens/s")
    if "first_question_seconds" in facts:
        table.add_row("first question on an image, to the first token", f"{facts['first_question_seconds']:.2f} s")
        table.add_row("second question on it", f"{facts['second_question_seconds']:.2f} s")
    table.add_row("peak memory", f"{facts['peak_bytes'] / 1e6:.0f} MB")
    return Benched([facts], table)


def run_apart(bundle: Path, rounds: int, context: int = 2048) -> dict[str, Any]:
    """Run `measure` in a fresh process, so that memory and cold start are the bundle's own."""
    command = [sys.executable, "-m", "medge.runtime.bench.generator", str(bundle), str(rounds), str(context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MedgeError(f"the benchmark ended early: {done.stderr.strip().splitlines()[-1:] or 'no reason given'}")
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(bundle: Path, rounds: int, context: int) -> dict[str, Any]:
    """Cold start, reading, generating, and two questions about one image; medians over rounds."""
    from ..generator.conversation import Sampling, user
    from ..generator.load import load
    from ..golden.phantom import phantom

    start = time.perf_counter()
    generator = load(bundle, allow_failed_parity=True, context=context)
    engine = generator.engine
    facts: dict[str, Any] = {
        "bundle": generator.manifest.name, "threads": generator.plan.threads, "context": engine.context,
        "cold_start_seconds": time.perf_counter() - start,
    }  # fmt: skip
    prompt = (engine.tokenize(TEXT) * PROMPT_TOKENS)[:PROMPT_TOKENS]
    reading, writing = [], []
    for number in range(rounds):
        fresh = [engine.tokenize(f"{number} ")[0], *prompt[1:]]  # another first token: nothing of it is reused
        reading.append(_seconds(partial(engine.prefill, fresh)))
        answer = engine.generate(fresh, Sampling(ANSWER_TOKENS + 1), past_end=True)
        next(answer)  # the first token's time belongs to reading the prompt
        writing.append(_seconds(partial(deque, answer, 0)) / ANSWER_TOKENS)
    facts["prefill_tokens_per_second"] = PROMPT_TOKENS / statistics.median(reading)
    facts["tokens_per_second"] = 1 / statistics.median(writing)
    if generator.facts.image_tokens:
        image = phantom()

        def first_token(question: str) -> None:
            next(iter(generator.stream([user(image, question)], Sampling(limit=1))), None)

        first, second = [], []
        for _ in range(min(rounds, 3)):
            engine.forget()
            first.append(_seconds(lambda: first_token("What does this image show?")))
            second.append(_seconds(lambda: first_token("Is anything abnormal in it?")))
        facts["first_question_seconds"] = statistics.median(first)
        facts["second_question_seconds"] = statistics.median(second)
    facts["peak_bytes"] = peak_memory()
    return facts


if __name__ == "__main__":
    place, rounds, context = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(measure(place, rounds, context)))
