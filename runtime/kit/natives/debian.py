"""Debian's packages, fetched by apt without any change to this machine: each pinned to a version and the hash of its file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bundles.atomic import replace_file
from ...bundles.manifest import sha256_file
from ...errors import KitError
from .targets import run

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A suite of Debian's, by the names that machines' sources use; what another distribution calls its own is not taken.
_SUITE = re.compile(
    r"(?:buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing)(-security)?"
)


@dataclass(frozen=True)
class Package:
    """One of Debian's packages at one version.

    Attributes:
        name, version: as Debian has them.
        sha256: of the .deb file.
    """

    name: str
    version: str
    sha256: str

    def file(self, architecture: str) -> str:
        """The .deb's name in a folder of downloads."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{architecture}.deb"


class Archive:
    """A suite of Debian for one architecture, through the archives that this machine's apt uses.

    Raises:
        KitError: there is no apt, its sources name no archive of Debian, or the index can't be fetched.
    """

    def __init__(self, suite: str, architecture: str) -> None:
        self.suite, self.architecture = suite, architecture
        self._folder = tempfile.TemporaryDirectory(prefix="medge-apt-")
        top = Path(self._folder.name)
        for part in ("state/lists/partial", "cache/archives/partial", "sources"):
            (top / part).mkdir(parents=True)
        (top / "status").touch()
        trusted = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        lines = [f"deb {trusted}{address} {suite}{part} main" for address, part in sorted(_archives())]
        if not lines:
            raise KitError(
                "fetching the interpreter needs apt sources that name an archive of Debian, and here are none"
            )
        (top / "sources" / "debian.list").write_text("\n".join(lines) + "\n")
        settings = {
            "Dir::State": top / "state", "Dir::Cache": top / "cache", "Dir::State::status": top / "status",
            "Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": top / "sources",
            "APT::Architecture": architecture, "APT::Architectures::": architecture, "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }  # fmt: skip
        self._own = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        run(["apt-get", *self._own, "update", "-qq"], purpose=f"reading the index of Debian {suite}")

    def download(self, names: Sequence[str], folder: Path) -> None:
        """Fetch packages, each named "NAME" or "NAME=VERSION", into a folder.

        Raises:
            KitError: one can't be had.
        """
        purpose = f"fetching packages of Debian {self.suite}"
        run(["apt-get", *self._own, "download", "-qq", *names], purpose=purpose, folder=folder)


def _archives() -> set[tuple[str, str]]:
    """{(address, "" or "-security")} of Debian's archives in this machine's sources."""
    listing = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        purpose="reading the sources of apt",
    )
    found: set[tuple[str, str]] = set()
    for line in listing.splitlines():
        address, _, suite = line.partition(" ")
        if match := _SUITE.fullmatch(suite):
            found.add((address, match[1] or ""))
    return found


def fetch_packages(
    packages: Sequence[Package], suite: str, architecture: str, folder: Path, advice: str
) -> tuple[Path, ...]:
    """The .deb files of pinned packages, from a folder or, where they are not in it, from the archive.

    Args:
        advice: what a person does when the archive has moved on.

    Raises:
        KitError: the archive no longer has a version, or what it has is another file.
    """
    files = tuple(folder / package.file(architecture) for package in packages)
    lacking = [p for p, file in zip(packages, files, strict=True) if not file.exists() or sha256_file(file) != p.sha256]
    if lacking:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as place:
            try:
                Archive(suite, architecture).download([f"{p.name}={p.version}" for p in lacking], Path(place))
            except KitError as error:
                raise KitError(f"{error}; {advice}") from error
            for package in lacking:
                file = Path(place) / package.file(architecture)
                if not file.exists() or sha256_file(file) != package.sha256:
                    raise KitError(f"{package.name} {package.version} is not the file that was pinned; {advice}")
                replace_file(file, folder / file.name)
    return files
