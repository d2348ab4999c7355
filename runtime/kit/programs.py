"""What an installed version is asked: its own Python runs its own medge. And systemd, which runs the station."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import KitError, one_line
from .installation import Installation
from .systemd import systemctl

_SECONDS = 3600.0  # a self-test of large models takes many minutes
_SERVICE_SECONDS = 120.0
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SYSTEMD_OFFLINE",
)


@dataclass(frozen=True)
class Answer:
    """What a version says of itself.

    Attributes:
        good: every check holds.
        schema: of the tables of its store.
        medge: its version.
        failed: what does not hold.
    """

    good: bool
    schema: int
    medge: str
    failed: tuple[str, ...]


def ask(version: Path, words: list[str], *, owner: Path | None = None) -> dict[str, Any]:
    """Run a version's medge and read the JSON that it prints.

    Args:
        version: its folder.
        words: of the command.
        owner: a folder whose owner runs it, where this process is root: what it makes there is the owner's.

    Raises:
        KitError: it can't be run, does not end in time, or prints no JSON.
    """
    python = version / "python" / "bin" / "python3"
    # Nothing is written into a version: Python's own compiled files would be nothing of its kit.
    environment = {"NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(version / "packages")}
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        run = subprocess.run(
            [str(python), "-m", "medge", *words], capture_output=True, timeout=_SECONDS, env=environment, check=False, cwd="/",
            **_as_owner(owner),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise KitError(f"{python}: no answer within {_SECONDS:.0f} s") from error
    except OSError as error:
        raise KitError(f"{python} can't be run ({error.strerror})") from error
    try:
        body = json.loads(run.stdout)
        if not isinstance(body, dict):
            raise ValueError
    except ValueError as error:
        said = (run.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        raise KitError(f"{python} ended with {run.returncode} and gave no answer: {one_line(said)}") from error
    return body


def _as_owner(folder: Path | None) -> dict[str, Any]:
    """For `subprocess.run`: be the owner of a folder, where this process may be anybody."""
    if folder is None or os.geteuid() != 0 or folder.stat().st_uid == 0:
        return {}
    found = folder.stat()
    return {"user": found.st_uid, "group": found.st_gid, "extra_groups": []}


def selftest(version: Path, database: Path | None) -> Answer:
    """Let a version test itself.

    Args:
        version: its folder.
        database: a copy of the store's database, which it brings up to date and looks at; None where there is none.

    Raises:
        KitError: it can't be run.
    """
    words = ["kit", "selftest", "--bundles", str(version / "bundles"), "--json"]
    body = ask(version, [*words, *(["--database", str(database)] if database else [])])
    failed = tuple(
        one_line(f"{one.get('what')}: {one.get('note')}") for one in body.get("results", []) if not one.get("good")
    )
    good, schema = body.get("good") is True and not failed, body.get("schema")
    return Answer(good, schema if isinstance(schema, int) else 0, str(body.get("medge", ""))[:80], failed)


def migrate(version: Path, store: Path) -> None:
    """Let a version bring the store up to date and look at it; nothing where there is none.

    Raises:
        KitError: it can't, or does not like what it finds.
    """
    if not store.exists():
        return
    body = ask(version, ["kit", "migrate", str(store), "--json"], owner=store)
    if body.get("good") is not True:
        raise KitError(f"the store: {one_line(body.get('note'))}")


def service(here: Installation, verb: str) -> None:
    """Start or stop the station, where systemd runs it.

    Raises:
        KitError: systemd refuses.
    """
    state = here.state
    if not state.unit or shutil.which("systemctl") is None:
        return
    run = systemctl(state.scope, verb, state.unit, seconds=_SERVICE_SECONDS)
    if run.returncode:
        raise KitError(f"systemctl {verb} {state.unit} failed: {one_line(run.stderr.strip())}")
