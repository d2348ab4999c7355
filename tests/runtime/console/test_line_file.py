"""A file of lines that a later run goes on with."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medge.runtime.console.line_file import LineFile
from medge.runtime.errors import PlaceTakenError, StorageError

HEAD = b"a question\n"


class Run:
    """A run of some work: what it found in the file, and the file itself."""

    def __init__(self, path: Path, head: bytes = HEAD, *, place: Path | None = None, passing: bool = False) -> None:
        self.found: tuple[bytes, bytes] | None = None
        self._head = head
        self.file = LineFile(path, head, self._take_up, place=place, passing=passing)

    def _take_up(self, lines: bytes, cut_off: bytes) -> bool:
        self.found = lines, cut_off
        return lines.startswith(self._head)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let this process write no file beyond `size` bytes, as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("cut", range(len(HEAD + b"one\ntwo\n") + 1))
def test_a_file_that_ends_anywhere_is_gone_on_with(tmp_path: Path, cut: int) -> None:
    path, whole = tmp_path / "rows", HEAD + b"one\ntwo\n"
    path.write_bytes(whole[:cut])
    kept = whole[: whole[:cut].rfind(b"\n") + 1]
    run = Run(path)
    with run.file as file:
        assert run.found == (kept, whole[len(kept) : cut])
        assert path.read_bytes() == (kept or HEAD)  # the half line is gone before the next one comes
        file.add(b"three\n")
        assert path.read_bytes() == (kept or HEAD) + b"three\n"  # at once, not when the file is closed
    assert left(tmp_path) == ["rows"]


def test_folders_are_made_and_nothing_is_found_in_a_new_file(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "rows")
    with run.file:
        assert run.found == (b"", b"")
    assert (tmp_path / "deep" / "rows").read_bytes() == HEAD


def test_a_full_disk_is_told_and_loses_no_whole_line(tmp_path: Path) -> None:
    path, lines = tmp_path / "rows", [f"line {number}\n".encode() for number in range(20)]
    full = files_up_to(len(HEAD) + 30)
    with (
        pytest.raises(
            StorageError,
            match="writing .*rows: the file is too large; what was written before is kept",
        ),
        full,
        Run(path).file as file,
    ):
        for line in lines:
            file.add(line)
    cut = path.read_bytes()
    assert cut == (HEAD + b"".join(lines))[: len(HEAD) + 30]
    assert not cut.endswith(b"\n")
    again = Run(path)
    with again.file as file:
        assert again.found == (HEAD + b"".join(lines[:4]), b"li")
        file.add(b"".join(lines[4:]))
    assert path.read_bytes() == HEAD + b"".join(lines)


def test_a_disk_that_takes_no_head_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(
            StorageError,
            match="writing .*rows: the file is too large",
        ),
        files_up_to(0),
    ):
        Run(tmp_path / "rows")
    assert left(tmp_path) == []
    with Run(tmp_path / "rows").file:  # nor is it claimed any more
        assert left(tmp_path) == [".rows.claim", "rows"]


@pytest.mark.parametrize("place", ["rows", "results.parquet"])
def test_two_processes_do_not_write_the_same_file(tmp_path: Path, place: str) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom medge.runtime.console.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]), b'a question\\n', lambda *_: True, place=Path(sys.argv[2]))\n"
        "file.add(b'of the first\\n')\nprint('open', flush=True)\ntime.sleep(600)\n"
    )
    path, words = tmp_path / "rows", [sys.executable, "-c", code, str(tmp_path / "rows"), str(tmp_path / place)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        before = path.read_bytes()
        with pytest.raises(PlaceTakenError, match=f"{place} is being written by another medge"):
            Run(path, b"another question\n", place=tmp_path / place)
        assert path.read_bytes() == before == HEAD + b"of the first\n"
        first.kill()
    run = Run(path, place=tmp_path / place)  # a process that was killed holds nothing
    with run.file:
        assert run.found == (before, b"")


def test_what_other_arguments_left_begins_anew_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with Run(path).file as file:
        file.add(b"one\n")
    before = path.read_bytes()

    def refuse(lines: bytes, cut_off: bytes) -> bool:
        raise StorageError("holds other rows")

    with pytest.raises(StorageError, match="holds other rows"):
        LineFile(path, b"another question\n", refuse)
    assert path.read_bytes() == before
    assert left(tmp_path) == ["rows"]
    with Run(path, b"another question\n").file:
        pass
    assert path.read_bytes() == b"another question\n"


def test_a_passing_file_goes_when_all_is_done(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with pytest.raises(KeyboardInterrupt), Run(path, passing=True).file as file:
        file.add(b"one\n")
        raise KeyboardInterrupt
    assert left(tmp_path) == ["rows"]
    run = Run(path, passing=True)
    with run.file:
        assert run.found == (HEAD + b"one\n", b"")
    assert left(tmp_path) == []


@pytest.mark.parametrize("head", [b"", HEAD])
def test_a_stopped_run_leaves_no_empty_file(tmp_path: Path, head: bytes) -> None:
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "rows", head).file:
        raise KeyboardInterrupt
    assert left(tmp_path) == (["rows"] if head else [])


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "rows").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"):
        Run(tmp_path / "rows")
    assert not (tmp_path / "elsewhere").exists()
