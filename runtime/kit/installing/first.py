"""The first version of a machine: what `install.sh` calls, out of the interpreter that lies on the stick.

First everything is looked at and nothing is written: the makers' key, the kit's signature, the machine. What follows is what an
update does (`change.apply`), with no version before; interrupted, the same command goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import KitError, MedgeError, StorageError, TrustError
from ...progress import Progress, no_progress
from ...trust.keys import PublicKey
from ...trust.trust import STATE as TRUST_STATE
from ...trust.trust import Trust, make_trust
from ..admission import by_trust, copy_statement, learning, this_target
from ..change import Changed, Say, apply
from ..installation import Installation
from ..layout import MAKERS, SIGNATURE, STATEMENT, TRUST, Kit, target_named
from . import machine
from .machine import Found
from .service import UNIT, Places, Scope, make_user, scope_here, write_service

_ANSWER_SECONDS = 120.0


class Refusal(MedgeError):
    """Why a station can't be put in, with the exit code of its kind."""

    def __init__(self, said: str, code: int) -> None:
        super().__init__(said)
        self.code = code


@contextlib.contextmanager
def refusing(code: int) -> Iterator[None]:
    """Give what goes wrong in a block the exit code of its kind; no space left has one of its own."""
    try:
        yield
    except Refusal:
        raise
    except StorageError as error:
        raise Refusal(str(error), machine.DISK) from error
    except MedgeError as error:
        raise Refusal(str(error), code) from error


@dataclass(frozen=True)
class Outlook:
    """What was found before anything was written.

    Attributes:
        kit: whose signature was checked.
        places: where it shall go.
        scope: whose service it will be; "" for none.
        found: about the machine.
        key: the makers' key, where this machine does not trust it yet; None where it does.
        signer: who signed the kit.
        minutes: that it will take, about.
    """

    kit: Kit
    places: Places
    scope: Scope
    found: list[Found]
    key: PublicKey | None
    signer: str
    minutes: float

    @property
    def refused(self) -> Found | None:
        """The first thing that speaks against it."""
        return next((one for one in self.found if one.refused), None)


def outlook(stick: Path, places: Places, scratch: Path, *, service: bool, now: datetime.datetime) -> Outlook:
    """Look at the kit and at the machine; nothing is written but copies in `scratch`.

    Args:
        stick: the kit's folder.
        places: where it shall go.
        scratch: a folder of this machine.
        service: make it a service, where one can run.
        now: by this machine's clock.

    Raises:
        Refusal: the kit is not whole, or not signed by the key that it brings or this machine trusts.
    """
    with refusing(machine.DAMAGED):
        copy_statement(stick, scratch)
    key, trust = None, places.prefix / TRUST
    with refusing(machine.UNSIGNED):
        if not (trust / TRUST_STATE).exists() or not Trust.open(trust).keys:
            key, trust = PublicKey.read(stick / MAKERS), scratch / TRUST
            make_trust(trust).add(stick / MAKERS)
        signer = by_trust(scratch / STATEMENT, scratch / SIGNATURE, trust)
    with refusing(machine.DAMAGED):
        kit = Kit.open(stick, signed=scratch)
        if kit.statement.base is not None:
            raise KitError(
                f"the stick is an update of version {kit.statement.base}, and no station is here; bring a whole kit"
            )
        if lacking := kit.absent():
            raise KitError(f"the stick lacks {len(lacking)} of the kit's pieces; copy the kit to it again")
        found = machine.look(kit, places.prefix, now)
        estimate = machine.minutes(kit)
    scope = scope_here(places.root) if service else ""
    return Outlook(kit, places, scope, found, key, signer, estimate)


def same_fingerprint(key: PublicKey, told: str) -> bool:
    """Whether a person named this key, whole, however they divided it."""
    return re.sub(r"[^0-9a-f]", "", told.lower()) == key.fingerprint


def put_in(seen: Outlook, *, progress: Progress = no_progress, say: Say = lambda text: None) -> Changed:
    """Put the kit in, start its service, and wait until it answers.

    Args:
        seen: what was found, and a person has agreed to.
        progress: told of bytes.
        say: told what is being done.

    Raises:
        Refusal: it can't be put in; no version runs then.
    """
    places = seen.places
    with refusing(machine.DISK):
        _folders(places)
        here = Installation.create(
            places.prefix, places.data, target_named(this_target()), unit=UNIT if seen.scope else "", scope=seen.scope
        )
        if seen.key is not None:
            make_trust(here.trust).add(seen.kit.folder / MAKERS)
    with refusing(machine.SERVICE):
        write_service(places, seen.scope)
    try:
        changed = apply(
            here, seen.kit.folder, by_trust, clock=datetime.datetime.now(datetime.UTC), progress=progress, say=say,
            learn=learning(here.trust),
        )  # fmt: skip
    except MedgeError as error:
        raise Refusal(str(error), _code(error, seen.kit)) from error
    if seen.scope:
        with refusing(machine.SERVICE):
            say("waiting until the station answers")
            wait_for_page(places.port)
    return changed


def _code(error: MedgeError, kit: Kit) -> int:
    """The exit code of what ended an installation."""
    if isinstance(error, TrustError):
        return machine.UNSIGNED
    if isinstance(error, StorageError):
        return machine.DISK
    return machine.DAMAGED if kit.absent() else machine.SELFTEST  # the stick was pulled out


def _folders(places: Places) -> None:
    """Make the folders; as root, the data belong to the station's own user, and the programs to root."""
    try:
        places.prefix.mkdir(parents=True, exist_ok=True)
        places.data.mkdir(parents=True, exist_ok=True)
        places.data.chmod(0o700)
        if places.root:
            os.chown(places.data, *make_user())
    except OSError as error:
        raise StorageError(
            f"{error.filename} can't be made ({error.strerror}); choose another --prefix or --data"
        ) from error


def wait_for_page(port: int) -> None:
    """Wait until the station answers.

    Raises:
        KitError: it does not.
    """
    until, said = time.monotonic() + _ANSWER_SECONDS, ""
    while time.monotonic() < until:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            link.request("GET", "/healthz")
            if link.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        finally:
            link.close()
        time.sleep(0.5)
    raise KitError(
        f"the station was put in and its service started, but does not answer at port {port} ({said}); look with "
        f"'journalctl -u {UNIT}', or choose another --port"
    )
