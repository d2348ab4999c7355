"""Users as the rest of the station sees them, and what their names may be."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import StationError, one_line

Role = Literal["viewer", "reader", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
TOKEN = "token:"  # before a token's name; no user's name has a colon
MOST_LETTERS = 64
_TAKEN = {"local", "station", "unknown"}  # who else stands in the audit log


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: of a user; of a program "token:" and the token's name.
        role: "viewer" reads, "reader" also uploads, asks for work and writes reports, "admin" also removes, reads the audit log
            and changes settings.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = User("local", "admin")  # whoever is at this machine, while the station has no users


def checked_name(given: str) -> str:
    """A name that can stand in a log, normalised (NFC).

    Raises:
        StationError: it is empty, too long, reserved, or has signs that are not seen or that could pass for something else.
    """
    name = unicodedata.normalize("NFC", given)
    if not 1 <= len(name) <= MOST_LETTERS:
        raise StationError(f"a name has 1 to {MOST_LETTERS} signs")
    if name != name.strip() or "  " in name or not name.isprintable():
        raise StationError(
            f"the name {one_line(given, 80)!r} has spaces at its ends, two in a row, or signs that can't be seen; leave them out"
        )
    if ":" in name or folded(name) in _TAKEN:
        raise StationError(f"the name {name!r} is the station's own, or holds a colon; choose another")
    return name


def folded(name: str) -> str:
    """What two names have in common that a person takes for the same: letters' case and width do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def checked_role(role: str) -> Role:
    """A role that exists.

    Raises:
        StationError: there is none of this name.
    """
    for one in ROLES:
        if one == role:
            return one
    raise StationError(f"there is no role {one_line(role, 40)!r}; there are {', '.join(ROLES)}")
