"""Tasks are files, and their layouts are read as the sets are downloaded."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medge.runtime.errors import TaskError
from medge.runtime.evaluation.items import Found, age_band, drawn, without_names
from medge.runtime.evaluation.task import Named, parse_task, read_task, task_names

OWN = """
title = "two kinds"
form = "one label"
source = "mine"
prompts_from = "mine"
protocol = "all"
labels = {bright = {texts = ["a bright picture"], value = "B"}, dark = {texts = ["a dark one"]}}
[layout]
kind = "table"
file = ["labels.csv"]
image = "{name}"
label = "kind"
"""


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(path)


def found_in(folder: Path, task: str) -> Found:
    named = read_task(task)
    assert isinstance(named, Named)
    return named.layout.read(folder, named.name, named.task.values)


def test_every_task_says_where_its_prompts_come_from() -> None:
    names = task_names()
    assert {"nih-cxr14", "chexpert", "mimic-cxr", "ham10000", "pcam", "folder"} <= set(names)
    for name in names:
        named = read_task(name)
        assert re.search(r"medge's own|CheXzero|PLIP|Med-PaLM 2", named.task.prompts_from), name
        if not isinstance(named, Named):
            continue
        task = named.task
        assert all(task.prompts(label) for label in task.labels)
        assert bool(task.without) == (task.form == "findings")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[layout]", "[layot]", "layout.kind"),
        ('kind = "table"', 'kind = "sheet"', "table, class folders, hdf5"),
        ('title = "two kinds"', "", "title"),
        ('"one label"', '"two labels"', "form"),
        ('value = "B"', 'valeu = "B"', "valeu"),
        ('"a dark one"', '" "', "none may be blank"),
        ('value = "B"', 'value = "dark"', "same value"),
        ('protocol = "all"', 'protocol = "all"\ntemplates = ["an image"]', "needs {} once"),
        ('protocol = "all"', 'protocol = "all"\ntemplates = ["{0.__class__} {}"]', "no other brace"),
        ('"one label"', '"findings"', "without"),
        ('label = "kind"', 'label = "kind"\ngroup_pattern = "("', "is no pattern"),
        ("title", "= title", "Invalid"),
    ],
)
def test_a_file_that_is_no_task_is_refused(old: str, new: str, reason: str) -> None:
    assert OWN.count(old)
    with pytest.raises(TaskError, match=f"(?s)own.toml is no task.*{re.escape(reason)}"):
        parse_task("own", OWN.replace(old, new, 1), "own.toml")


def test_a_task_of_ones_own_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "labels.csv").write_text("name,kind\na.png,B\nb.png,dark\nc.png,grey\nd.png,dark\n")
    for name in ("a", "b", "c"):
        picture(tmp_path / "deep" / f"{name}.jpg")  # another ending, another folder
    found = found_in(tmp_path, str(tmp_path / "own.toml"))
    assert [(item.key, item.truth) for item in found.items] == [
        ("deep/a.jpg", {"bright": True, "dark": False}), ("deep/b.jpg", {"bright": False, "dark": True}),
    ]  # fmt: skip
    assert (found.absent, dict(found.unlisted), found.has_split) == (1, {"grey": 1}, False)
    (tmp_path / "labels.csv").write_text("image,kind\na.png,B\n")
    with pytest.raises(TaskError, match=r"labels.csv: there is no column 'name', which the task 'own' needs"):
        found_in(tmp_path, str(tmp_path / "own.toml"))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(TaskError, match="labels.csv is not in there"):
        found_in(tmp_path, str(tmp_path / "own.toml"))
    with pytest.raises(TaskError, match="there is no task 'none'; give a .toml file, or one of aptos, "):
        read_task("none")


def unpacked(shared: Path, domain: str, folder: Path, most: int) -> list[str]:
    """The first test images of a domain, flat in a folder."""
    folder.mkdir(parents=True)
    names = []
    with tarfile.open(shared / "domains" / f"{domain}.tar") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith("test/") and len(names) < most:
                names.append(Path(member.name).name)
                data = archive.extractfile(member)
                assert data is not None
                (folder / names[-1]).write_bytes(data.read())
    return names


def test_nih_as_it_is_downloaded(shared: Path, tmp_path: Path) -> None:
    """The real csv with all its rows, a few images, and the official list of the test side."""
    names = unpacked(shared, "cxr_nih", tmp_path / "images_001" / "images", 12)
    shutil.copy(shared / "metadata" / "nih_chestxray14" / "Data_Entry_2017_v2020.csv.gz", tmp_path)
    found = found_in(tmp_path, "nih-cxr14")
    assert {Path(item.key).name for item in found.items} == set(names)
    assert found.absent == 112120 - 12
    by_name = {Path(item.key).stem: item for item in found.items}
    film = by_name["00000003_000"]  # the csv: Hernia, patient 3, 81 years, F, PA
    assert [label for label, holds in film.truth.items() if holds] == ["Hernia"]
    assert (film.group, dict(film.about)) == ("3", {"sex": "F", "view": "PA", "age": "80 and over"})
    listed = sorted(by_name)
    with gzip.open(tmp_path / "Data_Entry_2017_v2020.csv.gz", "rt") as stream:
        few = [line for number, line in enumerate(stream) if not number or line[:12] in by_name]
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text("".join(few))  # unpacked, and quicker
    (tmp_path / "test_list_2017.txt").write_text("".join(f"{name}.png\n" for name in listed[:5]))
    (tmp_path / "train_val_list_2017.txt").write_text("".join(f"{name}.png\n" for name in listed[5:8]))
    found = found_in(tmp_path, "nih-cxr14")
    assert [sum(item.part == part for item in found.items) for part in ("test", "train")] == [5, 3]
    assert found.has_split


def test_ham10000_as_it_is_downloaded(shared: Path, tmp_path: Path) -> None:
    unpacked(shared, "derm_ham10000", tmp_path / "HAM10000_images_part_1", 6)
    shutil.copy(shared / "metadata" / "ham10000" / "HAM10000_metadata.csv", tmp_path / "HAM10000_metadata")
    found = found_in(tmp_path, "ham10000")
    assert len(found.items) == 6
    assert found.absent + 6 == 10015
    assert {label for item in found.items for label, holds in item.truth.items() if holds} == {"actinic keratosis"}
    assert all(item.group.startswith("HAM_") and item.about["site"] for item in found.items)


def test_grades_of_retinopathy(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "metadata" / "eyepacs" / "trainLabels.csv", tmp_path)
    for name in ("10_left", "10_right", "15_left"):
        picture(tmp_path / "train" / f"{name}.jpeg")
    found = found_in(tmp_path, "eyepacs")
    assert [(item.key, item.group, item.truth["no retinopathy"]) for item in found.items] == [
        ("train/10_left.jpeg", "10", True), ("train/10_right.jpeg", "10", True), ("train/15_left.jpeg", "15", False),
    ]  # fmt: skip


def test_chexpert(shared: Path, tmp_path: Path) -> None:
    for name in ("valid.csv", "train.csv"):
        shutil.copy(shared / "metadata" / "layout_only" / "chexpert" / name, tmp_path)
    picture(tmp_path / "CheXpert-v1.0-small" / "valid/patient99000/study1/view1_frontal.jpg")
    picture(tmp_path / "train/patient90000/study1/view1_frontal.jpg")  # unpacked without the archive's own folder
    found = found_in(tmp_path, "chexpert")
    test, train = found.items
    assert (test.part, test.group, test.about["view"]) == ("test", "patient99000", "Frontal")
    assert (train.part, train.group) == ("train", "patient90000")
    # Atelectasis is blank in that row, Edema 1, Pleural Effusion -1.
    assert {name: train.truth.get(name) for name in ("Edema", "Consolidation", "Atelectasis", "Cardiomegaly")} == {
        "Edema": True, "Consolidation": None, "Atelectasis": False, "Cardiomegaly": False,
    }  # fmt: skip


def test_mimic_joins_two_tables(shared: Path, tmp_path: Path) -> None:
    layout = shared / "metadata" / "layout_only" / "mimic_cxr_jpg"
    for path in layout.iterdir():
        shutil.copy(path, tmp_path)
    rows = [line.split(",") for line in (layout / "mimic-cxr-2.0.0-split.csv").read_text().split()[1:]]
    for dicom, study, subject, _ in rows[:8]:
        picture(tmp_path / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg")
    found = found_in(tmp_path, "mimic-cxr")
    sides = {Path(item.key).stem: item.part for item in found.items}
    assert set(sides.items()) < {(row[0], row[3]) for row in rows[:8]}
    assert len(sides) == 7  # of one study, the five findings are blank or uncertain
    first = next(item for item in found.items if Path(item.key).stem == rows[0][0])
    assert first.truth == {"Atelectasis": True}  # the study's other four are blank or uncertain
    assert first.group == rows[0][2]


def test_pad_ufes_and_scin(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "metadata" / "layout_only" / "pad_ufes_20" / "metadata.csv", tmp_path)
    picture(tmp_path / "images" / "imgs_part_1" / "PAT_9000_9500_100.png")
    [item] = found_in(tmp_path, "pad-ufes-20").items
    assert item.truth["basal cell carcinoma"]
    assert (item.group, item.about["site"], item.about["age"]) == ("PAT_9000", "FACE", "20 to 39")
    (tmp_path / "scin_cases.csv").write_text(
        "case_id,age_group,sex_at_birth,fitzpatrick_skin_type,image_1_path\n"
        "1,AGE_30_TO_39,FEMALE,FST2,dataset/images/1.png\n2,,MALE,,dataset/images/2.png\n3,,,,dataset/images/3.png\n"
    )
    (tmp_path / "scin_labels.csv").write_text(
        "case_id,weighted_skin_condition_label\n1,\"{'Eczema': 0.3, 'Urticaria': 0.7}\"\n2,{'Scurvy': 1.0}\n3,{}\n"
    )
    for name in "123":
        picture(tmp_path / "dataset" / "images" / f"{name}.png")
    found = found_in(tmp_path, "scin")
    assert [(item.key, item.truth["urticaria"]) for item in found.items] == [("dataset/images/1.png", True)]
    assert dict(found.unlisted) == {"Scurvy": 1}


def test_class_folders(tmp_path: Path) -> None:
    for name in (
        "CRC-VAL-HE-7K/TUM/a.tif",
        "CRC-VAL-HE-7K/ADI/b.tif",
        "NCT-CRC-HE-100K/TUM/a.tif",
        "CRC-VAL-HE-7K/X/c.tif",
    ):
        picture(tmp_path / name)
    found = found_in(tmp_path, "nct-crc-he")
    assert [(item.key, item.part) for item in found.items] == [
        ("CRC-VAL-HE-7K/ADI/b.tif", "test"), ("CRC-VAL-HE-7K/TUM/a.tif", "test"), ("NCT-CRC-HE-100K/TUM/a.tif", "train"),
    ]  # fmt: skip
    assert dict(found.unlisted) == {"X": 1}
    assert [label for label, holds in found.items[1].truth.items() if holds] == ["colorectal adenocarcinoma epithelium"]
    own = found_in(tmp_path / "CRC-VAL-HE-7K", "folder")
    assert own.items[0].truth == {"ADI": True, "TUM": False, "X": False}
    with pytest.raises(TaskError, match="no picture in a folder of a label that the task 'nct-crc-he' knows"):
        found_in(tmp_path / "CRC-VAL-HE-7K" / "X", "nct-crc-he")


def test_patch_camelyon(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'medge[hdf5]'")
    pixels = np.arange(3 * 96 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 96, 96, 3)
    for part, key, array in (("x", "x", pixels), ("y", "y", np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1))):
        with h5py.File(tmp_path / f"camelyonpatch_level_2_split_test_{part}.h5", "w") as file:
            file[key] = array
    (tmp_path / "camelyonpatch_level_2_split_test_meta.csv").write_text(",wsi\n0,a\n1,a\n2,b\n")
    found = found_in(tmp_path, "pcam")
    assert [(item.key, item.group, item.truth["metastasis"]) for item in found.items] == [
        ("test/000000", "a", False), ("test/000001", "a", True), ("test/000002", "b", True),
    ]  # fmt: skip
    np.testing.assert_array_equal(found.items[2].open(), pixels[2])
    elsewhere = pickle.loads(pickle.dumps([item.open for item in found.items]))  # as a process of Ray's has them
    np.testing.assert_array_equal(elsewhere[1](), pixels[1])


def test_a_higher_limit_goes_on_with_the_same_items(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "a" / f"{number:02}.png")
    items = found_in(tmp_path, "folder").items
    few, more = drawn(items, 5, 3), drawn(items, 12, 3)
    assert {item.key for item in few} < {item.key for item in more}
    assert few != drawn(items, 5, 4)
    assert drawn(items, 99, 3) == items
    assert [item.key for item in more] == sorted(item.key for item in more)
    bare = without_names(items)
    assert len({item.key for item in bare}) == 30
    assert not any("png" in item.key for item in bare)


@pytest.mark.parametrize(
    ("text", "band"),
    [("58", "40 to 59"), ("058Y", "40 to 59"), ("80.0", "80 and over"), ("0", "0 to 19"), ("411", ""), ("", "")],
)
def test_age_bands(text: str, band: str) -> None:
    assert age_band(text) == band
