"""The page of a parity report."""

import shutil
from pathlib import Path

import pytest
from command_line import medge


def test_the_page_is_self_contained(bundle: Path) -> None:
    page = (bundle / "parity.html").read_text()
    assert page.count("<svg") == 4  # two towers, scores, size and time
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


@pytest.mark.parametrize("option", [(), ("--thumbnails",)], ids=["plain", "thumbnails"])
def test_thumbnails_are_asked_for(
    bundle: Path, checkpoint: Path, few_images: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    medge("parity", copy, "--reference", checkpoint, "--images", few_images, *option, code=None)
    page = (copy / "parity.html").read_text()
    assert ("data:image/jpeg" in page) == bool(option)
    assert "data:image" not in (copy / "parity.json").read_text()
    assert not any(path.name in page for path in few_images.iterdir())  # a file's name can be a patient's
