"""What weights cost that stay in storage: the measured numbers, the same in both languages, and how storage is measured."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from medge.runtime.device.storage import LEAST_SHARE, READ_AGAIN, SLOWER, read_again, storage_speed

ROOT = Path(__file__).parents[3]


def test_the_model_is_what_was_measured() -> None:
    facts = json.loads((ROOT / "benchmarks/results/from_storage.json").read_text())
    measured = {row["share"]: row["read_again"] for row in facts["mapped"]}
    most = itertools.accumulate((measured[share] for share in sorted(measured, reverse=True)), max)
    for share, again in zip(sorted(measured, reverse=True), most, strict=True):
        assert read_again(share) == pytest.approx(again, abs=0.006), share  # rounded to two places
    assert pytest.approx(facts["slower"], abs=0.051) == SLOWER  # to one
    assert min(measured) == LEAST_SHARE


def test_less_room_is_never_less_to_read() -> None:
    shares = [number / 200 for number in range(20, 241)]
    amounts = [read_again(share) for share in shares]
    assert all(after <= before for before, after in itertools.pairwise(amounts))
    assert read_again(1.0) == 0 == read_again(3.0)
    (high, less), (low, more) = READ_AGAIN[1:3]
    assert read_again((high + low) / 2) == pytest.approx((less + more) / 2)


def test_the_phones_numbers_are_the_same() -> None:
    source = (ROOT / "android_demo/core/src/main/kotlin/org/medge/core/Storage.kt").read_text()
    points = re.findall(r"([\d.]+) to ([\d.]+)", source)
    assert [(float(share), float(again)) for share, again in points] == list(READ_AGAIN)
    assert float(re.search(r"SLOWER = ([\d.]+)", source)[1]) == SLOWER  # None fails as well
    assert float(re.search(r"LEAST_SHARE = ([\d.]+)", source)[1]) == LEAST_SHARE


def test_storage_is_read_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(3 << 20))
    ticks = iter([10.0, 12.0, 20.0, 21.0])
    assert storage_speed(path, clock=lambda: next(ticks)) == (3 << 20) / 2
    assert storage_speed(path, most=1 << 20, clock=lambda: next(ticks)) == 1 << 20
    path.write_bytes(b"")
    assert storage_speed(path) is None
