"""The station as a service: systemd's units, and a script that starts it where there is no systemd.

The system's unit gives the station a user of its own, a read-only system, no devices, no way to gain rights, limited memory, and
no network but this machine; what it takes to open it to the clinic's network is in docs/guides/stick.md. A user's own unit can
have less of it, since most of these limits take root to set.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from ...bundles.atomic import replace_text
from ...errors import KitError, one_line
from ..systemd import Scope, systemctl

UNIT = "medge-station.service"
USER = "medge"
START, SERVICE_LIST, DATA_LIST = "start-station", "service", "data-folder"
_SECONDS = 60.0


@dataclass(frozen=True)
class Places:
    """Where a station lies.

    Attributes:
        prefix: the installation's folder.
        data: of studies and backups.
        port: of the page, on this machine.
        root: for all users of the machine.
    """

    prefix: Path
    data: Path
    port: int
    root: bool

    @property
    def store(self) -> Path:
        """The station's folder."""
        return self.data / "store"


def scope_here(root: bool) -> Scope:
    """Whose services this machine can run: "system" or "user" by systemd, "" where none runs."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        return ""
    if root:
        return "system"
    done = systemctl("user", "show-environment", seconds=_SECONDS)
    return "user" if done.returncode == 0 else ""


def unit_text(places: Places, scope: Scope) -> str:
    """A unit's text."""
    return _filled(f"medge-station.{scope}.service", places)


def start_text(places: Places) -> str:
    """The script that starts the station without systemd."""
    return _filled("start-station", places)


def _filled(name: str, places: Places) -> str:
    quote = shlex.quote if name == "start-station" else _unit_word
    folders = {
        "prefix": places.prefix,
        "data": places.data,
        "current": places.prefix / "current",
        "store": places.store,
    }
    words = {one: quote(str(folder)) for one, folder in folders.items()}
    return Template(resources.files(__package__).joinpath("files", name).read_text(encoding="utf-8")).substitute(
        words, port=places.port, user=USER, protect_home="yes" if _outside_home(places) else "read-only"
    )


def _unit_word(text: str) -> str:
    """A path as a unit's line takes it; systemd reads % and $ and quotes.

    Raises:
        KitError: it holds what no unit can name.
    """
    if any(sign in text for sign in "\"'\\\n$ \t"):
        raise KitError(f"a service can't use the folder {one_line(text)}: choose one without spaces or quotes")
    return text.replace("%", "%%")


def _outside_home(places: Places) -> bool:
    return not any(
        folder.is_relative_to(home) for folder in (places.prefix, places.data)
        for home in (Path("/home"), Path("/root"), Path("/run/user"))
    )  # fmt: skip


def unit_path(scope: Scope) -> Path:
    """Where a unit goes."""
    if scope == "system":
        return Path("/etc/systemd/system") / UNIT
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user" / UNIT


def write_service(places: Places, scope: Scope) -> None:
    """Write the unit, the script that starts the station without one, and what `install.sh --remove` reads.

    Raises:
        KitError: systemd refuses.
        StorageError: the file system refused.
    """
    replace_text(places.prefix / DATA_LIST, f"{places.data}\n")
    replace_text(places.prefix / START, start_text(places))
    (places.prefix / START).chmod(0o755)
    if not scope:
        return
    path = unit_path(scope)
    replace_text(path, unit_text(places, scope))
    replace_text(places.prefix / SERVICE_LIST, f"{scope} {UNIT} {path}\n")
    for words in (("daemon-reload",), ("enable", UNIT)):
        done = systemctl(scope, *words, seconds=_SECONDS)
        if done.returncode:
            said = one_line(done.stderr.strip())
            raise KitError(f"{' '.join(done.args)} failed: {said}; put it in with --no-service")


def make_user() -> tuple[int, int]:
    """The station's own user and group, made where there is none; their numbers.

    Raises:
        KitError: it can't be made.
    """
    import pwd

    try:
        found = pwd.getpwnam(USER)
        return found.pw_uid, found.pw_gid
    except KeyError:
        pass
    ways = (
        ["useradd", "-r", "-U", "-d", "/nonexistent", "-M", "-s", "/usr/sbin/nologin", USER],
        ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", USER],
    )  # fmt: skip
    for words in ways:
        if shutil.which(words[0]) is not None:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode == 0:
                found = pwd.getpwnam(USER)
                return found.pw_uid, found.pw_gid
    raise KitError(
        f"the user '{USER}', as whom the station runs, can't be made: make it with useradd or adduser, then go on"
    )
