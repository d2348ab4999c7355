"""What keys sign beside files: a new key that is to be trusted (rotation), and a list of keys that no longer are (revocation).

Each is a signature file whose payload has a type of its own, so that neither is ever taken for the other, or for a bundle's.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from msgspec import Meta

from ..bundles.bounds import Sha256
from ..bundles.typed_json import build, parse
from ..errors import TrustError
from .envelope import Envelope, read_small
from .keys import LONGEST_NAME, PrivateKey, PublicKey, today

ROTATION, REVOCATIONS = "application/vnd.medge.key+json", "application/vnd.medge.revocations+json"
Day = Annotated[str, Meta(pattern=r"\A(?:\d{4}-\d\d-\d\d)?\Z")]
Counter = Annotated[int, Meta(ge=1, le=2**53)]
Reason = Annotated[str, Meta(max_length=500)]
T = TypeVar("T")


@dataclass(frozen=True)
class NewKey:
    """The payload of a rotation: whoever trusts the key that signed it trusts this one as well."""

    name: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
    created: Day
    key: Annotated[str, Meta(max_length=4000)]  # PEM
    format: Literal[1] = 1


@dataclass(frozen=True)
class Revoked:
    """A key that is trusted no longer.

    Attributes:
        key: its fingerprint.
        reason: for people.
        keeps: fingerprints of the keys that it signed and that stay trusted; all others that it signed go with it.
    """

    key: Sha256
    reason: Reason = ""
    keeps: tuple[Sha256, ...] = ()


@dataclass(frozen=True)
class Revocations:
    """A list of revoked keys.

    Attributes:
        counter: grows with each list, so that an older one is known as such without a clock.
        created: day, as YYYY-MM-DD.
        revoked: the keys; a later list holds all of an earlier one's.
    """

    counter: Counter
    created: Day
    revoked: tuple[Revoked, ...]
    format: Literal[1] = 1

    def keeps(self) -> dict[str, frozenset[str]]:
        """{fingerprint of a revoked key: those of its keys that stay}."""
        return {one.key: frozenset(one.keeps) for one in self.revoked}


@dataclass(frozen=True)
class Rotation:
    """A new key, and who vouches for it."""

    by: str
    key: PublicKey
    envelope: Envelope
    path: Path

    @classmethod
    def read(cls, path: Path) -> Rotation:
        """Read a rotation; its signature is checked by whoever knows the key `by`.

        Raises:
            TrustError: it is none.
        """
        envelope = _envelope(path, ROTATION, "a new key")
        body = _body(NewKey, envelope, path)
        return cls(envelope.hint, PublicKey.of(body.name, body.created, body.key, path), envelope, path)


def sign_rotation(new: PublicKey, old: PrivateKey) -> bytes:
    """The content of a rotation: `old` vouches for `new`."""
    return old.sign(_json(NewKey(new.name, new.created, new.pem)), ROTATION).to_json()


def read_revocations(path: Path) -> tuple[Revocations, Envelope]:
    """Read a revocation list; its signature is checked by whoever knows the key.

    Raises:
        TrustError: it is none, or names a key twice.
    """
    envelope = _envelope(path, REVOCATIONS, "a list of revoked keys")
    found = _body(Revocations, envelope, path)
    if len(found.keeps()) != len(found.revoked):
        raise TrustError(f"{path} names a key twice; make the list again with 'medge keys revoke'")
    return found, envelope


def sign_revocations(old: Revocations | None, more: Revoked, key: PrivateKey) -> bytes:
    """The content of the list that follows `old`: it holds one more key."""
    kept = () if old is None else tuple(one for one in old.revoked if one.key != more.key)
    counter = 1 if old is None else old.counter + 1
    return key.sign(_json(Revocations(counter, today(), (*kept, more))), REVOCATIONS).to_json()


def _envelope(path: Path, kind: str, what: str) -> Envelope:
    envelope = Envelope.parse(read_small(path), path)
    if envelope.payload_type != kind:
        raise TrustError(f"{path} is a signature, but not of {what}")
    return envelope


def _body(kind: type[T], envelope: Envelope, path: Path) -> T:
    try:
        return build(kind, parse(envelope.payload))
    except ValueError as error:
        raise TrustError(f"{path} is damaged, or of a newer medge ({error})") from error


def _json(body: NewKey | Revocations) -> bytes:
    return json.dumps(dataclasses.asdict(body), indent=1).encode()
