"""The folder on a stick: `kit.json`, which says what a version is made of, and the pieces that hold its files' contents.

A version is a list of entries: files, each with the SHA-256 of its content, and links within the version. A piece is one content,
under its SHA-256, so that files that are equal lie on the stick once, and an update carries only what its base lacks. What
`kit.json` says of the pieces is all that they are trusted for: whoever signed `kit.json` has signed them.

`kit.json` comes last of all when a kit is written: a folder without it is no kit.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from ..bundles.typed_json import build, parse
from ..errors import KitError, one_line
from ..json_text import holds_controls
from ..trust.keys import PUBLIC

FORMAT = 1
STATEMENT, SIGNATURE, PIECES = "kit.json", "kit.sig", "pieces"
TRUST = "trust"  # the stick's folder of what devices learn of keys, and an installation's of what it trusts
MAKERS = f"{TRUST}/makers{PUBLIC}"  # the key that a first installation is asked about
MOST_BYTES = 64 << 20  # of kit.json; a station's, with some 15,000 files, has three million
MOST_PATH, MOST_NAME = 1024, 255  # bytes: what Linux file systems take
Mode = Literal[420, 493]
FILE_MODE: Mode = 0o644
PROGRAM_MODE: Mode = 0o755

TargetName = Literal["linux-x86_64", "linux-aarch64"]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Counter = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Moment = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}\Z")]
ComponentName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}(/[A-Za-z0-9][A-Za-z0-9._+-]{0,79})?\Z")
]


@dataclass(frozen=True)
class Entry:
    """One file of a version, or one link.

    Attributes:
        path: within the version, its parts divided by "/".
        component: the part of the kit that it belongs to: "python", "packages", "bundles/NAME", "docs".
        sha256: of a file's content.
        size: of a file, bytes.
        mode: of a file: 420 (0644) or 493 (0755).
        link: where a link leads, relative to its own folder.
    """

    path: str
    component: ComponentName
    sha256: Sha256 | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    mode: Mode | None = None
    link: str | None = None


@dataclass(frozen=True)
class Statement:
    """Everything that stands in `kit.json`.

    Attributes:
        name: what people call the kit, such as "station".
        medge: the version of medge in it.
        counter: grows with each kit of the same makers; a device refuses one that is lower than what it has had.
        created: when it was made, UTC.
        target: what it runs on.
        entries: the whole version, sorted by path, of an update's, too.
        base: the counter of the version that an update needs; None where all pieces are here.
        expires: after this a device refuses to install it.
        beside: {path: SHA-256} of what else lies in the folder and runs or is read before anything is installed: `install.sh`,
            `bootstrap.tar`.
        format: of this file.
    """

    name: Name
    medge: Name
    counter: Counter
    created: Moment
    target: TargetName
    entries: tuple[Entry, ...]
    base: Counter | None = None
    expires: Moment | None = None
    beside: dict[str, Sha256] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The bytes of `kit.json`: the same statement always gives the same."""
        facts = dataclasses.asdict(dataclasses.replace(self, entries=()))
        del facts["entries"]
        head = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False)
        rows = (
            json.dumps({name: value for name, value in dataclasses.asdict(one).items() if value is not None},
                       sort_keys=True, ensure_ascii=False)
            for one in self.entries
        )  # fmt: skip
        return (head[: -len("\n}")] + ',\n "entries": [\n' + ",\n".join(rows) + "\n ]\n}\n").encode()

    @classmethod
    def parse(cls, content: bytes, where: Path) -> Statement:
        """What `kit.json` holds.

        Raises:
            KitError: it is none, of another format, or names what no version may hold.
        """
        try:
            body = parse(content)
            if body.get("format") != FORMAT:
                raise ValueError(f"it is of format {one_line(body.get('format'), 20)}, and this medge reads {FORMAT}")
            statement = build(cls, body)
            for moment in filter(None, (statement.created, statement.expires)):
                moment_of(moment)
            _check(statement.entries)
            for name in statement.beside:
                _check_path(name)
        except ValueError as error:
            raise KitError(f"{where} is no statement of a kit: {error}; make the kit again") from error
        return statement

    @property
    def components(self) -> dict[str, int]:
        """{component: bytes of its files}, in the order of their names."""
        sizes: dict[str, int] = {}
        for entry in sorted(self.entries, key=lambda one: one.component):
            sizes[entry.component] = sizes.get(entry.component, 0) + (entry.size or 0)
        return sizes

    @property
    def identity(self) -> str:
        """SHA-256 of what the version is, however it was carried: a whole kit and an update to it have the same."""
        return hashlib.sha256(dataclasses.replace(self, base=None, beside={}).to_json()).hexdigest()

    def contents(self) -> dict[str, int]:
        """{SHA-256: bytes} of every content, each once."""
        return {entry.sha256: entry.size or 0 for entry in self.entries if entry.sha256 is not None}


def target_named(name: str) -> TargetName:
    """A target by its name.

    Raises:
        KitError: there are no kits for it.
    """
    for one in get_args(TargetName):
        if name == one:
            return one
    raise KitError(f"there are no kits for {one_line(name, 80)}; choose from {', '.join(get_args(TargetName))}")


def moment_of(text: str) -> datetime.datetime:
    """The moment that a text such as "2026-11-27T09:00:00Z" names.

    Raises:
        ValueError: there is none such.
    """
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)


def moment_text(seconds: int) -> str:
    """A moment in seconds since 1970, as `kit.json` has it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Kit:
    """A kit's folder whose statement has been read. Its signature is looked at by who opens it (`runtime/trust`).

    Attributes:
        folder: where the pieces lie.
        statement: what `kit.json` says.
        signed: the folder of the `kit.json` that was read, and of its `kit.sig`.
    """

    folder: Path
    statement: Statement
    signed: Path

    @classmethod
    def open(cls, folder: str | Path, *, signed: Path | None = None) -> Kit:
        """Open a kit.

        Args:
            folder: the stick's folder, or an installed version's.
            signed: a folder with copies of `kit.json` and `kit.sig` that are read instead: whose signature was checked on this
                machine's own disk, so that a stick can't show one statement to who checks and another to who reads.

        Raises:
            KitError: there is none, it was interrupted while it was made, or it can't be read.
        """
        folder = Path(folder)
        place = (signed or folder) / STATEMENT
        return cls(folder, Statement.parse(read_small(place, MOST_BYTES), place), place.parent)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The whole version."""
        return self.statement.entries

    @property
    def counter(self) -> int:
        """Grows with each kit."""
        return self.statement.counter

    @property
    def target(self) -> TargetName:
        """What it runs on."""
        return self.statement.target

    def piece(self, sha256: str) -> Path:
        """Where the content with this SHA-256 lies, or would lie."""
        return self.folder / piece_path(sha256)

    def absent(self) -> dict[str, int]:
        """{SHA-256: bytes} of contents whose piece is not here, or is of another size."""
        return {sha256: size for sha256, size in self.statement.contents().items() if _size(self.piece(sha256)) != size}


def piece_path(sha256: str) -> str:
    """A piece's path within a kit: "pieces/ab/ab..."."""
    return f"{PIECES}/{sha256[:2]}/{sha256}"


def read_small(path: Path, most: int) -> bytes:
    """A small regular file's content.

    Raises:
        KitError: there is none, it is no regular file, or it is longer than `most` bytes.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # reading a pipe would wait for whoever writes
            raise KitError(f"{path} is no regular file; copy the kit again")
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError as error:
        raise KitError(
            f"{path} is missing: the folder is no kit, or its making was interrupted; make or copy it again"
        ) from error
    except OSError as error:
        raise KitError(f"{path} can't be read ({error.strerror}); look at the stick, or copy the kit again") from error
    if len(content) > most:
        raise KitError(f"{path} has more than {most} bytes, which no kit's has; copy the kit again")
    return content


def _size(path: Path) -> int | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None


def check_entries(entries: Iterable[Entry]) -> None:
    """Refuse what no version may hold.

    Raises:
        KitError: a path is absolute, leads out of the version, is there twice or differs from another only in case; a link leads
            out of the version or to nothing; a content has two sizes.
    """
    try:
        _check(tuple(entries))
    except ValueError as error:
        raise KitError(f"a kit can't hold this: {error}") from error


def _check(entries: tuple[Entry, ...]) -> None:
    """As `check_entries`, with a `ValueError`."""
    by_path: dict[str, Entry] = {}
    folded: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for entry in entries:
        _check_path(entry.path)
        _check_form(entry)
        if (other := folded.setdefault(entry.path.casefold(), entry.path)) != entry.path or entry.path in by_path:
            raise ValueError(f"{_told(entry.path)} and {_told(other)} are one name where case does not count")
        by_path[entry.path] = entry
        if entry.sha256 is not None and sizes.setdefault(entry.sha256, entry.size or 0) != entry.size:
            raise ValueError(f"the content {entry.sha256} has two sizes")
    if list(by_path) != sorted(by_path):
        raise ValueError("its entries are not sorted by path")
    folders = {above for path in by_path for above in _above(path)}
    spelled: dict[str, str] = {}
    for folder in sorted(folders):
        if folder.casefold() in folded:
            raise ValueError(f"{_told(folder)} is a file and a folder")
        if (other := spelled.setdefault(folder.casefold(), folder)) != folder:
            raise ValueError(f"the folders {_told(folder)} and {_told(other)} are one where case does not count")
    for entry in entries:
        if entry.link is not None:
            _check_link(entry, by_path, folders)


def _check_form(entry: Entry) -> None:
    file = (entry.sha256, entry.size, entry.mode)
    if entry.link is None and None in file:
        raise ValueError(f"{_told(entry.path)} lacks a file's hash, size or mode")
    if entry.link is not None and file != (None, None, None):
        raise ValueError(f"{_told(entry.path)} is a file and a link")


def _check_path(path: str) -> None:
    parts = path.split("/")
    if len(path.encode()) > MOST_PATH or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{_told(path)} is no path within a version")
    if any(len(part.encode()) > MOST_NAME or "\\" in part or holds_controls(part) for part in parts):
        raise ValueError(f"{_told(path)} has a name that can't be one of a file")


def _check_link(entry: Entry, by_path: dict[str, Entry], folders: set[str]) -> None:
    """Refuse a link that leads anywhere but to an entry, or a folder of entries; a chain of links must end."""
    seen: set[str] = set()
    here: Entry | None = entry
    while here is not None and here.link is not None:
        leads = here.link
        if re.fullmatch(r"(\.\./)*[^/]+(/[^/]+)*", leads) is None or any(
            part in (".", "..") for part in re.sub(r"^(\.\./)*", "", leads).split("/")
        ):
            raise ValueError(f"the link {_told(here.path)} leads to {_told(leads)}, which is no plain relative path")
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(here.path), leads))
        if goal in seen or (goal not in by_path and goal not in folders):
            raise ValueError(f"the link {_told(here.path)} leads to {_told(leads)}, which is nothing of the version")
        seen.add(goal)
        here = by_path.get(goal)


def _above(path: str) -> Iterator[str]:
    """Every folder above a path, within the version."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _told(text: str) -> str:
    return f"'{one_line(text, 120)}'"


def facts(statement: Statement) -> dict[str, Any]:
    """What `--json` says of a kit."""
    return {
        "name": statement.name, "medge": statement.medge, "counter": statement.counter, "created": statement.created,
        "expires": statement.expires, "target": statement.target, "base": statement.base,
        "files": len(statement.entries), "components": statement.components,
    }  # fmt: skip
