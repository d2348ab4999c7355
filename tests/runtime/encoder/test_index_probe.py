"""The vector index and the linear probe."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import medge as medge_cli
from PIL import Image
from tolerances import FP32_SUMS, PROBE_PROBABILITY

import medge
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.linear_probe import Probe, evaluate_probe, fit_probe
from medge.runtime.encoder.vector_index import VectorIndex, build_index
from medge.runtime.errors import IndexFileError, ProbeError, StorageError
from medge.runtime.pictures.images import find_images
from medge.runtime.pictures.view import View


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return medge.load(bundle)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(70):
        blob = np.kron(rng.integers(0, 256, (7, 7, 3)), np.ones((6, 6, 1))).astype(np.uint8)
        Image.fromarray(blob).save(folder / f"{number:02d}.png")
    return folder


def test_search_both_ways_equals_brute_force(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    done, resumed = build_index(path, encoder, find_images([pictures]))
    assert (done.added, done.failed, resumed) == (70, (), 0)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.index"]  # one file, nothing beside it
    files = sorted(pictures.iterdir())
    vectors = encoder.embed_images(files)
    with VectorIndex.open(path, encoder.fingerprint) as index:
        for query in (vectors[3], encoder.embed_texts("chest x-ray")[0]):
            expected = np.argsort(-(vectors @ query))[:5]
            hits = index.search(query, 5)
            assert [hit.path for hit in hits] == [str(files[i]) for i in expected]
            np.testing.assert_allclose([hit.cosine for hit in hits], (vectors @ query)[expected], atol=FP32_SUMS)
        assert len(index.search(vectors[0], 500)) == 70


def test_an_interrupted_build_resumes(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    """The process is killed in the middle; the next run keeps what was committed and ends with the same index."""
    path = tmp_path / "a.index"
    code = (
        "import os, sys; from pathlib import Path; import medge; from medge.runtime.encoder.vector_index import build_index\n"
        "from medge.runtime.pictures.images import find_images\n"
        "def kill(what, done, total):\n    if done == 45: os.kill(os.getpid(), 9)\n"
        "build_index(Path(sys.argv[2]), medge.load(sys.argv[1]), find_images([Path(sys.argv[3])]), progress=kill)"
    )
    command = [sys.executable, "-c", code, str(encoder.bundle.folder), str(path), str(pictures)]
    assert subprocess.run(command, check=False).returncode == -9
    assert not path.exists()
    shutil.copy(tmp_path / ".a.index.building", tmp_path / ".b.index.building")
    lung = View(window=(-600, 1500))  # an index half of which was looked at otherwise would find the wrong images
    assert build_index(tmp_path / "b.index", encoder, find_images([pictures]), view=lung)[1] == 0
    done, resumed = build_index(path, encoder, find_images([pictures]))
    assert resumed == 32  # the last commit before the kill
    assert done.added == 38
    with VectorIndex.open(path, encoder.fingerprint) as index:
        assert len(index) == 70


def test_add_and_a_bad_image(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    files = sorted(pictures.iterdir())
    build_index(path, encoder, files[:10])
    (pictures / "bad.png").write_bytes(b"junk")
    with VectorIndex.open(path, encoder.fingerprint) as index:
        done = index.add(encoder, find_images([pictures]))
    assert (done.added, done.present) == (60, 10)
    assert "bad.png" in done.failed[0].error


def test_search_after_an_interrupted_add(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    files = sorted(pictures.iterdir())
    build_index(path, encoder, files[:10])
    new = encoder.embed_images(files[10])[0]
    with sqlite3.connect(path) as connection:  # what `add` leaves when it is killed after a commit
        connection.execute("INSERT INTO items (path, vector) VALUES (?, ?)", (str(files[10]), new.tobytes()))
    connection.close()
    with VectorIndex.open(path, encoder.fingerprint) as index:
        assert index.search(new, 1)[0].path == str(files[10])


def test_indexes_that_can_not_be_used(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    build_index(path, encoder, sorted(pictures.iterdir())[:3])
    with pytest.raises(StorageError, match="add to it with 'medge index add'"):
        build_index(path, encoder, [])
    with pytest.raises(IndexFileError, match="made with another bundle"), VectorIndex.open(path, "other"):
        pass
    with pytest.raises(IndexFileError, match="does not exist"), VectorIndex.open(tmp_path / "none", "x"):
        pass
    path.write_bytes(b"junk" * 100)
    with pytest.raises(IndexFileError, match="no index, or damaged"), VectorIndex.open(path, encoder.fingerprint):
        pass
    with pytest.raises(IndexFileError, match="no image could be read"):
        build_index(tmp_path / "b.index", encoder, [tmp_path / "absent.png"])


def clusters(classes: int, count: int = 40, *, held_back: bool = False) -> tuple[np.ndarray, list[str]]:
    """Rows around a centre for each class; held back are others around the same centres."""
    centres = np.random.default_rng(0).normal(size=(classes, 16)) * 2
    rng = np.random.default_rng(2 if held_back else 1)
    rows = np.concatenate([centre + rng.normal(size=(count, 16)) for centre in centres])
    return rows.astype(np.float32), [f"class {i}" for i in range(classes) for _ in range(count)]


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_in_numpy_is_scikit_learns(classes: int, tmp_path: Path) -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    from sklearn.preprocessing import StandardScaler

    rows, labels = clusters(classes)
    probe = fit_probe(rows, labels, "print")
    probe.save(tmp_path / "p")
    probe = Probe.load(tmp_path / "p", "print")
    scaled = StandardScaler().fit_transform(rows)
    model = linear.LogisticRegression(C=probe.facts["strength"], max_iter=2000, class_weight="balanced").fit(
        scaled, labels
    )
    np.testing.assert_allclose(probe.predict(rows), model.predict_proba(scaled), atol=PROBE_PROBABILITY)
    figures = evaluate_probe(probe, *clusters(classes, held_back=True))
    assert figures["accuracy"]["value"] > 0.95  # centres lie eight deviations apart or more
    assert figures["accuracy"]["low"] <= figures["accuracy"]["value"] <= figures["accuracy"]["high"]


def test_probes_that_can_not_be_used(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rows, labels = clusters(2)
    with pytest.raises(ProbeError, match="at least two labels"):
        fit_probe(rows[:5], labels[:5], "print")
    with pytest.raises(ProbeError, match="class 1: one image is not enough"):
        fit_probe(np.concatenate([rows[:5], rows[-1:]]), [*labels[:5], labels[-1]], "print")
    probe = fit_probe(rows, labels, "print")
    probe.save(tmp_path / "p")
    with pytest.raises(StorageError, match="--force"):
        probe.save(tmp_path / "p")
    with pytest.raises(ProbeError, match="another bundle"):
        Probe.load(tmp_path / "p", "other")
    with pytest.raises(ProbeError, match="the folder has also class 9"):
        evaluate_probe(probe, rows[:1], ["class 9"])
    body = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ProbeError, match="was changed"):
        Probe.load(tmp_path / "p", "print")
    (tmp_path / "p").write_bytes(b"junk")
    with pytest.raises(ProbeError, match="is no probe"):
        Probe.load(tmp_path / "p", "print")


def test_a_probe_learns_what_the_bundle_sees(make_bundle: Callable[[str], Path], shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from medge.export.standin.public_data import write_folder
    from medge.runtime.pictures.images import labelled_folder

    encoder = medge.load(make_bundle("int8"))
    data = {}
    for split, limit in (("train", 60), ("test", 100)):
        paths, labels = labelled_folder(write_folder(shared, "pneumoniamnist", split, tmp_path / split, limit))
        data[split] = encoder.embed_images(paths), labels
    probe = fit_probe(*data["train"], encoder.fingerprint)
    low = evaluate_probe(probe, *data["test"])["auc"]["low"]
    assert low > 0.8  # a probe on all training films reaches an AUC of 0.9 (MODEL_CARD.md)


def test_the_same_file_is_there_once_and_can_be_taken_out(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.index"
    monkeypatch.chdir(tmp_path)
    medge_cli("index", "build", bundle, path, "pictures", pictures)  # relative and absolute
    (tmp_path / "link").symlink_to(pictures)
    medge_cli("index", "add", bundle, path, "link/00.png")
    facts = json.loads(medge_cli("index", "info", path, "--json").stdout)
    assert (facts["images"], facts["paths"]) == (70, "absolute")
    assert "absolute" in medge_cli("index", "info", path).stdout
    (pictures / "07.png").unlink()
    left = json.loads(medge_cli("index", "remove", path, "pictures/07.png", "--json").stdout)
    assert (left["removed"], left["images"]) == (1, 69)
    hits = json.loads(medge_cli("index", "search", bundle, path, "--text", "x", "--count", 99, "--json").stdout)[
        "results"
    ]
    assert {hit["image"] for hit in hits} == {str(found) for found in pictures.iterdir()}
    assert "holds no" in medge_cli("index", "remove", path, "pictures/07.png", code=1).stderr
    medge_cli("index", "remove", path, pictures)
    assert json.loads(medge_cli("index", "info", path, "--json").stdout)["images"] == 0
    assert "holds no images" in medge_cli("index", "search", bundle, path, "--text", "x", code=1).stderr


def test_paths_below_a_folder_move_with_it(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    path = pictures / "a.index"
    medge_cli("index", "build", bundle, path, pictures, "--relative-to", pictures)
    assert "say to which folder" in medge_cli("index", "add", bundle, path, pictures, code=1).stderr
    moved = pictures.rename(tmp_path / "moved")
    done = medge_cli("index", "add", bundle, moved / "a.index", moved, "--relative-to", moved, "--json")
    assert json.loads(done.stdout)["totals"]["done_before"] == 70
    hits = medge_cli("index", "search", bundle, moved / "a.index", "--image", moved / "03.png", "--json")
    assert json.loads(hits.stdout)["results"][0]["image"] == "03.png"
    (moved / "again").mkdir()
    (moved / "again" / "link.png").symlink_to(moved / "03.png")  # another path of a file that is there
    shutil.copy(moved / "04.png", tmp_path / "stored.png")
    (moved / "linked.png").symlink_to(tmp_path / "stored.png")  # as archives link what they keep elsewhere
    done = medge_cli("index", "add", bundle, moved / "a.index", moved, "--relative-to", moved, "--json")
    assert json.loads(done.stdout)["totals"] == {"images": 71, "done": 1, "done_before": 70, "failed": 0}
    hits = medge_cli("index", "search", bundle, moved / "a.index", "--text", "x", "--count", 99, "--json")
    names = {hit["image"] for hit in json.loads(hits.stdout)["results"]}
    assert names == {path.name for path in moved.glob("*.png")}
    outside = medge_cli("index", "add", bundle, moved / "a.index", tmp_path / "x.png", "--relative-to", moved, code=1)
    assert "x.png is not below" in outside.stderr


def test_a_full_disk_is_no_damaged_index(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own error, by a limit on the pages of the file."""
    path = tmp_path / "a.index"
    store = VectorIndex._store

    def limited(self: VectorIndex, fresh: list[tuple[str, bytes]]) -> None:
        self._db.execute("PRAGMA max_page_count = 6")
        store(self, fresh)

    monkeypatch.setattr(VectorIndex, "_store", limited)
    with pytest.raises(StorageError, match="no space left.* the same command goes on"):
        build_index(path, encoder, find_images([pictures]))
    monkeypatch.undo()
    done, _ = build_index(path, encoder, find_images([pictures]))
    assert done.added + done.present == 70
