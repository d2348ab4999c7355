"""Streamed answers of the station against its own runtime and llama.cpp's own server, on the same file; for station_load.py.

All three hold the model, with one thread on one core and the same context, and are asked the same, one by one: the
runtime in a process of its own (`load_generator`), station and llama.cpp's server by `/v1/chat/completions` with `stream`.
Then llama.cpp's server opens a file whose vocabulary is cut, with its vision tower, and its answers are compared with medge's.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file
from station_serving import Reader, Server, Tree, llama_server, station
from station_studies import spread

import medge
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.pictures.images import read_image

CONTEXT = 2048
THREADS = 1  # two wait for each other hundreds of times a token, which on a busy machine is all that can be measured
LIMIT = 64  # tokens of an answer
PAUSE = 0.3  # seconds between two answers: threads that still wait actively go to sleep
# The stand-in ends most answers after a few words; these it goes on with.
QUESTIONS = {
    "short": "{number}, {number}, {number}, {number}, {number},",
    "long": "Où se trouve le cœur du patient {number} ? " * 24,
}
TEXTS = (
    "What is a radiograph of the chest?",
    "Name three causes of a cough.",
    "¿Qué es la neumonía?",
    "Où se trouve le cœur ?",
    "Explain pneumonia: β-lactams, 38 °C.",
    "Что такое пневмония?",  # in a script whose tokens are cut: by bytes
)
LOOK = "Which kind of image is this?"
_ALONE = """
import json, sys, time
import medge
reader = medge.load_generator(sys.argv[1], allow_failed_parity=True, threads=int(sys.argv[2]), context=int(sys.argv[3]))
reader.context
print("true", flush=True)
for line in sys.stdin:
    question, limit = json.loads(line)
    counts, times, text = medge.runtime.generator.answering.Counts(), [], ""
    begun = time.perf_counter()
    for piece in reader.stream([medge.user(question)], medge.Sampling(limit), counts=counts):
        if piece.text:
            times.append(time.perf_counter() - begun)
            text += piece.text
    total = time.perf_counter() - begun
    print(json.dumps({"first": times[0], "last": times[-1], "total": total, "tokens": counts.tokens, "prompt": counts.prompt,
                      "text": text}), flush=True)
"""


def streamed(server: Server, model: str, question: str, limit: int) -> dict[str, Any]:
    """An answer as it comes: seconds to its first and last text and to its end, its tokens and those of the prompt."""
    body = {
        "model": model, "messages": [{"role": "user", "content": question}], "stream": True, "temperature": 0,
        "max_tokens": limit, "stream_options": {"include_usage": True},
    }  # fmt: skip
    times, text, usage = [], "", {}
    with contextlib.closing(server.connection()) as line:
        line.connect()
        begun = time.perf_counter()
        line.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = line.getresponse()
        for event in _events(answer):
            usage = event.get("usage") or usage
            piece = event["choices"][0]["delta"].get("content") if event["choices"] else None
            if piece:
                times.append(time.perf_counter() - begun)
                text += piece
        total = time.perf_counter() - begun
    return {
        "first": times[0], "last": times[-1], "total": total, "tokens": usage["completion_tokens"],
        "prompt": usage["prompt_tokens"], "text": text,
    }  # fmt: skip


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Confine this process, and those that it starts, to one core: others' work shall not hit one of them more than another."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def _events(answer: Any) -> Iterator[dict[str, Any]]:
    for line in answer:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def rate(found: dict[str, Any]) -> float:
    """Tokens a second after the first."""
    return (found["tokens"] - 1) / (found["last"] - found["first"])


def in_turns(
    ask: dict[str, Callable[[str, int], dict[str, Any]]], trees: dict[str, Tree], name: str, rounds: int,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Every engine's answers to the same questions, and the ratios of each turn."""
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ask}
    for number in range(rounds + 1):
        question = QUESTIONS[name].format(number=20 + number).strip()
        order = list(ask) if number % 2 else list(reversed(ask))
        for engine in order:
            time.sleep(PAUSE)
            before = trees[engine].cpu()
            one = ask[engine](question, LIMIT)
            one["cpu"] = trees[engine].cpu() - before
            if number:  # the first wakes everybody up
                found[engine].append(one)
        say(f"{name}: { ({engine: round(rate(rows[-1]), 1) for engine, rows in found.items() if rows}) }")
    ours, alone, theirs = found["station"], found["runtime"], found["llama-server"]
    pairs = list(zip(ours, alone, theirs, strict=True))
    return {
        "rounds": rounds, "prompt_tokens": ours[-1]["prompt"], "llama_server_prompt_tokens": theirs[-1]["prompt"],
        "tokens": {engine: sorted({one["tokens"] for one in rows}) for engine, rows in found.items()},
        "cpu_seconds_a_token": {engine: spread([one["cpu"] / one["tokens"] for one in rows]) for engine, rows in found.items()},
        "first_seconds": {engine: spread([one["first"] for one in rows]) for engine, rows in found.items()},
        "tokens_a_second": {engine: spread([rate(one) for one in rows]) for engine, rows in found.items()},
        "first_to_runtime": spread([mine["first"] / other["first"] for mine, other, _ in pairs]),
        "first_to_llama_server": spread([mine["first"] / other["first"] for mine, _, other in pairs]),
        "rate_to_runtime": spread([rate(mine) / rate(other) for mine, other, _ in pairs]),
        "rate_to_llama_server": spread([rate(mine) / rate(other) for mine, _, other in pairs]),
        "whole_to_llama_server": spread(
            [mine["tokens"] / mine["total"] * other["total"] / other["tokens"] for mine, _, other in pairs]
        ),
        "same_text_as_runtime": sum(mine["text"] == other["text"] for mine, other, _ in pairs),
        "same_text_as_llama_server": sum(mine["text"] == other["text"] for mine, _, other in pairs),
    }  # fmt: skip


def whole_and_cut(folder: Path, binary: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What llama.cpp's server answers on a file whose vocabulary is cut, and what medge answers on it, at temperature 0."""
    bundle = Bundle.open(folder, verify=False, allow_failed_parity=True)
    model, projector = bundle.path("language"), bundle.path("projector")
    assert model is not None
    rows = []
    with (
        contextlib.closing(
            medge.load_generator(folder, allow_failed_parity=True, threads=THREADS, context=CONTEXT)
        ) as reader,
        llama_server(binary, model, projector, threads=THREADS, context=CONTEXT) as server,
    ):
        # A picture of the tower's own size: neither resizes it.
        side = reader.facts.image_size
        pixels = reader.picture(read_image(str(get_testdata_file("RG1_UNCR.dcm", download=False)))).pixels
        assert pixels.shape == (side, side, 3)
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
        for question in (*TEXTS, LOOK):
            seen = question is LOOK
            content: Any = question
            if seen:
                content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
            body = {
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": 32,
                "cache_prompt": False,
            }
            answer = server.ask("/v1/chat/completions", body)
            theirs = answer["choices"][0]["message"]["content"]
            ours = reader.ask(pixels if seen else None, question, medge.Sampling(32)).text
            prompt = sum(
                1 if isinstance(item, int) else item.tokens
                for item in reader.encode([medge.user(pixels, question) if seen else medge.user(question)])
            )
            rows.append(
                {
                    "question": question, "picture": seen, "medge": ours, "llama_server": theirs,
                    "same": ours.strip() == theirs.strip(), "prompt_tokens": prompt,
                    "llama_server_prompt_tokens": answer["usage"]["prompt_tokens"],
                }
            )  # fmt: skip
            say(json.dumps(rows[-1], ensure_ascii=False))
    return {"tokens_kept": bundle.manifest.generator.vocabulary, "answers": rows}


def measure(
    folder: Path, binary: Path, whole: str, cut: str, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """First tokens and tokens a second of the three, and llama.cpp's server on a cut vocabulary.

    Args:
        folder: the bundles.
        binary: llama-server.
        whole, cut: bundles with the whole vocabulary and a cut one.
        rounds: questions of each length.
        say: told what was found.
    """
    model = Bundle.open(folder / whole, verify=False, allow_failed_parity=True).path("language")
    assert model is not None
    words = ("--threads", str(THREADS), "--context", str(CONTEXT), "--allow-failed-parity")
    with (
        one_core(),
        Reader(_ALONE, folder / whole, str(THREADS), str(CONTEXT)) as runtime,
        station(folder, *words) as ours,
        llama_server(binary, model, None, threads=THREADS, context=CONTEXT) as theirs,
    ):
        ask = {
            "runtime": lambda question, limit: runtime.ask([question, limit]),
            "station": lambda question, limit: streamed(ours, whole, question, limit),
            "llama-server": lambda question, limit: streamed(theirs, "", question, limit),
        }
        trees = {"runtime": runtime.tree, "station": ours.tree, "llama-server": theirs.tree}
        found = {name: in_turns(ask, trees, name, rounds, say) for name in QUESTIONS}
    return {
        "file": model.name, "bytes": model.stat().st_size, "threads": THREADS, "context": CONTEXT, "limit": LIMIT,
        "questions": found, "cut_vocabulary": whole_and_cut(folder / cut, binary, say),
    }  # fmt: skip
