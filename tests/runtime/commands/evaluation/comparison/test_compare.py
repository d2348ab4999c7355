"""`medge compare` on runs that were written by hand, and `medge evaluate --against` on bundles."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medge
from PIL import Image

from medge.runtime.bundles.manifest import Manifest

FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
LABELS = ("a", "b", "c")


def metrics(bundle: str, count: int, **changed: Any) -> dict[str, Any]:
    task = {"name": "folder", "title": "Folders", "form": "one label", "method": "zero-shot", "labels": list(LABELS)}
    task |= {"prompts": {"there": {label: [label] for label in LABELS}, "gone": {}}, **changed.pop("task", {})}
    model = {
        "fingerprint": "0",
        "profile": "eval-tf",
        "parity": "passed",
        "recipes": {"vision": "int8"},
        "bytes": 2_500_000,
        **changed.pop("model", {}),
    }
    return {
        "schema_version": 2, "bundle": bundle, "model": model, "task": task, "limit": None, "seed": 0, "no_names": False,
        "items": {"evaluated": count, "unreadable": 0}, "seconds_an_item": 0.25,
        "figures": {"accuracy": FIGURE, "macro_auc": FIGURE}, **changed,
    }  # fmt: skip


def write_run(
    place: Path, answers: str, *, labels: str = "aabbc", first: int = 0, form: str = "csv", **changed: Any
) -> Path:  # fmt: skip
    """A run over items 0, 1, ... of two patients, from `first` on, as `medge evaluate` writes it."""
    rows = [
        {
            "id": str(number), "label": label, "answer": answer, "group": f"patient {number % 2}",
            **{f"score {name}": 0.8 if name == answer else 0.1 for name in LABELS},
            **{f"true {name}": int(name == label) for name in LABELS}, "seconds": 0.25,
        }
        for number, (label, answer) in enumerate(zip(labels, answers, strict=True)) if number >= first
    ]  # fmt: skip
    place.mkdir()
    facts = metrics(changed.pop("bundle", place.name), changed.pop("evaluated", len(rows)), **changed)
    (place / "metrics.json").write_text(json.dumps(facts))
    match form:
        case "csv":
            with (place / "items.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case "jsonl":
            (place / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        case _:
            parquet = pytest.importorskip("pyarrow.parquet")
            import pyarrow

            parquet.write_table(pyarrow.Table.from_pylist(rows), place / "items.parquet")
    return place


def test_which_to_ship_and_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[pages]'")
    letters = "aabbc" * 8
    full = write_run(tmp_path / "full", letters, labels=letters, model={"peak_bytes": 9_000_000})
    same = write_run(tmp_path / "same", letters, labels=letters, model={"bytes": 900_000})
    worse = write_run(tmp_path / "worse", letters[::-1], labels=letters, model={"bytes": 300_000})
    page = tmp_path / "which.html"
    done = medge("compare", full, same, worse, "--margin", "0.3", "--out", page)
    said = "Ship full: no smaller run is known to lose at most 0.3 of its macro AUC."
    assert said in done.stdout
    assert f"page: {page}" in done.stdout
    assert said in page.read_text()
    assert "not recorded" in page.read_text()
    again = json.loads(medge("compare", full, same, "--json").stdout)
    assert [result["peak_bytes"] for result in again["results"]] == [9_000_000, None]
    assert (again["out"], again["choice"]["margin"], again["choice"]["ship"]) == (None, None, None)
    assert "which.html exists" in medge("compare", full, same, "--out", page, code=1).stderr
    medge("compare", full, same, "--out", page, "--force")
    assert "worse" not in page.read_text()
    assert "does not end in .html" in medge("compare", full, same, "--out", tmp_path / "page.pdf", code=2).stderr


def test_three_runs_in_one_table(tmp_path: Path) -> None:
    """Whatever the form of their files of items."""
    full = write_run(tmp_path / "full", "aabbc")
    half = write_run(tmp_path / "half", "abbab", form="parquet")
    part = write_run(tmp_path / "part", "aabbb", first=1, form="jsonl")
    done = medge("compare", full, half, part)
    assert f"{part}: 0 items are in it only, 1 in {full} only; its difference is over the 4 in both" in done.stderr
    names = [line.split("│")[1].strip() for line in done.stdout.splitlines() if "passed" in line]
    assert names == ["full", "half", "part"]
    assert done.stdout.count("0.400 to 0.600") == 3
    facts = json.loads(medge("compare", full, half, part, "--json").stdout)
    assert (facts["schema_version"], facts["headline"], facts["task"]["name"]) == (2, "macro_auc", "folder")
    first, second, third = facts["results"]
    assert first["against_first"] is None
    assert (first["out"], first["bytes"], first["parity"], first["evaluated"]) == (str(full), 2_500_000, "passed", 5)
    against = second["against_first"]
    assert against["items"] == {"in_both": 5, "only_in_first": 0, "only_in_this": 0}
    assert against["figures"]["accuracy"]["value"] == pytest.approx(-3 / 5)
    answers = {"count": 5, "right_to_wrong": 3, "wrong_to_right": 0, "wrong_to_other_wrong": 0, "p": 0.25}
    assert against["answers"] == pytest.approx(answers)
    assert against["labels"]["c"]["answers"]["right_to_wrong"] == 1
    assert third["against_first"]["items"] == {"in_both": 4, "only_in_first": 1, "only_in_this": 0}
    assert third["against_first"]["figures"]["accuracy"]["value"] == pytest.approx(-1 / 4)


def test_two_runs_are_told_in_full(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, answers, bundle="one name") for name, answers in (("x", "aabba"), ("y", "bbbbb"))
    ]
    told = medge("compare", *runs).stdout
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    assert ["all", "5", "2", "0", "1", "0.5"] in cells
    assert ["a", "2", "2", "0", "0", "0.5"] in cells
    assert next(row for row in cells if row[0] == "accuracy")[1:4] == ["0.800", "0.400", "-0.400"]
    assert str(tmp_path / "x") in told  # bundles of one name are told apart by their folders


def test_what_can_not_be_compared_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "aabbc")

    def refused(name: str, **changed: Any) -> str:
        return medge("compare", run, write_run(tmp_path / name, "aabbc", **changed), code=1).stderr

    assert "differ in task, labels" in refused("other", task={"name": "skin", "labels": ["a", "b"]})
    assert "differ in prompts" in refused("worded", task={"prompts": {"there": {}, "gone": {}}})
    assert "differ in --method, split" in refused("fitted", task={"method": "probe", "split": "the data's own"})
    assert "differ in --limit, --seed, --no-names" in refused("drawn", limit=5, seed=1, no_names=True)
    assert "1 of their items have other labels or groups" in refused("corrected", labels="aabbb")
    last = write_run(tmp_path / "last", "aabbc", first=4)
    others = write_run(tmp_path / "others", "aabb", labels="aabb")
    assert "no item is in both" in medge("compare", last, others, code=1).stderr
    assert "has 5 items, and" in refused("interrupted", evaluated=9)
    assert "has no figures" in refused("unreadable", figures={})
    assert "schema_version is 1" in refused("old", schema_version=1)
    assert "has not written it" in refused("strange", task={"form": "riddles"})
    assert "metrics.json is not there" in medge("compare", run, tmp_path, code=1).stderr
    assert "at least two" in medge("compare", run, code=2).stderr
    (tmp_path / "old" / "metrics.json").write_text(json.dumps(metrics("old", 5)))
    damaged = (tmp_path / "old" / "items.csv").read_text().replace("0.8", "high")
    (tmp_path / "old" / "items.csv").write_text(damaged)
    assert "are damaged" in medge("compare", run, tmp_path / "old", code=1).stderr
    for path in (tmp_path / "strange").iterdir():
        path.unlink()
    (tmp_path / "strange" / "metrics.json").write_text(json.dumps(metrics("strange", 5)))
    (tmp_path / "strange" / "items.parquet").write_bytes(b"no table")
    assert "is no Parquet" in medge("compare", run, tmp_path / "strange", code=1).stderr


def renamed(bundle: Path, place: Path) -> Path:
    """A copy of a bundle under another name."""
    shutil.copytree(bundle, place)
    manifest = replace(Manifest.read(place), name=place.name)
    (place / "manifest.json").write_text(manifest.to_json())
    return place


def test_a_bundle_against_another(bundle: Path, tmp_path: Path) -> None:
    """A copy of itself, so that what must come out is known."""
    rng = np.random.default_rng(0)
    for label in ("left", "right"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 255, (32, 32), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    (tmp_path / "data" / "left" / "broken.png").write_bytes(b"no picture")
    other = renamed(bundle, tmp_path / "other")
    asked = ("evaluate", bundle, "--task", "folder", "--data", tmp_path / "data", "--out", tmp_path / "runs" / "this")
    done = medge(*asked, "--against", other, "--items", "csv", code=3)
    assert "wrong to right" in done.stdout
    beside = tmp_path / "runs" / "folder-other-zero-shot"
    assert {path.name for path in beside.iterdir()} == {"items.csv", "metrics.json", "metrics.html"}
    kept = json.loads((tmp_path / "runs" / "this" / "comparison.json").read_text())
    assert [result["out"] for result in kept["results"]] == [str(beside), str(tmp_path / "runs" / "this")]
    against = kept["results"][1]["against_first"]
    assert all(figure["value"] == 0 for figure in against["figures"].values())
    assert (against["answers"]["count"], against["answers"]["p"]) == (4, 1)
    again = medge(*asked, "--against", other, "--json", code=3)
    assert again.stderr.count("4 done before") == 2
    printed = json.loads(again.stdout)
    assert len(printed.pop("failed")) == 1
    assert printed.pop("out") == str(tmp_path / "runs" / "this")
    page = tmp_path / "runs" / "this" / "comparison.html"
    assert printed.pop("page") == str(page)
    assert printed == kept
    assert "right to wrong" in page.read_text()
    assert "broken" not in page.read_text()  # a file's name can be a patient's
    assert all(result["peak_bytes"] > 50e6 for result in kept["results"])
    assert "have the same name" in medge(*asked[:-2], "--against", bundle, code=1).stderr


def test_a_reader_against_another(tiny_reader: Path, tmp_path: Path) -> None:
    lines = [
        {"question": f"Number {n}?", "options": {"A": "one", "B": "two"}, "answer_idx": "AB"[n % 2]} for n in range(4)
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    other = renamed(tiny_reader, tmp_path / "other")
    asked = ("evaluate", tiny_reader, "--data", tmp_path, "--task", "medqa", "--method", "likelihood", "--items", "csv")
    done = medge(
        *asked, "--context", "512", "--allow-failed-parity", "--against", other, "--out", tmp_path / "run", "--json"
    )
    facts = json.loads(done.stdout)
    assert facts["headline"] == "accuracy"
    against = facts["results"][1]["against_first"]
    assert against["figures"]["accuracy"]["value"] == 0
    assert (against["labels"], against["answers"]["count"]) == ({}, 4)
    assert "parity" in medge(*asked, "--against", other, "--out", tmp_path / "new", code=1).stderr
    assert not (tmp_path / "new").exists()
