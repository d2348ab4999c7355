"""Which run to ship is said only where the data can say it."""

from __future__ import annotations

from typing import Any

import pytest
import runs

from medge.runtime.commands.evaluation.comparison.choice import chosen

FULL = runs.result("full", 40_000_000, None)


def run(name: str, size: int, low: float | None, high: float | None, **changed: Any) -> dict[str, Any]:
    middle = 0.0 if low is None or high is None else (low + high) / 2
    return runs.result(name, size, runs.difference(middle, low, high), **changed)


@pytest.mark.parametrize(
    ("low", "high", "standing"),
    [(-0.02, 0.01, "no worse"), (0.01, 0.02, "no worse"), (-0.021, 0.03, "not clear"), (-0.05, -0.021, "worse"),
     (-0.05, -0.02, "not clear"), (None, None, "not clear"), (0.0, 0.0, "not clear")],
)  # fmt: skip
def test_a_run_stands_where_its_whole_interval_does(low: float | None, high: float | None, standing: str) -> None:
    found = chosen([FULL, run("half", 20_000_000, low, high)], "macro_auc", 0.02)
    assert found["standing"] == {"full": "first", "half": standing}
    assert found["ship"] == ("half" if standing == "no worse" else "full")


def test_the_smallest_that_holds_is_named() -> None:
    found = chosen(
        [FULL, run("half", 20_000_000, -0.01, 0.01), run("third", 13_000_000, -0.015, 0.0), run("tenth", 4_000_000, -0.3, -0.2)],
        "macro_auc", 0.02,
    )  # fmt: skip
    assert found["ship"] == "third"
    assert "Ship third: it is the smallest that loses at most 0.02 of macro AUC against full" in found["said"]
    assert "Worse by more than that: tenth." in found["said"]
    # A bundle that is larger than the original is no reason to leave it.
    assert chosen([FULL, run("double", 80_000_000, -0.01, 0.01)], "macro_auc", 0.02)["ship"] == "full"


def test_of_the_same_size_memory_decides_then_time() -> None:
    slow, quick = (run(name, 20_000_000, -0.01, 0.01, seconds_an_item=s) for name, s in (("slow", 2.0), ("quick", 1.0)))
    unknown = run("unknown", 20_000_000, -0.01, 0.01, peak_bytes=None)
    assert chosen([FULL, unknown, slow, quick], "macro_auc", 0.02)["ship"] == "quick"


def test_a_bundle_that_failed_its_gate_is_not_named() -> None:
    broken = run("broken", 10_000_000, -0.01, 0.01, parity="failed")
    found = chosen([FULL, broken], "macro_auc", 0.02)
    assert found["ship"] == "full"
    assert "parity with the original failed: broken" in found["said"]
    found = chosen([FULL | {"parity": "failed"}, broken], "macro_auc", 0.02)
    assert found["ship"] is None
    assert found["said"].startswith("None can be named")


def test_the_original_in_pytorch_is_not_named() -> None:
    """It is what bundles are compared with; no device runs it."""
    original = FULL | {"parity": "original"}
    assert chosen([original, run("half", 20_000_000, -0.05, -0.021)], "macro_auc", 0.02)["ship"] is None
    assert chosen([original, run("half", 20_000_000, -0.01, 0.01)], "macro_auc", 0.02)["ship"] == "half"


def test_without_a_margin_it_is_said_how_much_may_be_lost() -> None:
    runs_ = [
        FULL,
        run("half", 20_000_000, -0.013, 0.01),
        run("better", 30_000_000, 0.01, 0.02),
        run("dark", 1_000_000, None, None),
    ]
    found = chosen(runs_, "macro_auc", None)
    assert (found["ship"], found["standing"]) == (None, {})
    for said in ("half may lose up to 0.013", "better loses no macro AUC", "dark may lose", "--margin 0.02"):
        assert said in found["said"]
