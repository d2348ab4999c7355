"""The commands as a user types them: output, JSON, exit codes, messages."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line
import numpy as np
import pytest
from command_line import hears_ctrl_c, medge
from PIL import Image
from safetensors.numpy import load_file
from tolerances import FP32_SUMS

import medge as medge_api
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.commands.inspect import said
from medge.runtime.encoder.linear_probe import Probe
from medge.runtime.pictures.images import read_image


def test_classify(bundle: Path, few_images: Path) -> None:
    ct = few_images / "CT_small.dcm"
    facts = json.loads(medge("classify", bundle, ct, "--json").stdout)
    assert facts["results"][0]["image"] == str(ct)
    assert {item["label"] for item in facts["results"][0]["labels"]} <= {"abdomen CT", "chest x-ray", "head MRI"}
    table = medge("classify", bundle, ct, "--label", "chest x-ray", "--label", "[bold]odd[/] label").stdout
    assert "[bold]odd[/] label" in table


def test_classify_with_one_label(bundle: Path, few_images: Path) -> None:
    done = medge("classify", bundle, few_images / "CT_small.dcm", "--label", "pneumonia")
    assert "sigmoid" in done.stdout
    assert "softmax" not in done.stdout
    told = json.loads(medge("classify", bundle, few_images / "CT_small.dcm", "--label", "pneumonia", "--json").stdout)
    assert told["results"][0]["labels"][0]["softmax"] is None


def test_classify_interrupted_goes_on(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(160):
        (films / f"{number:03}.dcm").write_bytes((few_images / "CT_small.dcm").read_bytes())
    whole = medge("classify", bundle, films, "--out", tmp_path / "whole.csv")
    assert "160 images: 160 " in whole.stderr
    command = [sys.executable, "-m", "medge", "classify", str(bundle), str(films), "--out", str(tmp_path / "r.csv")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    while not (tmp_path / "r.csv").exists() or (tmp_path / "r.csv").read_text().count("\n") < 10:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "of 160 images; the same command goes on in" in told
    done = (tmp_path / "r.csv").read_text().count("\n") - 1
    assert 0 < done < 160
    again = medge(*command[3:])
    assert re.search(rf"160 images: 160 [^,;]+; {done} done before", again.stderr), "the totals are of the whole file"
    assert (tmp_path / "r.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_results_of_another_question_are_not_gone_on_with(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """The same bundle's name and the same labels' names, but other prompts, another window or another manifest."""
    ct, labels = few_images / "CT_small.dcm", tmp_path / "labels.json"
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    for name in ("r.csv", "r.jsonl"):
        labels.write_text('{"ct": ["CT of the abdomen"], "film": ["chest x-ray"]}')
        asked = ("classify", copy, ct, "--labels", labels, "--out", tmp_path / name)
        medge(*asked)
        assert "1 done before" in medge(*asked, few_images / "MR_small.dcm").stderr
        assert "holds other results" in medge(*asked, "--window", "lung", code=1).stderr
        labels.write_text('{"ct": ["CT of the head"], "film": ["chest x-ray"]}')
        assert "holds other results" in medge(*asked, code=1).stderr
        labels.write_text('{"ct": ["CT of the abdomen"], "film": ["chest x-ray"]}')
        other = dataclasses.replace(Manifest.read(copy), medge_version=name)
        (copy / "manifest.json").write_text(other.to_json())
        assert "holds other results" in medge(*asked, code=1).stderr


def test_another_folders_image_of_the_same_name_is_another_image(
    bundle: Path, few_images: Path, tmp_path: Path
) -> None:
    for patient in ("a", "b"):
        (tmp_path / patient).mkdir()
        shutil.copy(few_images / "CT_small.dcm", tmp_path / patient / "IM0001.dcm")
        medge("classify", bundle, "IM0001.dcm", "--label", "x", "--out", tmp_path / "r.jsonl", cwd=tmp_path / patient)
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == [str(tmp_path / patient / "IM0001.dcm") for patient in ("a", "b")]


def test_one_bad_image_among_good_ones(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.dcm").write_bytes((few_images / "CT_small.dcm").read_bytes())
    (folder / "2.dcm").write_bytes(b"junk")
    done = medge("classify", bundle, folder, "--json", code=3)
    facts = json.loads(done.stdout)
    assert len(facts["results"]) == 3
    assert facts["failed"][0]["image"].endswith("2.dcm")
    assert "1 of 4 images could not be read" in done.stderr
    assert "not a DICOM file" in done.stderr


def test_messages_of_classify(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    ct = few_images / "CT_small.dcm"
    assert "is not a folder" in medge("classify", tmp_path / "none", ct, code=1).stderr
    assert "absent.png: No such file" in medge("classify", bundle, tmp_path / "absent.png", code=1).stderr
    (tmp_path / "empty.txt").touch()
    assert "the label list is empty" in medge("classify", bundle, ct, "--labels", tmp_path / "empty.txt", code=1).stderr
    cut = medge("classify", bundle, ct, "--label", "word " * 90, "--label", "b").stderr
    assert "is too long for the text tower" in cut
    (tmp_path / "nothing").mkdir()
    assert "no image found" in medge("classify", bundle, tmp_path / "nothing", code=1).stderr


def test_files_of_a_folder_that_are_passed_over_are_named(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "0.dcm").write_bytes((few_images / "CT_small.dcm").read_bytes())
    for name in ("notes.txt", "loop.gif", "packed.dcm.gz"):
        (folder / name).write_bytes(b"x")
    said = f"2 files, the first {folder / 'loop.gif'}: left out, since of a folder's files PNG"
    index = tmp_path / "i.index"
    for words in (("classify", bundle, folder), ("index", "build", bundle, index, folder)):
        assert said in medge(*words).stderr
    assert "names an image" in medge("index", "search", bundle, index, "--text", "film.dcm", code=1).stderr


def test_embed_index_probe_inspect_verify(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    medge("embed", bundle, few_images, "--out", tmp_path / "e.safetensors")
    embeddings = load_file(tmp_path / "e.safetensors")["embeddings"]
    assert embeddings.shape[0] == len(list(few_images.iterdir()))
    other = medge("embed", bundle, few_images, "--out", tmp_path / "e.safetensors", "--window", "lung", code=1)
    assert "--force" in other.stderr
    for ending in ("parquet", "jsonl"):
        medge("embed", bundle, few_images, "--out", tmp_path / f"e.{ending}")
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array([line["embedding"] for line in lines], np.float32), embeddings)
    texts = tmp_path / "t.safetensors"
    medge("embed", bundle, "--text", "chest x-ray", "--out", texts)
    assert "2 embeddings" in medge("embed", bundle, "--text", "chest x-ray", "--text", "head CT", "--out", texts).stdout
    assert "holds other results" in medge("embed", bundle, few_images, "--out", texts, code=1).stderr
    said = medge("embed", bundle, "--text", "film.dcm", "--out", tmp_path / "no.jsonl", code=1).stderr
    assert "'film.dcm' names an image" in said
    assert not (tmp_path / "no.jsonl").exists()

    medge("index", "build", bundle, tmp_path / "i.index", few_images)
    hits = json.loads(
        medge("index", "search", bundle, tmp_path / "i.index", "--image", few_images / "CT_small.dcm", "--json").stdout
    )["results"]
    assert hits[0]["image"].endswith("CT_small.dcm")
    assert hits[0]["cosine"] == pytest.approx(1, abs=FP32_SUMS)
    assert "CT_small" in medge("index", "search", bundle, tmp_path / "i.index", "--text", "abdomen CT").stdout
    added = json.loads(medge("index", "add", bundle, tmp_path / "i.index", few_images, "--json").stdout)
    count = len(list(few_images.iterdir()))
    assert added["totals"] == {"images": count, "done": 0, "done_before": count, "failed": 0}

    facts = json.loads(medge("inspect", bundle, "--json").stdout)
    assert facts["artefacts"]["onnx"]["parity"]["status"] == "passed"
    assert "Health AI Developer Foundations" in medge("inspect", bundle).stdout
    checks = json.loads(medge("verify", bundle, "--json").stdout)
    assert checks["holds"]
    assert len(checks["results"]) == 5


def write_quarters(images: Path, folder: Path, side: str) -> Path:
    """The upper and lower quarters on one side of two CT and two ultrasound pictures, in a sub-folder for each label."""
    for label, names in {"ct": ("CT_small", "693_J2KI"), "us": ("examples_ybr_color", "examples_rgb_color")}.items():
        (folder / label).mkdir(parents=True)
        for name in names:
            halves = np.array_split(read_image(images / f"{name}.dcm"), 2, axis=1)
            for place, part in zip(("upper", "lower"), np.array_split(halves[side == "right"], 2), strict=True):
                Image.fromarray(part).save(folder / label / f"{name}-{place}.png")
    return folder


def test_probe(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """Fitted on the left of pictures, judged on the right."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    training, held_back = (write_quarters(few_images, tmp_path / side, side) for side in ("left", "right"))
    probe = tmp_path / "p.safetensors"
    medge("probe", "fit", bundle, training, "--out", probe)
    whole = few_images / "CT_small.dcm"
    predicted = json.loads(medge("probe", "predict", bundle, probe, whole, "--json").stdout)
    assert predicted["results"][0]["probabilities"]["ct"] > 0.5
    figures = json.loads(medge("probe", "evaluate", bundle, probe, held_back, "--json").stdout)
    assert figures["images"] == 8
    assert figures["accuracy"]["value"] >= 0.75  # chance is a half; seven of eight, of a tiny model on quarters
    assert figures["auc"]["value"] > 0.9


def test_probe_predict_writes_rows_and_goes_on(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    encoder = medge_api.load(bundle)
    size = encoder.manifest.encoder.embedding_size
    weight = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    probe = tmp_path / "p.safetensors"
    Probe(("a", "image"), weight, np.zeros(2, np.float32), encoder.fingerprint, {}).save(probe)
    names = ("CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")
    films = [few_images / name for name in names]
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"junk")
    for name in ("r.csv", "r.jsonl", "r.parquet"):
        asked = ("probe", "predict", bundle, probe, "--out", tmp_path / name)
        medge(*asked, films[0])
        done = medge(*asked, *films, bad, code=3)
        totals = re.search(r"4 images: (.*); 1 done before", done.stderr)
        assert totals, done.stderr
        assert sum(int(part.split()[0]) for part in totals[1].split(", ")) == 3, "those done before count as well"
        assert "1 of 4 images could not be read" in done.stderr
        if name.endswith(".parquet"):
            assert parquet.read_table(tmp_path / name)["image"].to_pylist() == list(map(str, films))
        else:
            lines = (tmp_path / name).read_text().splitlines()
            assert [str(film) in line for film, line in zip(films, lines[-3:], strict=True)] == [True] * 3
        assert "holds other results" in medge(*asked, films[0], "--window", "lung", code=1).stderr


def test_json_is_an_object_with_a_version_and_results(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    ct, index = few_images / "CT_small.dcm", tmp_path / "i.index"
    for words, several in (
        (("classify", bundle, ct), True),
        (("embed", bundle, ct, "--out", tmp_path / "e.safetensors"), True),
        (("index", "build", bundle, index, ct), False),
        (("index", "search", bundle, index, "--image", ct), True),
        (("index", "info", index), False),
        (("inspect", bundle), False),
        (("verify", bundle), True),
        (("doctor",), True),
        (("bench", bundle, "--rounds", 1), True),
    ):
        facts = json.loads(medge(*words, "--json").stdout)
        assert next(iter(facts)) == "schema_version"
        assert facts["schema_version"] == 2
        assert isinstance(facts.get("results"), list) == several, words


def test_json_over_many_images_has_one_shape(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """Rows, files that can't be read and totals; on the second run, what the first has done."""
    encoder = medge_api.load(bundle)
    size = encoder.manifest.encoder.embedding_size
    probe = tmp_path / "p.safetensors"
    weight = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    Probe(("ct", "us"), weight, np.zeros(2, np.float32), encoder.fingerprint, {}).save(probe)
    ct, mr, bad = few_images / "CT_small.dcm", few_images / "MR_small.dcm", tmp_path / "bad.dcm"
    bad.write_bytes(b"junk")
    for words, out in (
        (("classify", bundle), "r.jsonl"),
        (("probe", "predict", bundle, probe), "p.csv"),
        (("embed", bundle), "e.safetensors"),
        (("index", "build", bundle), "a.index"),
    ):
        place = tmp_path / out
        where = (place,) if "index" in words else ("--out", place)
        medge(*words, *where, ct)
        again = ("index", "add", bundle) if "index" in words else words
        told = json.loads(medge(*again, *where, ct, ct, bad, mr, "--json", code=3).stdout)
        assert told["bundle"] == encoder.manifest.name
        assert told["failed"] == [{"image": str(bad), "error": f"{bad}: not a DICOM file"}], words
        assert told["totals"] == {"images": 3, "done": 1, "done_before": 1, "failed": 1}, words
        assert [row["image"] for row in told.get("results", [])] == ([] if "index" in words else [str(mr)])


def test_where_no_image_can_be_read_the_exit_code_is_1(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"junk")
    medge("index", "build", bundle, tmp_path / "a.index", few_images / "CT_small.dcm")
    for words in (
        ("classify", bundle),
        ("embed", bundle, "--out", tmp_path / "e.safetensors"),
        ("index", "build", bundle, tmp_path / "b.index"),
        ("index", "add", bundle, tmp_path / "a.index"),
    ):
        assert "no image could be read" in medge(*words, tmp_path / "bad.dcm", code=1).stderr, words
    assert not list(tmp_path.glob("*.safetensors"))


def test_inspect_shows_whole_names_and_no_python(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said({"q4_K": 12, "kept": ["a", "b"], "x": None, "y": True, "z": 0.125}) == (
        "q4_K 12, kept a, b, x none, y yes, z 0.125"
    )
    monkeypatch.setitem(command_line.ENVIRONMENT, "COLUMNS", "60")
    page = medge("inspect", bundle).stdout
    assert "…" not in page
    assert not set(page) & set("{}[]")


def test_doctor_takes_encoders_and_several_bundles(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    facts = json.loads(medge("doctor", bundle, other, "--json").stdout)["results"]
    assert len(facts) == 2
    assert facts[0]["fits"]
    weights = sum((bundle / f"onnx/{tower}_model_quantized.onnx").stat().st_size for tower in ("vision", "text"))
    assert facts[0]["need"]["weights"] == weights
    assert "fits" in medge("doctor", bundle).stdout
