"""A signature file: a Sigstore bundle that holds a DSSE envelope, as OpenSSF's model-signing writes it in its key mode.

    {"mediaType": "...", "verificationMaterial": {"publicKey": {"hint": fingerprint}, "tlogEntries": []},
     "dsseEnvelope": {"payload": base64, "payloadType": type, "signatures": [{"sig": base64, "keyid": ""}]}}

What is signed is not the payload alone but its type and length before it (DSSE's pre-authentication encoding), so that what was
signed as one thing is never taken for another. The hint is signed by nobody: it says which key to try, and nothing more.
"""

from __future__ import annotations

import base64
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundles.typed_json import parse
from ..errors import TrustError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"  # a statement about files
MOST_BYTES = 16 << 20  # a bundle of a thousand files has two hundred thousand
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Envelope:
    """What a signature file holds; nothing of it is checked yet.

    Attributes:
        hint: the fingerprint of the key that is said to have signed it.
        payload_type: what the payload is.
        payload: what is signed.
        signature: DER.
    """

    hint: str
    payload_type: str
    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over; DSSE calls them PAE."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)

    def to_json(self) -> bytes:
        """The content of the signature file."""
        body = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [{"sig": base64.b64encode(self.signature).decode(), "keyid": ""}],
            },
        }
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Envelope:
        """Read the content of a signature file; `path` is for the error.

        Raises:
            TrustError: it is none, or of a form that a key alone can't check (a certificate, a log entry, several signatures).
        """
        try:
            return cls._of(parse(content))
        except ValueError as error:
            raise TrustError(
                f"{path} is no signature that medge reads ({error}); copy it again, or sign again"
            ) from error

    @classmethod
    def _of(cls, body: dict[str, Any]) -> Envelope:
        material, envelope = _fields(
            body, {"mediaType", "verificationMaterial", "dsseEnvelope"}, "verificationMaterial", "dsseEnvelope"
        )
        if body["mediaType"] != MEDIA_TYPE:
            raise ValueError("another media type")
        if material.get("tlogEntries", []) != []:
            raise ValueError("it has entries of a transparency log, which only a network could check")
        (key,) = _fields(material, {"publicKey", "tlogEntries"}, "publicKey", optional={"tlogEntries"})
        hint = key.get("hint")
        if set(key) != {"hint"} or not isinstance(hint, str) or not _FINGERPRINT.fullmatch(hint):
            raise ValueError("no fingerprint of a key")
        _fields(envelope, {"payload", "payloadType", "signatures"})
        signatures = envelope["signatures"]
        if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
            raise ValueError("not one signature")
        (one,) = signatures
        _fields(one, {"sig", "keyid"}, optional={"keyid"})
        if one.get("keyid", "") not in ("", hint):
            raise ValueError("it names two keys")
        if not isinstance(envelope["payloadType"], str):
            raise ValueError("no payload type")
        return cls(hint, envelope["payloadType"], _decoded(envelope["payload"]), _decoded(one["sig"]))


def _fields(
    body: dict[str, Any], names: set[str], *objects: str, optional: set[str] | None = None
) -> list[dict[str, Any]]:
    """Refuse other fields than these; give those that are objects."""
    missing, unknown = names - (optional or set()) - body.keys(), body.keys() - names
    if missing or unknown:
        raise ValueError(f"the field '{min(missing or unknown)[:80]}' is {'missing' if missing else 'unknown'}")
    for name in objects:
        if not isinstance(body[name], dict):
            raise ValueError(f"'{name}' is no object")
    return [body[name] for name in objects]


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no base64")
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError("no base64") from error
    if base64.b64encode(content).decode() != text:  # one text for one content
        raise ValueError("no base64 as it is written")
    return content


def read_small(path: Path, most: int = MOST_BYTES) -> bytes:
    """A regular file's content; its links are not followed.

    Raises:
        TrustError: it is missing, no regular file, too large, or can't be read.
    """
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise TrustError(f"{path} is no regular file; copy it again, without links")
        if facts.st_size > most:
            raise TrustError(f"{path} has {facts.st_size} bytes, at most {most} are read; copy it again")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TrustError(f"{path} is missing") from error
    except OSError as error:
        raise TrustError(f"{path} can't be read ({error.strerror})") from error
