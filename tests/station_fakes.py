"""A station without models: an encoder of arithmetic and a generator that says what it is told, behind the same interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.labels import LabelBank
from medge.runtime.encoder.tokenizer import Cut
from medge.runtime.errors import ContextError
from medge.runtime.generator.answering import Counts
from medge.runtime.generator.conversation import Fragment, Sampling, Turn
from medge.runtime.generator.planner import Device, Need, Plan
from medge.runtime.station.models.catalogue import Catalogue, Entry
from medge.runtime.station.models.shelf import Shelf

GIGABYTE = 10**9


class Words:
    """A tokenizer: a token a letter, 64 of them."""

    length = 64

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, list[Cut]]:
        ids = np.zeros((len(texts), self.length), np.int64)
        for row, text in zip(ids, texts, strict=True):
            letters = [ord(sign) % 97 + 1 for sign in text[: self.length]]
            row[: len(letters)] = letters
        return ids, [Cut(text, text[: self.length], text[self.length :]) for text in texts if len(text) > self.length]


class FakeEncoder(Encoder):
    """Embeds an image as its mean colour, and a text as its letters."""

    def __init__(self) -> None:
        self.facts = SimpleNamespace(image_size=8, embedding_size=3, logit_scale=10.0, logit_bias=-1.0, sigmoid=True)
        self.manifest = SimpleNamespace(
            profile="hf-bicubic", preprocessing=SimpleNamespace(mean=(0.5,) * 3, std=(0.5,) * 3), name="fake",
            file=lambda role: None,
        )  # fmt: skip
        self.bundle = SimpleNamespace(folder=Path("fake"))
        self.towers = {"vision": SimpleNamespace(map_output="")}
        self.__dict__ |= {"calibration": None, "label_bank": None, "tokenizer": Words()}

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return _unit(pixels.mean(axis=(2, 3)) + np.array([2, 1, 1.5]))

    def embed_ids(self, ids: np.ndarray) -> np.ndarray:
        return _unit(np.stack([ids[:, place::3].sum(axis=1) + 1 for place in range(3)], axis=1).astype(np.float64))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class FakeGenerator:
    """Says `script`, word by word, and keeps what it was asked; with a `gate` it waits before each word."""

    context, image_tokens = 4096, 4

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def __init__(self, script: str = "The heart is of normal size.") -> None:
        self.script = script
        self.asked: list[tuple[list[Turn], Sampling, bool, Any]] = []
        self.gate: threading.Event | None = None
        self.thought = ""
        self.error: Exception | None = None
        self.left = threading.Event()
        self.closed = 0

    def stream(
        self, turns: Sequence[Turn], sampling: Sampling, *, think: bool, schema: Any, counts: Counts
    ) -> Iterator[Fragment]:
        self.asked.append((list(turns), sampling, think, schema))
        if self.error is not None:
            raise self.error
        counts.prompt = 7
        if self.thought and think:
            yield Fragment(self.thought, thought=True)
        try:
            for word in self.script.split(" "):
                if self.gate is not None:
                    self.gate.wait(10)
                if counts.tokens == sampling.limit:
                    yield Fragment("", stop="limit")
                    return
                counts.tokens += 1
                yield Fragment(word if counts.tokens == 1 else f" {word}")
            yield Fragment("", stop="end")
        finally:
            self.left.set()

    def close(self) -> None:
        self.closed += 1


class FakeOpener:
    """Gives the models that it was made with; each takes as much memory as `needs` says."""

    def __init__(self, models: dict[str, Any], needs: dict[str, int] | None = None) -> None:
        self.models, self.needs = models, needs or {}
        self.opened: list[str] = []
        self.closed: list[Any] = []

    def plan(self, entry: Entry, device: Device) -> Plan:
        return Plan(entry.id, device, Need(self.needs.get(entry.id, 0), 0, 0, 0), 512, 1, 0)

    def open(self, entry: Entry, plan: Plan) -> Any:
        self.opened.append(entry.id)
        return self.models[entry.id]

    def close(self, model: Any) -> None:
        self.closed.append(model)


def device(gigabytes: float = 8) -> Device:
    """A machine with all of its memory free."""
    return Device(int(gigabytes * GIGABYTE), int(gigabytes * GIGABYTE), 2, (), 0)


def entries() -> dict[str, Entry]:
    """An encoder and two language models, one of which reads text only."""
    made = (
        Entry("eyes", "encoder", Path("eyes"), 1, "passed", {"vision": "int8"}, "hf-bicubic", 8),
        Entry("reader", "generator", Path("reader"), 2, "passed", {"language": "q4_k_m"}, "hf-bicubic", 8),
        Entry("writer", "generator", Path("writer"), 3, "passed", {"language": "q8_0"}),
    )
    return {entry.id: entry for entry in made}


def shelf(generator: FakeGenerator | None = None, encoder: FakeEncoder | None = None) -> Shelf:
    """The shelf of a station of `entries`."""
    one = generator or FakeGenerator()
    return Shelf(FakeOpener({"eyes": encoder or FakeEncoder(), "reader": one, "writer": one}), device)


def labelled() -> FakeEncoder:
    """An encoder with labels of its own: what is grey, and what is red."""
    encoder = FakeEncoder()
    rows = _unit(np.array([[2.0, 1.0, 1.5], [3.0, 0.5, 1.0]]))
    encoder.__dict__["label_bank"] = LabelBank({"grey": ["grey"], "red": ["red"]}, rows)
    return encoder


def catalogue() -> Catalogue:
    """Of `entries`."""
    return Catalogue(entries(), {"old": "old: parity failed"})


TOO_LONG = ContextError("the prompt has 900 tokens, the context 512")
