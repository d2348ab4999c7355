"""Passwords and passphrases, as commands ask for them."""

from __future__ import annotations

import getpass
import sys

from ..errors import MedgeError
from .terminal import printable


def asked_secret(prompt: str, what: str = "password", *, twice: bool = False, error: type[MedgeError]) -> str:
    """A secret: typed where somebody sits at a terminal, else a line of standard input. Never an argument, which other users of
    the machine see, and the shell's history keeps.

    Args:
        prompt: what the person reads.
        what: "password" or "passphrase".
        twice: ask again, for a new one.
        error: what is raised.

    Raises:
        MedgeError: the two differ, or there is none.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise error(f"standard input holds no {what}; pass it as a line")
        return line.removesuffix("\n").removesuffix("\r")
    first = getpass.getpass(f"{printable(prompt)}: ")
    if twice and getpass.getpass("Once more: ") != first:
        raise error(f"the two {what}s differ; nothing was changed")
    return first
