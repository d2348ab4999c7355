"""Wheels are laid out for any machine: the same bytes each time, no programs, nothing compiled, damage refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_wheel import write_wheel

from medge.runtime.errors import KitError
from medge.runtime.kit.natives import install_wheels
from medge.runtime.kit.natives.index_page import write_index


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tree_is_the_wheels_and_no_more(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    install_wheels([wheel], tmp_path / "packages")
    found = tree(tmp_path / "packages")
    about = "tiny-1.0.dist-info/"
    assert set(found) == {
        "tiny.py", "tiny_more.py",
        *(about + name for name in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "entry_points.txt")),
    }  # fmt: skip
    recorded = {line.split(",")[0] for line in found[about + "RECORD"].decode().splitlines()}
    assert recorded == set(found)
    asked = "import tiny, tiny_more, importlib.metadata as m; print(tiny.ANSWER, tiny_more.MORE, m.version('tiny'))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'packages')!r}); {asked}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "42 43 1.0\n"


def test_the_same_wheels_give_the_same_bytes_in_any_order_and_place(tmp_path: Path) -> None:
    wheels = [write_wheel(tmp_path), write_wheel(tmp_path, "other", "other.py")]
    install_wheels(wheels, tmp_path / "one")
    elsewhere = tmp_path / "a longer name"
    elsewhere.mkdir()
    install_wheels([Path(shutil.copy(wheel, elsewhere)) for wheel in reversed(wheels)], tmp_path / "deep" / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "deep" / "two")


def test_a_changed_wheel_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    changed = tmp_path / "changed" / wheel.name
    changed.parent.mkdir()
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content.replace(b"42", b"41") if name == "tiny.py" else content)
    with pytest.raises(KitError, match=r"tiny-1\.0-py3-none-any\.whl is no wheel, or is damaged: .*tiny\.py"):
        install_wheels([changed], tmp_path / "packages")
    changed.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(KitError, match="is no wheel, or is damaged"):
        install_wheels([changed], tmp_path / "packages")


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    wheels = [write_wheel(tmp_path), write_wheel(tmp_path, "zother", "tiny.py", b"ANSWER = 1\n")]
    with pytest.raises(
        KitError, match=r"zother-1\.0-py3-none-any\.whl brings a file that another package has: .*tiny\.py"
    ):
        install_wheels(wheels, tmp_path / "packages")


def test_pip_installs_from_the_page_and_checks_its_hashes(tmp_path: Path) -> None:
    page = write_index([write_wheel(tmp_path)], tmp_path / "dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--disable-pip-version-check",
        "--find-links",
    ]
    subprocess.run([*command, page.as_uri(), "--target", tmp_path / "here", "tiny"], check=True)
    assert (tmp_path / "here" / "tiny.py").read_bytes() == b"ANSWER = 42\n"
    write_wheel(page.parent, content=b"ANSWER = 41\n")
    refused = subprocess.run(
        [*command, page.as_uri(), "--target", tmp_path / "there", "tiny"], capture_output=True, text=True, check=False
    )
    assert refused.returncode
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def test_the_folder_of_the_page_holds_no_older_wheels(tmp_path: Path) -> None:
    write_index([write_wheel(tmp_path), write_wheel(tmp_path, "old", "old.py")], tmp_path / "dist")
    page = write_index([write_wheel(tmp_path)], tmp_path / "dist")
    assert [wheel.name for wheel in page.parent.glob("*.whl")] == ["tiny-1.0-py3-none-any.whl"]
    assert page.read_text().count("<li>") == 1
