"""What is timed of an encoder; `test_generator_cli` times a language model."""

import json
from pathlib import Path

import pytest
from command_line import medge

from medge.runtime.bench.asked import Asked
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


def test_other_engines_are_encoders(tmp_path: Path) -> None:
    asked = Asked(1, against={"pytorch": ["python"]})
    with pytest.raises(MedgeError, match="--against compares encoders"):
        KINDS["generator"].bench(tmp_path, asked, no_progress)
