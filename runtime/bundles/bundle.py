"""A bundle on disk: opened with its hashes checked, or written under a temporary name and renamed when complete."""

from __future__ import annotations

import contextlib
import dataclasses
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BundleError, ParityGateError, ParityWarning, storage_errors
from .atomic import atomic_folder, replace_bytes, replace_text
from .facts import FileEntry, TowerFacts
from .manifest import MANIFEST, SIGNATURE, Manifest, sha256_file

Identity = tuple[int, int, int, int] | None  # of a file: None where there is none


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest has been read and, unless told otherwise, whose every byte has been checked."""

    folder: Path
    manifest: Manifest
    checked: Mapping[str, Identity] = field(default_factory=dict, compare=False)  # {path: the file that was looked at}

    @classmethod
    def open(
        cls, folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, manifest_sha256: str | None = None
    ) -> Bundle:  # fmt: skip
        """Open a bundle.

        Args:
            folder: where it lies.
            verify: hash every file (about a second per GB on a recent CPU). Existence and size are always checked.
            allow_failed_parity: load even when the parity gate failed or was never measured, and tell no loss.
            manifest_sha256: what a signature says that the manifest's hash is; see `runtime/trust`.

        Warns:
            ParityWarning: its gates passed, and something was lost all the same.

        Raises:
            BundleError: missing, half-written, changed or too new.
            ParityGateError: its gate failed or was not measured.
            TrustError: the manifest's hash is another than was signed.
        """
        folder = Path(folder)
        checked: dict[str, Identity] = {}
        bundle = cls(folder, Manifest.read(folder, sha256=manifest_sha256), checked)
        manifest = bundle.manifest
        status = manifest.status
        if status != "passed" and not allow_failed_parity:
            # What was not measured has no page.
            see = f"see {folder / manifest.parity_page}, " if status == "failed" else ""
            raise ParityGateError(
                f"{folder}: parity {status}, so it may not agree with the original model; {see}measure it with "
                "'medge parity', or load it all the same with --allow-failed-parity"
            )
        if manifest.warnings and not allow_failed_parity:
            told = "; ".join(manifest.warnings)
            warnings.warn(f"{folder.name} passed with a warning: {told}", ParityWarning, stacklevel=3)
        # Taken before the bytes are read: what is replaced from here on is seen by `path`.
        checked |= {entry.path: _identity(folder / entry.path) for entry in manifest.files}
        for problem in bundle.problems(hashes=verify):
            raise BundleError(f"{folder}: {problem}; copy or export the bundle again")
        return bundle

    def problems(self, *, hashes: bool = True) -> Iterator[str]:
        """Yield one sentence for each file that is missing, of another size, or (with `hashes`) changed."""
        for entry in self.manifest.files:
            try:
                if problem := _problem(self.folder, entry, hashes=hashes):
                    yield f"{entry.path} {problem}"
            except FileNotFoundError:
                yield f"{entry.path} is missing"
            except OSError as error:
                yield f"{entry.path} can't be read ({error.strerror})"

    def path(self, role: str) -> Path | None:
        """The path of the file with this role, or None where the bundle has none.

        A tower is opened when it is first needed, which may be hours after its hash was checked: who opens a file asks for
        its path again afterwards, and so knows that what was opened is what was checked.

        Raises:
            BundleError: another file lies there than the one that was checked when the bundle was opened.
        """
        entry = self.manifest.file(role)
        if entry is None:
            return None
        path = self.folder / entry.path
        if entry.path in self.checked and _identity(path) != self.checked[entry.path]:
            raise BundleError(f"{self.folder} was replaced or changed after it had been opened; load it again")
        return path

    def tower_bytes(self, tower: TowerFacts) -> int:
        """Bytes of a tower: its main file, or its package folder, and what lies beside it for it."""
        main = tower.file
        role = next((entry.role for entry in self.manifest.files if entry.path == main), None)
        return sum(
            entry.bytes
            for entry in self.manifest.files
            if entry.path == main or entry.path.startswith(f"{main}/") or (role and entry.role == f"{role}.data")
        )

    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(entry.bytes for entry in self.manifest.files)

    def amend(self, manifest: Manifest, files: Mapping[str, tuple[str, str | bytes]]) -> Bundle:
        """Replace the manifest, and write small files beside it: {path: (role, content)}. A signature goes: it was the old one's.

        Each file, and last the manifest, is written to a temporary name and renamed, so an interruption leaves either
        the old or the new state, never a manifest that promises a file which isn't there.
        """
        kept = [entry for entry in manifest.files if entry.path not in files]
        with storage_errors(self.folder):
            for name, (role, content) in files.items():
                replace_bytes(self.folder / name, content.encode() if isinstance(content, str) else content)
                kept.append(_entry(self.folder, name, role))
            manifest = _write(self.folder, dataclasses.replace(manifest, files=tuple(kept)))
            (self.folder / SIGNATURE).unlink(missing_ok=True)
        return Bundle(self.folder, manifest)


def _identity(path: Path) -> Identity:
    """Which file lies there, and in which state; a replacement has another number, a change another time or size."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class BundleWriter:
    """The half-made bundle: put files under `folder`, name their roles with `add`, then `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._roles: dict[str, str] = {}

    def add(self, path: str, role: str) -> Path:
        """Register a file and return where to write it; folders are made."""
        self._roles[path] = role
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def finish(self, manifest: Manifest) -> Manifest:
        """Hash every registered file and write the manifest, the last file of all.

        Raises:
            BundleError: a field holds what no manifest may hold.
        """
        entries = tuple(_entry(self.folder, path, role) for path, role in sorted(self._roles.items()))
        return _write(self.folder, dataclasses.replace(manifest, files=entries))


@contextlib.contextmanager
def new_bundle(final: Path, *, force: bool = False) -> Iterator[BundleWriter]:
    """Make a bundle under a temporary name beside `final`; rename it when the block ends well, remove it otherwise.

    Raises:
        StorageError: `final` exists and `force` is false, or the file system refused.
    """
    with atomic_folder(final, force=force) as partial:
        yield BundleWriter(partial)
        if not (partial / MANIFEST).is_file():
            raise BundleError(f"{final}: the export ended before its manifest was written")


def _write(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest that can be read again."""
    text = manifest.to_json()
    Manifest.parse(text.encode(), folder)
    replace_text(folder / MANIFEST, text)
    return manifest


def _problem(folder: Path, entry: FileEntry, *, hashes: bool) -> str:
    """What is wrong with a file; "" for nothing."""
    path = folder
    for part in entry.path.split("/"):
        path = path / part
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):  # it may lead out of the bundle
            return "is a link, or lies behind one"
    if not stat.S_ISREG(facts.st_mode):
        return "is no regular file"
    if facts.st_size != entry.bytes:
        return f"has {facts.st_size} bytes instead of {entry.bytes}"
    if hashes and sha256_file(path) != entry.sha256:
        return "was changed (its SHA-256 is not the manifest's)"
    return ""


def _entry(folder: Path, path: str, role: str) -> FileEntry:
    target = folder / path
    return FileEntry(path, role, target.stat().st_size, sha256_file(target))
