"""`medge evaluate --engine ray`: the same items as in one process, whatever dies on the way."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from command_line import medge, medge_process
from PIL import Image
from ray_encoder import UNREADABLE, Dying, inputs

from medge.export.jobs.ray_pictures import PER_SHARD, RayPictures
from medge.runtime.commands.evaluation.evaluate import evaluate
from medge.runtime.console.image_run import ImageRun, Outcome
from medge.runtime.console.layouts import TABLES, Columns
from medge.runtime.errors import DistillationError, ImageError, TaskError
from medge.runtime.pictures.view import DEFAULT_VIEW

LEVELS = 11


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More pictures than a shard holds, in folders of two labels, and one that can't be read."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label in ("hand", "head"):
        (folder / label).mkdir()
        for number in range(PER_SHARD // 2 + 3):
            pixels = rng.integers(0, 255, (24, 24), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02}.png")
    (folder / "head" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def found_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes import `ray_encoder`, whatever process the tests run in."""
    pytest.importorskip("ray", reason="pip install 'medge[ray]'")
    tests = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]))


def rows_of(place: Path) -> list[dict[str, str]]:
    """Without what differs from run to run."""
    rows = list(csv.DictReader((place / "items.csv").open(newline="")))
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]


def facts_of(place: Path) -> dict[str, Any]:
    facts = json.loads((place / "metrics.json").read_text())
    del facts["seconds_an_item"], facts["model"]["peak_bytes"]
    return cast("dict[str, Any]", facts)


def test_the_items_are_those_of_one_process_to_the_bit(bundle: Path, data: Path, tmp_path: Path) -> None:
    """On as many threads: another number adds up in another order."""
    pytest.importorskip("ray", reason="pip install 'medge[ray]'")
    asked = ("evaluate", bundle, "--task", "folder", "--data", data, "--items", "csv", "--threads", "1")
    here = medge_process(*asked, "--out", tmp_path / "here", code=3)
    by_ray = medge_process(*asked, "--out", tmp_path / "ray", "--engine", "ray", "--workers", "2", code=3)
    rows = rows_of(tmp_path / "ray")
    assert rows == rows_of(tmp_path / "here")
    assert len(rows) == PER_SHARD + 6
    assert facts_of(tmp_path / "ray") == facts_of(tmp_path / "here")
    for done in (here, by_ray):
        assert "broken.png" in done.stderr
        assert f"1 of {PER_SHARD + 7} images could not be read" in done.stderr
    assert {path.name for path in (tmp_path / "ray").iterdir()} == {"items.csv", "metrics.json", "metrics.html"}
    again = medge_process(*asked, "--out", tmp_path / "ray", code=3)  # and one goes on where the other was
    assert f"{PER_SHARD + 6} done before" in again.stderr


def test_a_ray_that_does_not_start_is_no_fault_of_medge(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="pip install 'medge[ray]'")

    def init(**options: Any) -> None:
        raise Exception("The current node timed out during startup.")  # what Ray raises is no more special

    monkeypatch.setattr(ray, "init", init)
    asked = ("evaluate", bundle, "--task", "folder", "--data", data, "--out", tmp_path / "run", "--engine", "ray")
    said = medge(*asked, "--workers", "2", code=1).stderr
    assert "medge: Ray did not start on this machine: The current node timed out during startup; ask for fewer" in said
    assert "fault" not in said
    medge(*asked[:-2], code=3)  # what it advises works


def embeddings(place: Path, **dies: int) -> RayPictures:
    place.mkdir(exist_ok=True)
    return RayPictures(Dying(place, None, "cpu", **dies), "0", place, workers=2, per_shard=3)


@pytest.mark.usefixtures("found_by_ray")
def test_what_is_written_before_ray_gives_up_is_gone_on_with(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The first run starts a Ray of its own, and ends it after the error; the tests from here on share one."""
    columns = Columns("id", {"made_with": "0"}, (), ("square",))

    def run(engine: RayPictures) -> ImageRun:
        made = ImageRun(inputs(LEVELS), DEFAULT_VIEW, tmp_path / "items.csv", TABLES, force=False)
        made.go_through(engine, columns, lambda one, _: Outcome({}, {"square": float(one[1])}))
        return made

    with pytest.raises(DistillationError, match="items 3 to 5 ended 4 workers.*; the same command goes on from there"):
        run(embeddings(tmp_path / "run", always=3, others=3))
    written = [int(row["id"]) for row in csv.DictReader((tmp_path / "items.csv").open(newline=""))]
    assert written == [0, 1, 2, 6, 7, 8, 9, 10]
    (tmp_path / "run" / "embedded").unlink()
    request.getfixturevalue("local_ray")
    done = run(embeddings(tmp_path / "run"))
    assert (done.before, len(done.results), len(done.failed)) == (8, 2, 1)
    again = {int(level) for level in (tmp_path / "run" / "embedded").read_text().split()}
    assert again == {3, 4, UNREADABLE}  # what has a row is not embedded again
    rows = list(csv.DictReader((tmp_path / "items.csv").open(newline="")))
    assert {int(row["id"]): float(row["square"]) for row in rows} == {
        level: level**2 for level in range(LEVELS) if level != UNREADABLE
    }
    assert not list((tmp_path / "run").glob(".shards-*"))


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    found = list(embeddings(tmp_path / "run", once=4)(inputs(LEVELS), DEFAULT_VIEW))
    assert (tmp_path / "run" / "died").exists()
    assert len(found) == LEVELS
    for level, (picture, one) in enumerate(found):
        assert picture.name == str(level)
        if level == UNREADABLE:
            assert isinstance(one, ImageError)
            assert str(one) == f"picture {level}: żółć"
        else:
            assert isinstance(one, np.ndarray)
            assert one.tolist() == [level, level**2]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"died", "embedded"}  # no shard is left


def test_a_checkpoint_goes_through_ray_as_well(shallow: Path, data: Path, tmp_path: Path, local_ray: str) -> None:
    """One that runs already: of it, no more than the address is known."""
    asked = (
        "evaluate",
        shallow,
        "--task",
        "folder",
        "--data",
        data,
        "--items",
        "csv",
        "--threads",
        "1",
        "--limit",
        "9",
    )
    medge_process(*asked, "--out", tmp_path / "here", code=None)
    medge_process(*asked, "--out", tmp_path / "ray", "--engine", "ray", "--address", local_ray, code=None)
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "here")
    assert len(rows_of(tmp_path / "ray")) in (8, 9)


def test_ray_is_for_encoders_and_needs_its_extra(
    shallow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = SimpleNamespace(kind="generator", folder=Path("reader"))
    with pytest.raises(TaskError, match="reader is a language model; only encoders are evaluated by Ray"):
        evaluate(cast(Any, reader), None, cast(Any, None), cast(Any, object()))
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = ("evaluate", shallow, "--task", "folder", "--data", tmp_path, "--out", tmp_path / "run", "--engine")
    assert "this needs the package 'ray': pip install 'medge[ray]'" in medge(*asked, "ray", code=1).stderr
    assert "--engine dask: choose from local, ray" in medge(*asked, "dask", code=1).stderr
    assert not (tmp_path / "run").exists()
