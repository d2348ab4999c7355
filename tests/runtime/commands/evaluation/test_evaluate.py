"""`medge evaluate` as a user types it, on real slices in the layout in which the sets are downloaded."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from command_line import medge
from PIL import Image
from sklearn.metrics import roc_auc_score

from medge.runtime.encoder.load import load


@pytest.fixture(scope="module")
def skin(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HAM10000 as it is downloaded, with 40 of its images."""
    folder = tmp_path_factory.mktemp("ham")
    (folder / "HAM10000_images_part_1").mkdir()
    shutil.copy(shared / "metadata" / "ham10000" / "HAM10000_metadata.csv", folder)
    with tarfile.open(shared / "domains" / "derm_ham10000.tar") as archive:
        members = [m for m in archive.getmembers() if m.isfile() and m.name.startswith("test/")]
        for member in members[::8][:40]:
            data = archive.extractfile(member)
            assert data is not None
            (folder / "HAM10000_images_part_1" / Path(member.name).name).write_bytes(data.read())
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def test_a_set_is_evaluated(bundle: Path, skin: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = ("evaluate", bundle, "--task", "ham10000", "--data", skin, "--out", out, "--items", "csv")
    few = json.loads(medge(*asked, "--limit", "9", "--json").stdout)
    assert few["totals"] == {"images": 9, "done": 9, "done_before": 0, "failed": 0}
    done = medge(*asked)
    count = len(list((skin / "HAM10000_images_part_1").iterdir()))
    assert "9 done before" in done.stderr  # a higher limit goes on
    assert f"{10015 - count} images that the data name are not in the folder" in done.stderr
    assert "melanoma" in done.stdout
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["schema_version"] == 2
    assert facts["items"]["evaluated"] == count
    assert facts["items"]["groups"]["of"] == "lesion"
    rows = rows_of(out / "items.csv")
    assert len(rows) == count
    # One row and one figure, computed again.
    image = skin / rows[0]["id"]
    prompts = facts["task"]["prompts"]["there"]
    [again] = load(bundle).classify(image, prompts)
    assert rows[0]["answer"] == again.best
    for label, score in zip(again.labels, again.softmax, strict=True):
        assert float(rows[0][f"score {label}"]) == pytest.approx(float(score), abs=1e-6)
    truth = [row["label"] == "melanoma" for row in rows]
    auc = roc_auc_score(truth, [float(row["score melanoma"]) for row in rows])
    figure = facts["labels"]["melanoma"]["auc"]
    assert figure["value"] == pytest.approx(auc)
    assert figure["low"] <= auc <= figure["high"]


def test_names_are_hidden_everywhere(bundle: Path, skin: Path, tmp_path: Path) -> None:
    data = tmp_path / "SECRET-data"
    (data / "HAM10000_images_part_1").mkdir(parents=True)
    shutil.copy(skin / "HAM10000_metadata.csv", data)
    images = sorted((skin / "HAM10000_images_part_1").iterdir())
    for path in images[:3]:
        shutil.copy(path, data / "HAM10000_images_part_1")
    broken = data / "HAM10000_images_part_1" / images[3].name
    broken.write_bytes(b"no picture")
    asked = ("evaluate", bundle, "--task", "ham10000", "--data", data, "--out", tmp_path / "run", "--no-names")
    done = medge(*asked, "--items", "jsonl", "--json", code=3)
    assert "1 of 4 images could not be read" in done.stderr
    said = done.stdout + done.stderr + "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "ISIC_" not in said
    assert "HAM_" not in said
    assert "SECRET" not in said
    facts = json.loads(done.stdout)
    assert (facts["items"]["evaluated"], facts["items"]["unreadable"]) == (3, 1)
    assert [len(failed["image"]) for failed in facts["failed"]] == [16]


def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `medge[pages]` is not installed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("medge.runtime.pages.")]:
        monkeypatch.delitem(sys.modules, name)


def test_folders_of_ones_own_and_other_prompts(
    bundle: Path, skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted((skin / "HAM10000_images_part_1").iterdir())
    for label, part in (("left", images[:3]), ("right", images[3:6])):
        for path in part:
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "data" / label)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"left": ["skin on the left"], "right": ["skin on the right"]}))
    asked = ("evaluate", bundle, "--task", "folder", "--data", tmp_path / "data", "--out", tmp_path / "run")
    medge(*asked, "--labels", labels)
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert facts["task"]["prompts"]["there"] == {"left": ["skin on the left"], "right": ["skin on the right"]}
    assert facts["task"]["prompts_from"].endswith("labels.json, a file of the user's own")
    assert facts["items"]["groups"] is None
    assert (tmp_path / "run" / "items.parquet").exists()
    page = tmp_path / "run" / "metrics.html"
    assert "skin on the left" in page.read_text()
    peak = facts["model"]["peak_bytes"]
    assert peak > 50e6
    without_pages(monkeypatch)
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    again = medge(*asked, "--labels", labels, "--json")
    assert "no page was written: this needs the package 'matplotlib': pip install 'medge[pages]'" in again.stderr
    found = json.loads(again.stdout)
    assert found["page"] is None
    assert not page.exists()  # it would tell the figures of an earlier run
    assert "MPLCONFIGDIR" not in os.environ
    assert found["model"]["peak_bytes"] == peak  # of the process that had the model; this one scored nothing
    assert "holds other results" in medge(*asked, code=1).stderr  # the task's own prompts are another question
    prompts = {"left": ["skin on the left"], "right": ["skin on the right"], "middle": ["skin in the middle"]}
    labels.write_text(json.dumps(prompts))
    told = medge(*asked, "--labels", labels).stderr
    assert "labels.json: the data have no label middle; images are scored among the others alone" in told
    labels.write_text(json.dumps({"left": ["skin on the left"]}))
    assert "no prompts for right" in medge(*asked, "--labels", labels, code=1).stderr
    assert "there is no task 'none'" in medge("evaluate", bundle, "--task", "none", "--data", skin, code=1).stderr


def test_tasks_are_listed() -> None:
    told = medge("evaluate", "--list").stdout
    assert "nih-cxr14 " in told
    assert "pcam" in told


def test_a_probe_on_shares_of_the_labels(bundle: Path, shared: Path, tmp_path: Path) -> None:
    """Folders with sides of their own: hands and heads, which an embedding tells apart."""
    with tarfile.open(shared / "mednist" / "test.tar") as archive:
        members = [m for m in archive.getmembers() if m.isfile() and Path(m.name).parent.name in ("Hand", "HeadCT")]
        by_class = {name: [m for m in members if Path(m.name).parent.name == name][:30] for name in ("Hand", "HeadCT")}
        for name, chosen in by_class.items():
            for number, member in enumerate(chosen):
                side = "train" if number < 20 else "test"
                (tmp_path / "data" / side / name).mkdir(parents=True, exist_ok=True)
                data = archive.extractfile(member)
                assert data is not None
                (tmp_path / "data" / side / name / Path(member.name).name).write_bytes(data.read())
    asked = ("evaluate", bundle, "--task", "folder", "--data", tmp_path / "data", "--method", "probe")
    done = medge(*asked, "--out", tmp_path / "run", "--items", "csv")
    assert "no probe on 1% of the labels (1 images)" in done.stderr
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert facts["task"]["split"] == "the data's own"
    assert [share["trained_on"] for share in facts["shares"].values()] == [1, 2, 4, 40]
    assert facts["shares"]["1.0"]["figures"] == facts["figures"]
    assert facts["figures"]["accuracy"]["value"] > 0.9
    rows = rows_of(tmp_path / "run" / "items.csv")
    assert {row["id"].split("/")[0] for row in rows} == {"test"}
    assert len(rows) == 20
    again = medge(*asked, "--out", tmp_path / "run", "--items", "csv")
    assert "60 done before" in again.stderr
    assert rows_of(tmp_path / "run" / "items.csv") == rows


def test_questions_are_put_to_a_language_model(tiny_reader: Path, tmp_path: Path) -> None:
    """The tiny reader babbles: what is tested is that everything is put, written, read again and counted."""
    words = ("evaluate", tiny_reader, "--data", tmp_path, "--allow-failed-parity", "--items", "csv", "--context", "512")
    lines = [
        {
            "question": f"Which of these is number {number}?",
            "options": {"A": "one", "B": "two"},
            "answer_idx": "AB"[number % 2],
        }
        for number in range(4)
    ]
    lines.append({"question": "word " * 600, "options": {"A": "one", "B": "two"}, "answer_idx": "A"})
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "likelihood"
    asked = (*words, "--task", "medqa", "--method", "likelihood", "--out", out)
    medge(*asked, "--limit", "2")
    done = medge(*asked, "--json")
    assert "5 questions, 2 done before" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["items"] == {"evaluated": 5, "in_the_data": 5, "left_out": {}, "cut_off": 0, "too_long": 1}
    rows = rows_of(out / "items.csv")
    right = sum(row["answer"] == row["label"] for row in rows)
    assert facts["figures"]["accuracy"]["value"] == pytest.approx(right / 5)
    assert facts["figures"]["answered"]["value"] == pytest.approx(0.8)
    for row in rows:
        if row["stop"] != "too long":
            assert row["answer"] == max("AB", key=lambda letter: float(row[f"score {letter}"]))
    own = tmp_path / "short.toml"
    tasks = Path(__file__).parents[4] / "runtime" / "evaluation" / "tasks"
    own.write_text((tasks / "medqa.toml").read_text().replace('title = "', 'limit = 4\ntitle = "'))
    medge(*words, "--task", own, "--out", tmp_path / "steps", "--limit", "2")
    facts = json.loads((tmp_path / "steps" / "metrics.json").read_text())
    assert facts["task"]["method"] == "step-by-step"
    rows = rows_of(tmp_path / "steps" / "items.csv")
    assert len(rows) == 2
    assert facts["items"]["cut_off"] == sum(row["stop"] == "limit" for row in rows) >= 1
    assert all(int(float(row["tokens"])) <= 4 for row in rows)
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "film.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    seen = [
        {"img_name": name, "question": "Which?", "answer": "yes", "q_lang": "en"} for name in ("film.png", "broken.png")
    ]
    (tmp_path / "test.json").write_text(json.dumps(seen))
    brief = tmp_path / "brief.toml"
    brief.write_text((tasks / "slake.toml").read_text().replace("limit = 64", "limit = 4"))
    shown = medge(*words, "--task", brief, "--out", tmp_path / "seen", "--no-names", code=3)
    assert "1 of 2 images could not be read" in shown.stderr
    assert "broken" not in shown.stderr
    [row] = rows_of(tmp_path / "seen" / "items.csv")
    assert (row["label"], row["right"]) == ("yes", "0")
    assert float(row["f1"]) == 0
    assert "no method of this task" in medge(*asked[:-3], "probe", code=2).stderr
