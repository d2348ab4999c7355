"""A Python that runs from any folder of any Linux: Debian's, with the libc and the loader that it was built for.

Debian's binary is built with profile-guided optimization and gets Debian's security updates. It expects its own folder at
/usr and the machine's libc. Here a script of /bin/sh starts it through the loader that is carried with it, which takes the
libraries beside itself. `sys.executable` is that script, so that the interpreter's own children start in the same way.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ...bundles.atomic import atomic_file
from ...bundles.manifest import sha256_file
from ...bundles.typed_json import build, parse
from ...errors import KitError
from .debian import Package, fetch_packages
from .targets import LOCKS, PYTHON_VERSION, Target, cache_folder, target_named

SUITE = "trixie"
PACKAGES = (
    f"python{PYTHON_VERSION}-minimal", f"libpython{PYTHON_VERSION}-minimal", f"libpython{PYTHON_VERSION}-stdlib", "libc6",
    "libgcc-s1", "libstdc++6", "gcc-14-base", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3t64",
    "libuuid1", "libsqlite3-0", "libncursesw6", "libtinfo6", "libzstd1",
)  # fmt: skip
# Under the names that others ask for them by.
LIBRARIES = (
    "libc.so.6", "libm.so.6", "libmvec.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "libanl.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libexpat.so.1",
    "libffi.so.8", "libbz2.so.1.0", "liblzma.so.5", "libssl.so.3", "libcrypto.so.3", "libuuid.so.1", "libsqlite3.so.0",
    "libncursesw.so.6", "libpanelw.so.6", "libtinfo.so.6", "libzstd.so.1",
)  # fmt: skip
_ELSEWHERE = {"aarch64": {"libmvec.so.1"}}  # what a machine's libc does not have, or has under another name
_LEFT_OUT = re.compile(
    r"(test|__pycache__|idlelib|turtledemo)/|sitecustomize\.py|lib-dynload/(_?xx|_test|_ctypes_test|readline|_dbm)"
)
_ADVICE = "make new locks: python -m medge.runtime.kit.natives.lock"
_PACKAGES_FOLDER = "../../../../packages\n"  # seen from python/lib/python3/dist-packages

LAUNCHER = """#!/bin/sh
# Python with the libc and the loader that are carried with it. Links are followed, so that a process stays in its version.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=${{self%/*}}/$link ;;
  esac
done
home=$(cd "${{self%/*}}/.." && pwd -P) || exit 127
export PYTHONNOUSERSITE=1
unset PYTHONHOME
exec "$home/lib/{triplet}/{loader}" --inhibit-cache --argv0 "$home/bin/python3" --library-path "$home/lib/{triplet}" \\
  "$home/bin/python{version}" "$@"
"""


@dataclass(frozen=True)
class InterpreterLock:
    """What an interpreter is made of.

    Attributes:
        python: its full version.
        suite: of Debian.
        packages: those that it is taken from.
    """

    python: str
    suite: str
    packages: list[Package]

    @classmethod
    def read(cls, target: Target) -> InterpreterLock:
        """The lock of a target."""
        return build(cls, parse(lock_file(target).read_bytes()))


def lock_file(target: Target) -> Path:
    """Where the lock of a target's interpreter lies."""
    return LOCKS / f"python-{target.name}.json"


def fetch_interpreter(target: str, cache: Path | None = None) -> Path:
    """A tar file with the interpreter of a kit.

    Its members are `python/...`: regular files only, with mode 0644 or 0755, the same bytes each time. Packages are looked for in
    the folder `packages` beside `python`.

    Args:
        target: "linux-x86_64" or "linux-aarch64".
        cache: where it is kept; `cache_folder()` by default.

    Raises:
        KitError: no such target; Debian's packages can't be had.
    """
    machine, folder = target_named(target), cache or cache_folder()
    lock = InterpreterLock.read(machine)
    # Another lock and another way of making it make another file.
    made_by = sha256_file(lock_file(machine))[:6] + sha256_file(Path(__file__))[:6]
    made = folder / "interpreters" / f"python-{lock.python}-{target}-{made_by}.tar"
    if not made.exists():
        debs = fetch_packages(lock.packages, lock.suite, machine.debian, folder / "debs", _ADVICE)
        files = interpreter_files(debs, machine, lock)
        with atomic_file(made) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, (content, mode) in sorted(files.items()):
                member = tarfile.TarInfo(f"python/{name}")
                member.size, member.mode = len(content), mode
                tar.addfile(member, io.BytesIO(content))
    return made


def interpreter_files(debs: Iterable[Path], target: Target, lock: InterpreterLock) -> dict[str, tuple[bytes, int]]:
    """{path below `python`: (content, mode)}, chosen from unpacked packages."""
    tree = Tree()
    for deb in debs:
        tree.add(deb)
    version = ".".join(lock.python.split(".")[:2])
    library = f"usr/lib/python{version}/"
    files: dict[str, tuple[bytes, int]] = {}
    for path in tree.below(library):
        inner = path.removeprefix(library)
        if not _LEFT_OUT.match(inner):
            files[f"lib/python{version}/{inner}"] = (tree.content(path), 0o644)
    shared = set(LIBRARIES) - _ELSEWHERE.get(target.machine, set())
    for name in (*sorted(shared), target.loader):
        files[f"lib/{target.triplet}/{name}"] = (tree.content(f"usr/lib/{target.triplet}/{name}"), 0o644)
    files[f"lib/{target.triplet}/{target.loader}"] = (files[f"lib/{target.triplet}/{target.loader}"][0], 0o755)
    files[f"bin/python{version}"] = (tree.content(f"usr/bin/python{version}"), 0o755)
    launcher = LAUNCHER.format(triplet=target.triplet, loader=target.loader, version=version)
    files["bin/python3"] = (launcher.encode(), 0o755)
    files["lib/python3/dist-packages/medge.pth"] = (_PACKAGES_FOLDER.encode(), 0o644)
    for package in lock.packages:
        copyright_file = f"usr/share/doc/{package.name}/copyright"
        files[f"licenses/{package.name}/copyright"] = (tree.content(copyright_file), 0o644)
    said = json.dumps(asdict(lock), indent=2) + "\n"
    files["licenses/packages.json"] = (said.encode(), 0o644)
    return files


class Tree:
    """What several .deb files would unpack to, in memory: some 60 MB."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}

    def add(self, deb: Path) -> None:
        """Add the files of a package.

        Raises:
            KitError: dpkg is not there, or refuses the file.
        """
        with tarfile.open(fileobj=io.BytesIO(_data(deb)), mode="r:") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                if member.issym():
                    target = member.linkname
                    self._links[name] = posixpath.normpath(
                        target.lstrip("/")
                        if target.startswith("/")
                        else posixpath.join(posixpath.dirname(name), target)
                    )
                elif member.isfile() and (stream := tar.extractfile(member)) is not None:
                    self._files[name] = stream.read()

    def below(self, folder: str) -> list[str]:
        """The files and links in a folder and the folders in it."""
        return sorted(name for name in (*self._files, *self._links) if name.startswith(folder))

    def content(self, path: str) -> bytes:
        """The content of a file; links are followed.

        Raises:
            KitError: no package holds it.
        """
        for _ in range(8):
            if path in self._files:
                return self._files[path]
            path = self._resolved(path)
        raise KitError(f"Debian's packages hold no {path}; {_ADVICE}")

    def _resolved(self, path: str) -> str:
        parts = path.split("/")
        for end in range(len(parts), 0, -1):
            link = self._links.get("/".join(parts[:end]))
            if link is not None:
                return posixpath.join(link, *parts[end:])
        return path


def _data(deb: Path) -> bytes:
    program = shutil.which("dpkg-deb")
    if program is None:
        raise KitError("unpacking Debian's packages needs the program dpkg-deb, which is not on this machine")
    done = subprocess.run([program, "--fsys-tarfile", deb], capture_output=True, check=False)
    if done.returncode:
        raise KitError(f"{deb} is no Debian package that dpkg-deb can unpack; remove it, and it is fetched anew")
    return done.stdout
