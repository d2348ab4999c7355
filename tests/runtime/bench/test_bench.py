"""What is timed of an encoder; `test_generator_cli` times a language model."""

import json
from pathlib import Path

import pytest
from command_line import medge

from medge.runtime.bench.asked import Asked
from medge.runtime.bench.in_turns import Measured
from medge.runtime.bench.ratio import Took
from medge.runtime.errors import MedgeError
from medge.runtime.kinds import KINDS
from medge.runtime.progress import no_progress


def test_bench(bundle: Path) -> None:
    facts = json.loads(medge("bench", bundle, "--rounds", 3, "--json").stdout)["results"]
    assert facts[0]["cold_start_seconds"] > 0
    assert facts[0]["peak_bytes"] > 10_000_000
    assert facts[0]["cpu_seconds_median"] > 0
    assert all(fact["threads"] == facts[0]["threads"] and 3 <= fact["rounds"] <= 15 for fact in facts)
    assert facts[0]["time_ratio"] is None  # of itself
    for ratio in (fact["time_ratio"] for fact in facts[1:]):
        assert ratio is None or ratio["low"] <= ratio["value"] <= ratio["high"] <= 1.25 * ratio["low"]
    assert "time ratio" in medge("bench", bundle, "--rounds", 1).stdout
    assert "--reference" in medge("bench", bundle, "--against", "pytorch", code=2).stderr


def measured(seconds: list[float], cpu_share: float) -> Measured:
    return Measured("engine", 1, took=[Took(wall, wall * cpu_share) for wall in seconds])


def test_a_ratio_stands_with_its_interval_or_not_at_all() -> None:
    base = measured([1.0, 1.1, 1.0, 0.9, 1.0, 1.0, 1.05], 2.0)
    twice = measured([2.0, 2.1, 2.0, 1.9, 2.0, 2.0, 2.05], 2.0)
    said = twice.facts_beside(base)["time_ratio"]
    assert (said["value"], twice.told_beside(base)) == (2.0, f"2.00 ({said['low']:.2f} to {said['high']:.2f})")
    assert said["low"] < 2 < said["high"]
    assert (base.facts_beside(base)["time_ratio"], base.told_beside(base)) == (None, "1")
    waited = measured([2.0] * 7, 1.0)  # as long, and the processor did no more: it waited for somebody else
    uneven = measured([1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 2.0], 2.0)
    few = measured([2.0] * 2, 2.0)
    for other, first in ((waited, base), (uneven, base), (few, measured([1.0] * 2, 2.0))):
        assert other.facts_beside(first)["time_ratio"] is None
        assert other.told_beside(first) == "not sure"


def test_other_engines_are_encoders(tmp_path: Path) -> None:
    asked = Asked(1, against={"pytorch": ["python"]})
    with pytest.raises(MedgeError, match="--against compares encoders"):
        KINDS["generator"].bench(tmp_path, asked, no_progress)
