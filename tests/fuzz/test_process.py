"""A case is judged by what becomes of its process: each verdict is reached by something that deserves it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fuzz import campaign, process
from fuzz.kinds import KINDS
from fuzz.verdict import Kind, Outcome, Verdict, WrongError
from medge.runtime.errors import ImageError


def _raise(error: BaseException) -> None:
    raise error


def _spin() -> None:
    while True:
        pass


DEEDS: dict[str, tuple[Callable[[], object], Verdict]] = {
    "nothing": (lambda: None, Verdict.RIGHT),
    "a sentence": (lambda: _raise(ImageError("film.png: the file is empty")), Verdict.REFUSED),
    "two lines": (lambda: _raise(ImageError("film.png:\nempty")), Verdict.TRACEBACK),
    "colours": (lambda: _raise(ImageError("\x1b[31mfilm.png")), Verdict.TRACEBACK),
    "no MedgeError": (lambda: _raise(KeyError("x")), Verdict.TRACEBACK),
    "wrong": (lambda: _raise(WrongError("another result")), Verdict.WRONG),
    "abort": (os.abort, Verdict.ABORT),
    "exit": (lambda: os._exit(0), Verdict.ABORT),
    "endless": (_spin, Verdict.HANG),
    "sleep": (lambda: time.sleep(30), Verdict.HANG),
    "large": (lambda: np.ones(400_000_000, np.uint8), Verdict.MEMORY),
    "too large": (lambda: np.ones(10**10, np.uint8), Verdict.MEMORY),
}


def test_each_deed_gets_its_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "CPU_SECONDS", 0)
    monkeypatch.setattr(process, "WALL_SECONDS", 3)
    monkeypatch.setattr(process, "RESIDENT", 300_000_000)
    kind = Kind(lambda rng, base: b"", lambda content, place, base: _do(content))
    monkeypatch.setitem(KINDS, "deeds", kind)
    cases = [(name, name.encode()) for name in DEEDS]
    found: dict[str, Outcome] = {}
    campaign.take(
        iter([("deeds", cases)]), tmp_path, lambda kind, case, outcome: found.update({case[0]: outcome}), jobs=2
    )
    assert {name: outcome.verdict for name, outcome in found.items()} == {
        name: verdict for name, (_, verdict) in DEEDS.items()
    }
    assert "SIGABRT" in found["abort"].detail
    assert "KeyError at" in found["no MedgeError"].detail


def _do(content: bytes) -> None:
    DEEDS[content.decode()][0]()


def test_a_failure_that_takes_company_is_told_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an earlier case broke, and a later one dies of, is not lost because the later one is well alone."""
    worn: list[bytes] = []

    def run(content: bytes, place: Path, base: Path) -> None:
        worn.append(content)
        if len(worn) > 2:
            os.abort()

    monkeypatch.setitem(KINDS, "deeds", Kind(lambda rng, base: b"", run))
    found: dict[str, Outcome] = {}
    with contextlib.suppress(KeyError):
        campaign.take(iter([("deeds", [(name, name.encode()) for name in "abcd"])]), tmp_path,
                      lambda kind, case, outcome: found.update({case[0]: outcome}), jobs=1)  # fmt: skip
    assert [found[name].verdict for name in "abcd"] == [Verdict.RIGHT, Verdict.RIGHT, Verdict.ABORT, Verdict.RIGHT]
    assert found["c"].cases == ["a", "b", "c"]
