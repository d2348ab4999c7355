"""A few moments of the kit's kill campaign; `make kit-kill-campaign` tries a hundred."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import kits
import pytest
from scripts import load_script

from medge.runtime.kit.installation import Installation


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_script(Path(__file__).with_name("kit_campaign.py"))


@pytest.fixture(scope="module")
def begin(campaign: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return campaign.prepare(tmp_path_factory.mktemp("kits"))


@pytest.mark.parametrize(
    ("job", "share"),
    # Early, where the version grows; late, where the link has been switched and the store's tables are changed.
    [("install", 0.4), ("install", 0.95), ("update", 0.3), ("update", 0.8), ("update", 0.9), ("rollback", 0.5)],
)  # fmt: skip
def test_killed_before_an_operation(campaign: ModuleType, begin: Any, tmp_path: Path, job: str, share: float) -> None:
    stop_at = round(share * begin[job].operations)
    assert list(campaign.problems_of(job, begin[job], tmp_path / "moment", stop_at=stop_at)) == []


def test_what_a_campaign_sees(campaign: ModuleType, begin: Any, tmp_path: Path) -> None:
    """A version that is not whole, one that can't read the store, users that went, a run that left something."""
    here = campaign.copied(begin["rollback"].prefix, tmp_path / "prefix")
    before = kits.own(here)
    assert kits.broken(here, before, {2}) == kits.leftovers(here) == []
    here.switch(1)
    assert kits.broken(here, before, {2}) == ["version 1 runs", "version 1 can't read the store"]
    here.switch(2)
    (here.folder(2) / "docs/index.html").unlink()
    (here.folder(2) / "docs/more.html").touch()
    connection = sqlite3.connect(here.store / "station.sqlite")
    with connection:
        connection.execute("DELETE FROM tokens")
        connection.execute("DELETE FROM users")
    connection.close()
    (here.versions / ".3.partial").mkdir()
    assert kits.broken(here, before, {2}) == [
        "docs/index.html is missing", "docs/more.html is nothing of the version", "the clinic's own has changed",
    ]  # fmt: skip
    assert kits.leftovers(here) == ["versions/.3.partial"]


def test_a_kill_is_a_kill(campaign: ModuleType, begin: Any, tmp_path: Path) -> None:
    here = campaign.copied(begin["update"].prefix, tmp_path / "prefix")
    process = campaign.start("update", here.prefix, begin["update"].stick, 5)
    process.communicate()
    assert process.returncode == -9
    assert Installation.open(here.prefix).current() == 1
    shutil.rmtree(here.prefix)
