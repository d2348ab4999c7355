"""The interpreter of a kit: it runs from any folder, with its own libraries, and so do its children.

What needs the interpreter is skipped where it has not been fetched, by tests/runtime/kit/natives/prepare.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from medge.runtime.errors import KitError
from medge.runtime.kit.natives import TARGETS, cache_folder, debian, fetch_interpreter, interpreter
from medge.runtime.kit.natives.debian import Package, fetch_packages

HERE = f"linux-{platform.machine()}"
EVERYTHING = """
import importlib, json, multiprocessing, os, subprocess, sys
def square(number):
    return number * number, sys.executable
if __name__ == "__main__":
    import bz2, ctypes, hashlib, lzma, sqlite3, ssl, uuid, zlib
    folder = os.path.join(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "lib-dynload")
    failed = []
    for name in sorted(file.partition(".")[0] for file in os.listdir(folder)):
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed.append(str(error))
    child = subprocess.run([sys.executable, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pooled = pool.apply(square, (7,))
    opened = {line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}
    print(json.dumps({
        "failed": failed, "executable": sys.executable, "prefix": sys.prefix, "path": sys.path, "child": child.stdout.strip(),
        "pooled": pooled, "opened": sorted(opened), "error": child.stderr,
    }))
"""


def cached(target: str) -> Path:
    found = [path.name for path in (cache_folder() / "interpreters").glob(f"python-*-{target}-*.tar")]
    if not found:
        pytest.skip(f"no interpreter for {target} in {cache_folder()}: tests/runtime/kit/natives/prepare fetches it")
    try:
        return fetch_interpreter(target)
    except KitError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("target", TARGETS)
def test_the_tar_holds_regular_files_and_nothing_of_this_moment(target: str) -> None:
    with tarfile.open(cached(target)) as tar:
        members = tar.getmembers()
        launcher = tar.extractfile("python/bin/python3")
        assert launcher is not None
        assert launcher.read().startswith(b"#!/bin/sh\n")
        said = tar.extractfile("python/licenses/packages.json")
        assert said is not None
        packages = [package["name"] for package in json.load(said)["packages"]]
    names = [member.name for member in members]
    assert names == sorted(names)
    assert all(member.isreg() and member.mtime == 0 and member.mode in (0o644, 0o755) for member in members)
    assert len({name.casefold() for name in names}) == len(names)  # a stick's file system may not tell case
    assert {f"python/licenses/{name}/copyright" for name in packages} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", "libreadline.so.8"))]


def test_it_runs_from_any_folder_and_so_do_its_children(tmp_path: Path) -> None:
    home = tmp_path / "a folder, ä" / "versions" / "7"
    with tarfile.open(cached(HERE)) as tar:
        tar.extractall(home, filter="data")
    current = tmp_path / "current"
    current.symlink_to(Path("a folder, ä") / "versions" / "7")
    (home / "packages").mkdir()
    script = tmp_path / "everything.py"
    script.write_text(EVERYTHING)
    python = home / "python" / "bin" / "python3"
    for start in (python, current / "python" / "bin" / "python3"):
        done = subprocess.run(
            [start, script], cwd="/", env={"PYTHONHOME": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["failed"] == []
        assert told["executable"] == told["child"] == str(python), told["error"]
        assert told["pooled"] == [49, str(python)]
        assert told["path"][-1] == str(home / "packages")
        assert [path for path in told["opened"] if not path.startswith(str(home))] == []
        assert len(told["opened"]) > 20


def test_an_older_shell_s_way_of_starting_it_is_enough(tmp_path: Path) -> None:
    """The script asks for nothing but a POSIX shell and readlink."""
    launcher = interpreter.LAUNCHER.format(triplet="t", loader="l", version="3.13")
    place = tmp_path / "python" / "bin" / "python3"
    loader = tmp_path / "python" / "lib" / "t" / "l"
    for path, text in ((place, launcher), (loader, '#!/bin/sh\nprintf "%s\\n" "$@"\n')):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / "link").symlink_to("python/bin/python3")
    for start in ([place], [tmp_path / "link"], ["/bin/sh", place]):
        done = subprocess.run([*start, "-m", "medge", "a b"], capture_output=True, text=True, check=True, cwd=tmp_path)
        home = os.path.realpath(tmp_path / "python")
        assert done.stdout.splitlines() == [
            "--inhibit-cache", "--argv0", f"{home}/bin/python3", "--library-path", f"{home}/lib/t", f"{home}/bin/python3.13",
            "-m", "medge", "a b",
        ]  # fmt: skip


class FakeArchive:
    """An archive that gives these bytes, whatever it is asked for."""

    content = b"a package"

    def __init__(self, suite: str, architecture: str) -> None:
        self.architecture = architecture

    def download(self, names: list[str], folder: Path) -> None:
        for name in names:
            package, _, version = name.partition("=")
            (folder / f"{package}_{version.replace(':', '%3a')}_{self.architecture}.deb").write_bytes(self.content)


GOOD = "a8fcbf58bb76907dc6ae62f0e5e9d8cd2c3c1b6c5d5cb6c4bd0c8a4aa9e5d7a5"


def test_a_package_that_is_not_the_pinned_one_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "Archive", FakeArchive)
    with pytest.raises(KitError, match=r"zlib1g 1:1\.3 is not the file that was pinned; make new locks"):
        fetch_packages([Package("zlib1g", "1:1.3", GOOD)], "trixie", "amd64", tmp_path, "make new locks")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.setattr(debian, "Archive", FakeArchive)
    package = Package("zlib1g", "1:1.3", hashlib.sha256(FakeArchive.content).hexdigest())
    (first,) = fetch_packages([package], "trixie", "amd64", tmp_path, "")
    assert first.name == "zlib1g_1%3a1.3_amd64.deb"
    monkeypatch.setattr(debian, "Archive", None)
    assert fetch_packages([package], "trixie", "amd64", tmp_path, "") == (first,)


def test_links_of_packages_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, link in (("./usr/doc/a", "b"), ("./usr/lib/x.so", "/usr/lib/x.so.1"), ("./loop", "loop")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
        for name in ("./usr/doc/b/copyright", "./usr/lib/x.so.1"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
    monkeypatch.setattr(interpreter, "_data", lambda deb: packed.getvalue())
    tree = interpreter.Tree()
    tree.add(tmp_path)
    assert tree.content("usr/doc/a/copyright") == tree.content("usr/lib/x.so") == b"text"
    for missing in ("usr/doc/c", "loop"):
        with pytest.raises(KitError, match=f"hold no {missing}"):
            tree.content(missing)
