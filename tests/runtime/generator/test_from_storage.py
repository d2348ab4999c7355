"""A language model whose weights stay in their file: opened so where memory is short and the caller agrees; the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import medge

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.errors import ContextError
from medge.runtime.generator.conversation import Sampling
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.generator import Generator
from medge.runtime.generator.load import load
from medge.runtime.generator.planner import Device, plan
from medge.runtime.golden.phantom import phantom

CONTEXT = 512


@pytest.fixture
def short(tiny_reader: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device whose memory leaves the weights room for half of them."""
    needed = plan(Bundle.open(tiny_reader, allow_failed_parity=True), context=CONTEXT).need
    room = needed.total - needed.mapped // 2
    device = Device(room * 2, int(room / 0.9) + 1, 1, (), 0)
    monkeypatch.setattr(Device, "here", classmethod(lambda _: device))
    return device


def opened(folder: Path, **chosen: Any) -> Generator:
    return load(folder, allow_failed_parity=True, context=CONTEXT, threads=1, **chosen)


def mapped(path: Path) -> bool:
    return str(path.resolve()) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone says what is mapped")
def test_weights_stay_in_their_file_only_where_it_is_asked(tiny_reader: Path) -> None:
    path = Bundle.open(tiny_reader, allow_failed_parity=True).path("language")
    assert path is not None
    for from_storage in (False, True):
        with Engine(path, context=CONTEXT, from_storage=from_storage):
            assert mapped(path) == from_storage


@pytest.mark.usefixtures("short")
def test_it_is_refused_until_the_caller_agrees(tiny_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(limit=6)
    with opened(tiny_reader) as refused, pytest.raises(ContextError, match="agree to run it from storage"):
        refused.ask(None, "Name a bone.", sampling)
    with opened(tiny_reader, from_storage=True) as reader:
        assert (reader.plan.fit, reader.plan.fits) == ("from storage", False)
        stored = reader.ask(phantom(), "What is it?", sampling).text
    with opened(tiny_reader, from_storage=True, isolate=True) as apart:
        assert apart.plan.fit == "from storage"
        assert apart.ask(phantom(), "What is it?", sampling).text == stored
    monkeypatch.undo()
    with opened(tiny_reader, from_storage=True) as reader:
        assert reader.plan.fit == "in memory"
        assert reader.ask(phantom(), "What is it?", sampling).text == stored


def test_doctor_says_all_three(tiny_reader: Path, short: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("doctor", tiny_reader, "--context", CONTEXT)
    told = medge(*asked, code=1).stdout
    assert "from storage" in told
    assert "are read again for each token, about" in told
    [row] = json.loads(medge(*asked, "--from-storage", "--json").stdout)["results"]
    assert (row["fit"], row["fits"]) == ("from storage", False)
    assert 0.5 < row["read_again_bytes"] / row["need"]["mapped"] < 1
    assert row["read_again_seconds"] > 0
    monkeypatch.setattr("medge.runtime.device.storage.storage_speed", lambda _: None)
    assert "how slow this device's storage is was not measured" in medge(*asked, "--from-storage").stdout
    none = Device(short.memory_total, short.memory_free // 2, 1, (), 0)
    monkeypatch.setattr(Device, "here", classmethod(lambda _: none))
    assert "does not fit" in medge(*asked, "--from-storage", code=1).stdout
