"""Collected files are sealed to the makers' key in age's format: whoever finds the stick reads nothing, the clinic included.

age, rather than libsodium's sealed boxes: its format is written down (C2SP), the makers can open a file with age's own program
and without medge, a key is one line that two people can compare on the telephone, and the file says by itself what it is.
Neither says who has sealed a file: anyone who has the public key can. What is opened is read as strangers' words.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundles.atomic import atomic_file, refuse_existing
from ...bundles.typed_json import build, parse
from ...errors import KitError, MissingExtraError, one_line, storage_errors
from ..layout import read_small
from .report import Collected

if TYPE_CHECKING:
    from pyrage import x25519

MOST_BYTES = 4 << 20  # of a collected file
SUFFIX = ".age"
_PUBLIC, _PRIVATE = "age1", "AGE-SECRET-KEY-1"


def _age() -> None:
    try:
        import pyrage  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyrage", "station") from error


def new_key(private: Path) -> str:
    """Make the makers' key pair: the private key into a file that only its owner reads; returns the public one, which stands in
    the file, too.

    Raises:
        StorageError: the file exists, or can't be written.
    """
    _age()
    from pyrage import x25519

    identity = x25519.Identity.generate()
    public = str(identity.to_public())
    refuse_existing(private, force=False)
    with storage_errors(private):
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(f"# public key: {public}\n{identity}\n")
    return public


def public_key(given: str) -> x25519.Recipient:
    """The makers' public key: as it is, or in a file.

    Raises:
        KitError: it is none.
    """
    _age()
    from pyrage import RecipientError, x25519

    text = given if given.startswith(_PUBLIC) else _line(Path(given), _PUBLIC)
    try:
        return x25519.Recipient.from_str(text)
    except RecipientError as error:
        raise KitError(f"{one_line(text, 80)!r} is no public key of the makers; it begins with {_PUBLIC}") from error


def private_key(path: Path) -> x25519.Identity:
    """The makers' private key.

    Raises:
        KitError: the file holds none.
    """
    _age()
    from pyrage import IdentityError, x25519

    try:
        return x25519.Identity.from_str(_line(path, _PRIVATE))
    except IdentityError as error:
        raise KitError(f"{path} holds no private key of the makers; medge kit key has made it") from error


def _line(path: Path, begins: str) -> str:
    try:
        lines = read_small(path, 1 << 16).decode().split()
    except UnicodeDecodeError as error:
        raise KitError(f"{path} holds no key of the makers, which is a line that begins with {begins}") from error
    found = [line for line in lines if line.startswith(begins)]
    if len(found) != 1:
        raise KitError(f"{path} holds {len(found) or 'no'} lines that begin with {begins}; give a file with one key")
    return found[0]


def text_of(collected: Collected) -> str:
    """What is shown, and what is sealed: the same text."""
    return json.dumps(collected.as_dict(), indent=1, ensure_ascii=True) + "\n"


def seal(text: str, to: x25519.Recipient, out: Path, *, force: bool = False) -> None:
    """Write a text so that only the makers can read it.

    Raises:
        StorageError: it can't be written.
    """
    import pyrage

    refuse_existing(out, force=force)
    with atomic_file(out) as partial:
        partial.write_bytes(pyrage.encrypt(text.encode(), [to]))


def unseal(path: Path, key: x25519.Identity) -> Collected:
    """Read a sealed file.

    Raises:
        KitError: it is none, sealed to another key, was changed, or holds something else.
    """
    import pyrage

    try:
        content = pyrage.decrypt(read_small(path, MOST_BYTES), [key])
    except pyrage.DecryptError as error:
        raise KitError(f"{path} can't be opened with this key: it is sealed to another one, or was changed") from error
    return read(content, path)


def read(content: bytes, path: Path) -> Collected:
    """What an opened file holds.

    Raises:
        KitError: it is nothing that `medge kit collect` has written.
    """
    try:
        return build(Collected, parse(content))
    except ValueError as error:
        raise KitError(f"{path} holds nothing that medge kit collect has written: {error}") from error
