"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medge.runtime.bundles.atomic import atomic_file, atomic_folder, refuse_existing, replace_text
from medge.runtime.bundles.claim import claimed, scratch_folder
from medge.runtime.bundles.manifest import MANIFEST
from medge.runtime.console.layouts import Columns
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
        ResultFile(pipe, Columns("image", {}), force=force)
    assert names(tmp_path) == ["link.csv", "pipe.csv"]
    assert link.is_symlink()


def killed_inside(place: Path) -> None:
    """A process that is killed while it writes the folder `place`."""
    code = (
        "import os, sys; from pathlib import Path; from medge.runtime.bundles.atomic import atomic_folder\n"
        "from medge.runtime.bundles.claim import scratch_folder\n"
        "place = Path(sys.argv[1])\n"
        "with atomic_folder(place) as folder, scratch_folder(place) as scratch:\n"
        "    (folder / 'x').write_bytes(b'half'); (scratch / 'full').touch(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(place)], check=False).returncode == -9


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    killed_inside(tmp_path / "b")
    left = [name for name in names(tmp_path) if not name.endswith(".claim")]
    assert [name.rsplit("-", 1)[0] for name in left] == [".b.partial", ".b.scratch"]
    with atomic_folder(tmp_path / "b"), scratch_folder(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["b"]


def test_what_a_living_one_works_on_is_kept(tmp_path: Path) -> None:
    """Other work for the same name, in this process or another: a thread of this one takes its own locks."""
    with atomic_folder(tmp_path / "b", first_wins=True) as mine, scratch_folder(tmp_path / "b") as scratch:
        with ThreadPoolExecutor() as pool:
            pool.submit(killed_inside, tmp_path / "b").result()
        with atomic_folder(tmp_path / "b", first_wins=True):
            pass
        assert mine.is_dir()
        assert scratch.is_dir()
    with claimed(tmp_path / "b"), scratch_folder(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["b"]


def test_a_place_has_one_writer(tmp_path: Path) -> None:
    """The second would replace what the first wrote, or be refused after hours."""

    def second(force: bool) -> None:
        with atomic_folder(tmp_path / "b", force=force):
            pytest.fail("the block must not run")

    with atomic_folder(tmp_path / "b") as folder:
        (folder / "x").write_text("first")
        with ThreadPoolExecutor() as pool:
            for force in (False, True):
                with pytest.raises(StorageError, match="is being written by another medge; wait until it has ended"):
                    pool.submit(second, force).result()
    assert (tmp_path / "b" / "x").read_text() == "first"
    assert names(tmp_path) == ["b"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A writer that knows nothing of claims: a copy by hand, or a machine whose shared folder has no locks."""
    with pytest.raises(StorageError, match="exists"), atomic_folder(tmp_path / "b"):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "x").write_text("theirs")
    assert (tmp_path / "b" / "x").read_text() == "theirs"
    assert names(tmp_path) == ["b"]


def test_a_replacement_that_was_killed_half_way_is_put_right(tmp_path: Path) -> None:
    (tmp_path / ".b.replaced").mkdir()
    (tmp_path / ".b.replaced" / MANIFEST).write_text("old")
    with pytest.raises(StorageError, match="--force"), atomic_folder(tmp_path / "b"):
        pytest.fail("the block must not run")
    assert (tmp_path / "b" / MANIFEST).read_text() == "old"
    (tmp_path / ".b.replaced").mkdir()
    with atomic_folder(tmp_path / "b", force=True):
        pass
    assert names(tmp_path) == ["b"]


def test_a_claim_is_retaken_within_the_same_work_and_ends_with_it(tmp_path: Path) -> None:
    with claimed(tmp_path / "b"), atomic_folder(tmp_path / "b"):
        assert ".b.claim" in names(tmp_path)
    assert names(tmp_path) == ["b"]


def test_two_that_take_the_same_claim_at_once(tmp_path: Path) -> None:
    """Many threads, each for a moment: never two inside, and nothing stays."""
    inside: list[int] = []
    most: list[int] = []

    def work(_: int) -> None:
        try:
            with claimed(tmp_path / "b"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        except StorageError:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert max(most) == 1
    assert names(tmp_path) == []


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
