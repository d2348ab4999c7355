"""Twelve moments of benchmarks/station_kills.py: what was acknowledged is stored once and judged once, whatever was killed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script

from medge.runtime.station.station import Station

SEED, MOMENTS = 12, 12


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_script(Path(__file__).parents[3] / "benchmarks" / "station_kills.py")


def test_killed_under_load_loses_and_doubles_nothing(campaign: ModuleType, tmp_path: Path) -> None:
    load = campaign.Load(tmp_path / "station", campaign.picture)
    try:
        rows = [load.moment(number, campaign.seeded(SEED, number)) for number in range(MOMENTS)]
    finally:
        load.end()
    assert [row for row in rows if row["problems"]] == []
    assert {row["victim"] for row in rows} == set(campaign.VICTIMS)
    assert sum(row["left"] for row in rows) > 0  # a station was killed while objects came
    assert len(load.acknowledged) == sum(row["objects"] for row in rows)


def test_what_a_campaign_sees(campaign: ModuleType, tmp_path: Path) -> None:
    """A station that lost an object, has another that nobody judged, and a file that was changed."""
    folder = tmp_path / "station"
    with Station.open(folder) as station:
        kept = station.put(campaign.film(1, 0), who="sender").instance
        (folder / "objects" / kept.sha256[:2] / kept.sha256).write_bytes(b"changed")
        load: Any = campaign.Load.__new__(campaign.Load)
        load.folder, load.acknowledged = folder, {kept.uid: kept.sha256, "1.2.3.0.9": "0" * 64}
        seen = list(load._account(station))
    assert "2 acknowledged, 1 stored" in seen
    assert "judge: 0 results for 2 objects" in seen
    assert "a file does not hold what its name says" in seen
