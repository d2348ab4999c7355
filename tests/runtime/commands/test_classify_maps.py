"""`medge classify --map`: which files it writes, under which names, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import medge
from PIL import Image
from tolerances import FP32_ROUNDING, INT8_HEAD

import medge as medge_api
from medge.runtime.errors import BundleError, ImageError

LABELS = ("--label", "abdomen CT", "--label", "../chest/x-ray")


def told(*arguments: str | Path, code: int = 0) -> list[dict[str, str]]:
    """{label: file} of each image."""
    return [row["maps"] for row in json.loads(medge(*arguments, "--json", code=code).stdout)["results"]]


def test_a_map_of_the_best_label_or_of_each(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    for patient in ("a", "b"):  # the same name twice
        (films / patient).mkdir(parents=True)
        shutil.copy(few_images / f"{'CT' if patient == 'a' else 'MR'}_small.dcm", films / patient / "IM 1.dcm")
    asked = ("classify", bundle, films, *LABELS, "--map", tmp_path / "maps")
    best = told(*asked)
    assert [len(files) for files in best] == [1, 1]
    every = told(*asked, "--map-all")
    paths = [Path(file) for files in (*best, *every) for file in files.values()]
    assert len(set(paths)) == 6  # another question, another file
    assert {path.parent for path in paths} == {tmp_path / "maps"}
    assert sorted((tmp_path / "maps").iterdir()) == sorted(paths)
    assert told(*asked) == best  # the same question, the same files
    assert set(every[0]) == {"abdomen CT", "../chest/x-ray"}
    assert {path.name.rsplit(".", 2)[0] for path in paths} == {"map.IM-1.abdomen-CT", "map.IM-1.chest-x-ray"}
    shown = Image.open(every[0]["abdomen CT"])
    found = medge_api.load(bundle).map(films / "a" / "IM 1.dcm", ["abdomen CT", "../chest/x-ray"])
    np.testing.assert_array_equal(np.asarray(shown), found.overlay("abdomen CT"))
    assert shown.info == {}  # no text in it
    line = medge(*asked).stdout
    assert f"map of {next(iter(best[0]))}: {next(iter(best[0].values()))}" in line


def test_maps_beside_a_file_of_results(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """The rows are those without maps; a file that was begun without is not gone on with."""
    ct = few_images / "CT_small.dcm"
    asked = ("classify", bundle, ct, *LABELS)
    medge(*asked, "--out", tmp_path / "plain.csv")
    medge(*asked, "--out", tmp_path / "maps.csv", "--map", tmp_path / "maps")
    head, plain = (tmp_path / "plain.csv").read_text().splitlines()
    mapped = (tmp_path / "maps.csv").read_text().splitlines()[1]
    place = head.split(",").index("made_with")
    assert plain.split(",")[:place] == mapped.split(",")[:place]
    assert plain.split(",")[place + 1 :] == mapped.split(",")[place + 1 :]
    again = medge(*asked, "--out", tmp_path / "plain.csv", "--map", tmp_path / "maps", code=1)
    assert "holds other results" in again.stderr


def test_the_values_add_up_to_the_scores(bundle: Path, few_images: Path) -> None:
    encoder = medge_api.load(bundle)
    ct = few_images / "CT_small.dcm"
    bank = encoder.bank()
    [scores], found = encoder.classify(ct, bank), encoder.map(ct)
    np.testing.assert_array_equal(found.embedding, encoder.embed_images(ct)[0])
    np.testing.assert_allclose(found.cosine, scores.cosine, atol=FP32_ROUNDING)
    explained = scores.cosine - (scores.cosine.sum() - scores.cosine) / (len(bank.names) - 1)
    np.testing.assert_allclose(found.grids.sum((1, 2)) + found.rest, explained, atol=INT8_HEAD)
    assert np.abs(found.grids).max() > 1e-3


def test_what_is_refused(bundle: Path, make_bundle: Callable[[str], Path], few_images: Path, tmp_path: Path) -> None:
    ct, maps = few_images / "CT_small.dcm", tmp_path / "maps"
    without = medge("classify", make_bundle("fp32"), ct, "--map", maps, "--out", tmp_path / "r.csv", code=1)
    assert "can't make maps; export it again with --maps" in without.stderr
    assert not maps.exists()
    assert not (tmp_path / "r.csv").exists()
    with pytest.raises(BundleError, match="export it again with --maps"):
        medge_api.load(make_bundle("fp32")).map(ct)
    with pytest.raises(ImageError, match="No such file"):
        medge_api.load(bundle).map(tmp_path / "absent.png")
    assert "say where with --map FOLDER" in medge("classify", bundle, ct, "--map-all", code=1).stderr
    maps.write_text("")
    assert "is no folder; give one for the maps" in medge("classify", bundle, ct, "--map", maps, code=1).stderr


def test_one_bad_image_among_good_ones(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    shutil.copy(few_images / "CT_small.dcm", tmp_path / "good.dcm")
    (tmp_path / "bad.dcm").write_bytes(b"junk")
    maps = told("classify", bundle, tmp_path, *LABELS, "--map", tmp_path / "maps", code=3)
    assert len(maps) == 1
    assert len(list((tmp_path / "maps").iterdir())) == 1
