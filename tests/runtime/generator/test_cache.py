"""A key-value cache in fewer bits: planned, used, refused, and as reproducible as one in sixteen."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from command_line import medge

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")
from medge.runtime.errors import RecipeError
from medge.runtime.generator.cache import CACHE_NAMES, CACHES, CacheName, cache_types
from medge.runtime.generator.conversation import Sampling, user
from medge.runtime.generator.generator import Generator
from medge.runtime.generator.load import load
from medge.runtime.golden.phantom import phantom

QUESTIONS = ("Name a bone.", "Which kind of image is this?", "Is the heart enlarged? " * 12)
FEWER = ("q8_0", "q4_0")


def opened(folder: Path, cache: str, *, isolate: bool = False) -> Generator:
    return load(
        folder, allow_failed_parity=True, context=1024, threads=1, cache=cast(CacheName, cache), isolate=isolate
    )


def last_logits(reader: Generator, question: str) -> np.ndarray:
    reader.engine.prefill(reader.encode([user(phantom(), question)]))
    return reader.engine.next_logits()


def test_llama_cpp_knows_the_types() -> None:
    import llama_cpp.llama_cpp as lib

    for name, types in CACHES.items():
        keys = "f16" if name == "f16" else "q8_0"
        assert types.keys.number == getattr(lib, f"GGML_TYPE_{keys.upper()}")
        assert types.values.number == getattr(lib, f"GGML_TYPE_{name.upper()}")


def test_it_is_used_and_near_sixteen_bits(tiny_reader: Path) -> None:
    """The logits differ, by less the more bits there are. Random weights make small errors large ones."""
    lost: dict[str, list[float]] = {name: [] for name in FEWER}
    with opened(tiny_reader, "f16") as whole:
        exact = [last_logits(whole, question) for question in QUESTIONS]
    for cache in FEWER:
        with opened(tiny_reader, cache) as small:
            for question, right in zip(QUESTIONS, exact, strict=True):
                ours = last_logits(small, question)
                lost[cache].append(float(np.linalg.norm(ours - right) / np.linalg.norm(right - right.mean())))
    assert 0 < np.mean(lost["q8_0"]) < np.mean(lost["q4_0"]) / 2
    assert np.mean(lost["q4_0"]) < 0.5


@pytest.mark.parametrize("cache", FEWER)
def test_an_answer_does_not_depend_on_what_was_asked_before(tiny_reader: Path, cache: str) -> None:
    with opened(tiny_reader, cache) as reader:
        alone = {}
        for question in QUESTIONS:
            reader.engine.forget()
            alone[question] = last_logits(reader, question)
        for order in permutations(QUESTIONS):
            for question in order:
                np.testing.assert_array_equal(last_logits(reader, question), alone[question])


def test_a_process_of_its_own_keeps_it_alike(tiny_reader: Path) -> None:
    sampling = Sampling(limit=6)
    with opened(tiny_reader, "q8_0") as here, opened(tiny_reader, "q8_0", isolate=True) as apart:
        assert here.plan.cache == apart.plan.cache == "q8_0"
        for question in QUESTIONS:
            assert apart.ask(phantom(), question, sampling).text == here.ask(phantom(), question, sampling).text


def test_what_there_is_not_is_refused(tiny_reader: Path) -> None:
    with pytest.raises(RecipeError, match="there is no cache q5_0; choose from f16, q8_0, q4_0"):
        _ = opened(tiny_reader, "q5_0").plan
    with pytest.raises(RecipeError, match="heads of a multiple of 32 numbers, and this model's have 80; use f16"):
        cache_types("q4_0", 80)
    assert cache_types("f16", 80) is CACHES["f16"]
    refused = medge("ask", tiny_reader, "Name a bone.", "--cache", "q5_0", "--allow-failed-parity", code=1)
    assert "there is no cache q5_0; choose from f16, q8_0, q4_0" in refused.stderr


def test_doctor_says_what_each_takes(tiny_reader: Path) -> None:
    rows = {
        name: json.loads(medge("doctor", tiny_reader, "--context", "2048", "--cache", name, "--json").stdout)[
            "results"
        ][0]
        for name in CACHE_NAMES
    }
    assert {name: row["cache_type"] for name, row in rows.items()} == {name: name for name in CACHE_NAMES}
    bytes_of = {name: row["need"]["cache"] for name, row in rows.items()}
    assert bytes_of["q8_0"] == bytes_of["f16"] * 8.5 / 16
    assert bytes_of["q4_0"] == bytes_of["f16"] * (8.5 + 4.5) / 32
