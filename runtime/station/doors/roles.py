"""Users as the rest of the station sees them, and what their names may be."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ...errors import StationError, one_line

ROLES = ("viewer", "reader", "admin")  # each may do what those before it may
LOCAL = "local"  # whoever asks, on this machine, while there are no users
MOST_LETTERS = 64
_TAKEN = {LOCAL, "station", "unknown"}  # who else stands in the audit log


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: of a user; of a program "token:" and the token's name.
        role: "viewer", "reader" or "admin".
    """

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this user may do what needs a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


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


def checked_role(role: str) -> str:
    """A role that exists.

    Raises:
        StationError: there is none of this name.
    """
    if role not in ROLES:
        raise StationError(f"there is no role {one_line(role, 40)!r}; there are {', '.join(ROLES)}")
    return role
