"""An installation's folder: its versions, which of them runs, and what was done to it.

PREFIX/versions/7/...   a whole version each, named by its kit's counter
PREFIX/current          a link to the one that runs, replaced by rename: the only switch
PREFIX/state.json       the highest counter ever run, the history, and a change that has not ended
PREFIX/trust/           whose kits are taken
DATA/store              the station's store: studies, users, keys; no version owns them
DATA/backups            its database, as it was before an update that changed its tables
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ..bundles.atomic import flush_folder, replace_text
from ..bundles.claim import claimed, remove
from ..bundles.typed_json import build, parse
from ..errors import KitError, PlaceTakenError, storage_errors
from .layout import TRUST, Counter, Kit, Moment, Name, Sha256, TargetName, moment_text, read_small
from .systemd import Scope

STATE, VERSIONS, CURRENT = "state.json", "versions", "current"
_MOST_BYTES, _MOST_EVENTS = 1 << 20, 200
_LOCK = "installation"

What = Literal["installed", "updated", "rolled back", "failed its self-test"]


@dataclass(frozen=True)
class Event:
    """Something that was done.

    Attributes:
        counter: of the version.
        medge: its medge.
        at: when, by this machine's clock.
        what: became of it.
    """

    counter: Counter
    medge: Name
    at: Moment
    what: What


@dataclass(frozen=True)
class Pending:
    """A change of the version that has begun; it is there until the new version has passed its self-test.

    Attributes:
        to: the version that shall run.
        before: the one that ran; None of a first installation.
        what: is being done.
    """

    to: Counter
    before: Counter | None
    what: What


@dataclass(frozen=True)
class State:
    """What `state.json` holds.

    Attributes:
        device: a random word: the fleet page knows the device by its digest.
        data: the folder of the store and its backups.
        target: what the machine is.
        unit: systemd's name of the service; "" where none was made.
        scope: whose service it is.
        highest: the highest counter that has run here; kits below it are refused.
        digest: the identity of the version with that counter; None before the first.
        newest: the newest moment at which a kit that has run here was made: the time is at least that, whatever the clock says.
        history: the newest last.
        pending: None where no change was interrupted.
        format: of this file.
    """

    device: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    data: str
    target: TargetName
    unit: str = ""
    scope: Scope = ""
    highest: Annotated[int, msgspec.Meta(ge=0)] = 0
    digest: Sha256 | None = None
    newest: Moment | None = None
    history: tuple[Event, ...] = field(default=())
    pending: Pending | None = None
    format: Literal[1] = 1


def default_prefix() -> Path:
    """Where the installation lies that this program is of; else that of all users, where there is one, or this user's own."""
    for parent in Path(sys.executable).resolve().parents:
        if parent.parent.name == VERSIONS and (parent.parent.parent / STATE).is_file():
            return parent.parent.parent
    everybody = Path("/opt/medge")
    return everybody if (everybody / STATE).is_file() else Path.home() / ".local" / "share" / "medge"


class Installation:
    """An installation's folder."""

    def __init__(self, prefix: Path, state: State) -> None:
        self.prefix = prefix
        self.state = state

    @classmethod
    def open(cls, prefix: Path) -> Installation:
        """Open an installation.

        Raises:
            KitError: there is none, or its state can't be read.
        """
        prefix = prefix.absolute()
        path = prefix / STATE
        if not path.exists():
            raise KitError(f"{prefix} holds no installation of medge; give its folder with --prefix")
        try:
            return cls(prefix, build(State, parse(read_small(path, _MOST_BYTES))))
        except ValueError as error:
            raise KitError(f"{path} can't be read: {error}; install anew from a whole kit, the studies stay") from error

    @classmethod
    def create(
        cls, prefix: Path, data: Path, target: TargetName, *, unit: str = "", scope: Scope = ""
    ) -> Installation:  # fmt: skip
        """Open an installation, made where there is none.

        Args:
            prefix: its folder.
            data: where studies and backups lie.
            target: what the machine is.
            unit: systemd's name of the service; "" where none is made.
            scope: whose service it is.

        Raises:
            KitError: there is one whose state can't be read.
            StorageError: the file system refused.
        """
        prefix = prefix.absolute()
        with storage_errors(prefix):
            (prefix / VERSIONS).mkdir(parents=True, exist_ok=True)
        if not (prefix / STATE).exists():
            cls(prefix, State(secrets.token_hex(16), str(data.absolute()), target, unit, scope)).save()
        return cls.open(prefix)

    def save(self, **changes: object) -> None:
        """Write the state, with changes, in the place of the one before."""
        self.state = dataclasses.replace(self.state, **changes)  # type: ignore[arg-type]  # its callers name fields of `State`
        replace_text(self.prefix / STATE, json.dumps(dataclasses.asdict(self.state), indent=1) + "\n")

    def note(self, counter: int, medge: str, what: What, **changes: object) -> None:
        """Add to the history, with other changes of the state."""
        event = Event(counter, medge, moment_text(int(datetime.now(UTC).timestamp())), what)
        self.save(history=(*self.state.history, event)[-_MOST_EVENTS:], **changes)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who changes the installation.

        Raises:
            KitError: somebody else does.
        """
        try:
            with claimed(self.prefix / _LOCK):
                self.state = Installation.open(self.prefix).state  # as it is now
                yield
        except PlaceTakenError as error:
            raise KitError(f"{self.prefix} is being changed by another medge; wait until it has ended") from error

    @property
    def versions(self) -> Path:
        """Where the versions lie."""
        return self.prefix / VERSIONS

    @property
    def trust(self) -> Path:
        """Where the trusted keys lie."""
        return self.prefix / TRUST

    @property
    def store(self) -> Path:
        """The station's folder."""
        return Path(self.state.data) / "store"

    @property
    def backups(self) -> Path:
        """Where the database lies as it was before updates."""
        return Path(self.state.data) / "backups"

    def folder(self, counter: int) -> Path:
        """Where a version lies, or would lie."""
        return self.versions / str(counter)

    def version(self, counter: int) -> Kit:
        """An installed version.

        Raises:
            KitError: it is not there, or its statement can't be read.
        """
        return Kit.open(self.folder(counter))

    def counters(self) -> list[int]:
        """Of the versions that are there, the lowest first."""
        return sorted(int(path.name) for path in self.versions.iterdir() if path.name.isdecimal() and path.is_dir())

    def current(self) -> int | None:
        """The counter of the version that runs; None before the first.

        Raises:
            KitError: the link leads elsewhere.
        """
        link = self.prefix / CURRENT
        try:
            leads = os.readlink(link)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KitError(
                f"{link} is no link to a version; install anew from a whole kit, the studies stay"
            ) from error
        parent, _, name = leads.rpartition("/")
        if parent != VERSIONS or not name.isdecimal():
            raise KitError(f"{link} leads to no version; install anew from a whole kit, the studies stay")
        return int(name)

    def switch(self, counter: int | None) -> None:
        """Let another version run: at once, or not at all.

        Args:
            counter: of the version; None to let none run.
        """
        link, new = self.prefix / CURRENT, self.prefix / f".{CURRENT}.new"
        with storage_errors(link):
            if counter is None:
                link.unlink(missing_ok=True)
            else:
                new.unlink(missing_ok=True)
                new.symlink_to(f"{VERSIONS}/{counter}")
                new.replace(link)
            flush_folder(self.prefix)

    def discard(self, counter: int) -> None:
        """Remove a version; one that is half removed is none."""
        aside = self.versions / f".{counter}.removed"
        remove(aside)
        if self.folder(counter).exists():
            self.folder(counter).rename(aside)
            flush_folder(self.versions)
            remove(aside)

    def keep(self, *counters: int | None) -> None:
        """Remove versions that are not among these, and what interrupted runs have left."""
        for counter in self.counters():
            if counter not in counters:
                self.discard(counter)
        for path in self.versions.iterdir():
            if path.name.startswith(".") and path.name.endswith((".removed", ".partial")):
                remove(path)
