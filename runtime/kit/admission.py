"""Whether a kit may come onto a device. After The Update Framework's list of attacks; docs/guides/updates.md has the table.

What a stick says is worth nothing until the signature of `kit.json` has been checked. It is copied from the stick once, and
everything after reads the copy: a stick can be changed between two looks.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..bundles.atomic import replace_bytes
from ..errors import KitError
from .installation import Installation
from .layout import MOST_BYTES, SIGNATURE, STATEMENT, Kit, moment_of, read_small

_MOST_SIGNATURE = 1 << 20
Verify = Callable[
    [Path, Path, Path], str
]  # (file, its signature, trust's folder) -> who has signed; raises a TrustError


@dataclass(frozen=True)
class Admitted:
    """A kit that may come onto the device.

    Attributes:
        kit: on the stick, with the statement whose signature was checked.
        signer: who has signed it.
        base: an installed version, for the files that it has, too; None of a first one.
    """

    kit: Kit
    signer: str
    base: Kit | None


def this_target() -> str:
    """What this machine is."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{ {'amd64': 'x86_64', 'arm64': 'aarch64'}.get(machine, machine) }"


def copy_statement(stick: Path, scratch: Path) -> None:
    """Copy a kit's statement and its signature to a folder of this machine, where nobody changes them between two looks.

    Raises:
        KitError: one is missing, too large, or can't be read.
    """
    for name, most in ((STATEMENT, MOST_BYTES), (SIGNATURE, _MOST_SIGNATURE)):
        replace_bytes(scratch / name, read_small(stick / name, most))


def admit(
    stick: Path, here: Installation, scratch: Path, verify: Verify, *, clock: datetime, allow_expired: bool = False
) -> Admitted:  # fmt: skip
    """Check a kit before anything of it is used.

    Args:
        stick: its folder.
        here: the installation.
        scratch: a folder of this machine for the copies.
        verify: checks a signature.
        clock: this machine's, which may be wrong.
        allow_expired: take a kit that has expired by this machine's clock.

    Raises:
        KitError: it is for another machine, older than what has run here, expired, of a base that is not here, or incomplete.
        TrustError: nobody whom this device trusts has signed it.
    """
    copy_statement(stick, scratch)
    signer = verify(scratch / STATEMENT, scratch / SIGNATURE, here.trust)
    kit = Kit.open(stick, signed=scratch)
    if kit.target != here.state.target:
        raise KitError(f"the kit is for {kit.target}, and this machine is {here.state.target}; ask for its kit")
    _refuse_older(kit, here)
    _refuse_expired(kit, here, clock, allow_expired=allow_expired)
    return Admitted(kit, signer, _base(kit, here))


def _refuse_older(kit: Kit, here: Installation) -> None:
    state = here.state
    if kit.counter < state.highest:
        raise KitError(
            f"the kit is number {kit.counter}, and number {state.highest} has run here: an older kit may have faults that are "
            "mended since; ask for a newer one, or go back with medge kit rollback"
        )
    if kit.counter == state.highest and kit.statement.identity != state.digest:
        raise KitError(
            f"the kit says that it is number {kit.counter}, and another kit with that number has run here; "
            "ask its makers which is right"
        )


def _refuse_expired(kit: Kit, here: Installation, clock: datetime, *, allow_expired: bool) -> None:
    if kit.statement.expires is None:
        return
    expires = moment_of(kit.statement.expires)
    if here.state.newest and expires < moment_of(here.state.newest):  # no clock is needed to know
        raise KitError(
            f"the kit expired on {expires:%d %B %Y}, before a kit that has run here was even made; ask for a newer one"
        )
    if expires < clock and not allow_expired:
        raise KitError(
            f"the kit expired on {expires:%d %B %Y}, and this machine's clock says {clock:%d %B %Y}: ask for a newer kit, set "
            "the clock if it is wrong, or install it all the same with --allow-expired"
        )


def _base(kit: Kit, here: Installation) -> Kit | None:
    """The installed version whose files the new one may share."""
    counters = here.counters()
    if kit.statement.base is not None and kit.statement.base not in counters:
        have = ", ".join(map(str, counters)) or "none"
        raise KitError(
            f"the stick is an update of version {kit.statement.base}, and the versions here are {have}; bring a whole kit, or an "
            "update of one of them"
        )
    wanted = kit.statement.base or here.current() or (counters[-1] if counters else None)
    base = None if wanted is None or wanted not in counters else here.version(wanted)
    there = {entry.sha256 for entry in base.entries} if base else set()
    lacking = sorted(set(kit.absent()) - there)
    if lacking and not (here.folder(kit.counter)).exists():
        raise KitError(
            f"{kit.folder} lacks {len(lacking)} of its pieces, the first is {kit.piece(lacking[0])}; copy the kit again"
        )
    return base


def by_trust(path: Path, signature: Path, folder: Path) -> str:
    """Who has signed a file, by the trust of this device; a `Verify`.

    Raises:
        TrustError: nobody whom it trusts has.
    """
    from ..trust.trust import Trust
    from ..trust.verifying import verify_file

    return str(verify_file(path, signature, Trust.open(folder)) or "nobody whom this device has to trust")


def learning(folder: Path) -> Callable[[Path], list[str]]:
    """Takes what a stick brings of keys that trusted ones have signed, and of revocations.

    Args:
        folder: of the device's trust.
    """
    from ..trust.trust import Trust

    return lambda carried: Trust.open(folder).learn(carried)
