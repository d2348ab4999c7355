"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from medge.runtime.bundles.atomic import atomic_file, atomic_folder, refuse_existing, replace_text
from medge.runtime.bundles.manifest import MANIFEST
from medge.runtime.console.result_file import ResultFile
from medge.runtime.errors import StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_existing_output_needs_force(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as folder:
        (folder / MANIFEST).write_text("old")
    with pytest.raises(StorageError, match="replace it with --force"), atomic_folder(tmp_path / "a"):
        pytest.fail("the block must not run")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "a", force=True):
        raise KeyError
    assert (tmp_path / "a" / MANIFEST).read_text() == "old"  # a failed replacement leaves the old one
    with atomic_folder(tmp_path / "a", force=True) as folder:
        (folder / MANIFEST).write_text("new")
    assert (tmp_path / "a" / MANIFEST).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_force_replaces_nothing_but_what_a_command_has_written(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "film.dcm").write_bytes(b"irreplaceable")
    with pytest.raises(StorageError, match="a folder that medge has not written"), atomic_folder(films, force=True):
        pytest.fail("the block must not run")
    assert (films / "film.dcm").read_bytes() == b"irreplaceable"
    with pytest.raises(StorageError), atomic_file(films) as partial:
        partial.write_bytes(b"a file")
    assert names(films) == ["film.dcm"]


@pytest.mark.parametrize("force", [True, False])
def test_devices_pipes_and_links_are_never_replaced(tmp_path: Path, force: bool) -> None:
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to("nothing")
    for place in (pipe, link, Path(os.devnull)):
        what = "is a link" if place == link else "is a device, a pipe or a socket"
        with pytest.raises(StorageError, match=what), atomic_file(place):
            pytest.fail("the block must not run")
        with pytest.raises(StorageError, match=what), atomic_folder(place, force=force):
            pytest.fail("the block must not run")
        with pytest.raises(StorageError, match=what):
            refuse_existing(place, force=force)
    with pytest.raises(StorageError, match="is a device, a pipe"):
        ResultFile(pipe, ["image"], key="image", same={}, force=force)
    assert names(tmp_path) == ["link.csv", "pipe.csv"]
    assert link.is_symlink()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from medge.runtime.bundles.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'x').write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "b").exists()
    assert len(list(tmp_path.iterdir())) == 1  # the partial folder, under a hidden name
    with atomic_folder(tmp_path / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_partials_of_living_processes_are_kept(tmp_path: Path) -> None:
    living = tmp_path / f".b.partial-{platform.node()}-{os.getpid()}-0000"
    elsewhere = tmp_path / ".b.partial-another.machine-999999999-0000"
    living.mkdir()
    elsewhere.mkdir()
    with atomic_folder(tmp_path / "b"):
        pass
    assert living.is_dir()
    assert elsewhere.is_dir()  # whether its process lives can't be seen from here


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "matrix"
    replace_text(target, "old")
    with pytest.raises(KeyError), atomic_file(target) as partial:
        partial.write_text("half")
        raise KeyError
    assert (target.read_text(), names(target.parent)) == ("old", ["matrix"])
    with atomic_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert (target.read_text(), names(target.parent)) == ("new", ["matrix"])


def test_a_refusal_of_the_file_system_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="writing .*file/below"):
        replace_text(tmp_path / "file" / "below", "text")


def test_an_error_about_another_file_is_not_the_outputs(tmp_path: Path) -> None:
    """What is read while something is written is named by its own error."""
    for write in (atomic_file, atomic_folder):
        with pytest.raises(FileNotFoundError, match="film.png"), write(tmp_path / "out"):
            (tmp_path / "film.png").read_bytes()
    with pytest.raises(StorageError, match="writing .*out: No such file"), atomic_folder(tmp_path / "out") as folder:
        (folder / "gone" / "x").write_text("")
    assert names(tmp_path) == []


def test_the_first_of_several_writers_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "shard", first_wins=True) as slow:
        (slow / "x").write_text("slow")
        with atomic_folder(tmp_path / "shard", first_wins=True) as fast:
            (fast / "x").write_text("fast")
    assert (tmp_path / "shard" / "x").read_text() == "fast"
    assert names(tmp_path) == ["shard"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """Libraries that write by a temporary file of their own leave mode 0600."""
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "bundle") as folder:
            (folder / "private").mkdir(mode=0o700)
            (folder / "private" / "weights").touch(mode=0o600)
            (folder / "run").touch(mode=0o700)
        with atomic_file(tmp_path / "matrix") as partial:
            partial.unlink()
            partial.touch(mode=0o600)
    finally:
        os.umask(before)
    made = ("bundle", "bundle/private", "bundle/private/weights", "bundle/run", "matrix")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in made] == [0o750, 0o750, 0o640, 0o750, 0o640]
