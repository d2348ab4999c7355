"""Passwords: which are taken, and how they are kept (argon2id with RFC 9106's second parameters: 64 MiB, three passes)."""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING

from ...errors import MissingExtraError, StationError
from .roles import folded

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST, MOST = 12, 256  # signs; NIST SP 800-63B asks for length, not for kinds of signs
_LEAST_DIFFERENT = 5


def checked_password(password: str, name: str) -> str:
    """A password that may be set.

    Raises:
        StationError: it is too short, too long, made of few signs, or holds the user's name.
    """
    if not LEAST <= len(password) <= MOST:
        raise StationError(f"a password has {LEAST} to {MOST} signs; a sentence is a good one")
    if len(set(password)) < _LEAST_DIFFERENT:
        raise StationError("the password repeats too few signs; a sentence is a good one")
    if len(name) > 2 and folded(name) in folded(password):
        raise StationError("the password holds the user's name; choose another")
    return password


class Passwords:
    """Makes and checks hashes.

    Args:
        hasher: argon2's; one with its own defaults where None.

    Raises:
        MissingExtraError: by every method: argon2-cffi is not installed.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._given = hasher

    @functools.cached_property
    def _hasher(self) -> PasswordHasher:
        if self._given is not None:
            return self._given
        try:
            from argon2 import PasswordHasher
        except ModuleNotFoundError as error:
            raise MissingExtraError("argon2", "station") from error
        return PasswordHasher()

    @functools.cached_property
    def nobodys(self) -> str:
        """The hash of a password that nobody has: checking it takes as long as checking somebody's."""
        return self.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """What is kept of a password."""
        return self._hasher.hash(_bytes(password))

    def fits(self, kept: str, password: str) -> bool:
        """Whether a password is the one of which `kept` was made. Takes as long as making it did, whatever the answer."""
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(kept, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False

    def is_old(self, kept: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(kept)


def _bytes(password: str) -> bytes:
    """The same bytes whatever keyboard composed the letters; half a surrogate pair, which JSON can hold, is kept as it is."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
