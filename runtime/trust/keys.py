"""Keys: a private one that signs, and stays with its makers; a public one that devices trust.

ECDSA on P-256 with SHA-256, which model-signing, OpenSSL and every Android since 8 have; keys on P-384 (with SHA-384) are taken,
too. A public key's file is PEM with two lines before it, which readers of PEM pass over. A key's fingerprint is the SHA-256
of its PEM, as model-signing writes it into signatures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundles.atomic import replace_text, replace_with_mode
from ..bundles.manifest import MANIFEST
from ..bundles.origin import made_at
from ..errors import MissingExtraError, StorageError, TrustError, one_line
from ..json_text import holds_controls
from .envelope import Envelope, read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

MOST_BYTES = 16 << 10  # of a key's file
LONGEST_NAME = 100
PUBLIC, PRIVATE = ".pub", ".key"
# A folder with one of these is a bundle, or a kit: it is carried to others.
CARRIED = (MANIFEST, "kit.json")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\n(?:[A-Za-z0-9+/=]+\n)+-----END PUBLIC KEY-----\n")
_FACTS = re.compile(rb"Name: ([^\n]*)\nCreated: (\d{4}-\d\d-\d\d)\n")


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        name: what its maker calls it; says nothing about who that is.
        created: day, as YYYY-MM-DD.
        pem: SubjectPublicKeyInfo.
    """

    name: str
    created: str
    pem: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM, 64 hexadecimal digits."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    def to_text(self) -> str:
        """The content of its file."""
        return f"Name: {self.name}\nCreated: {self.created}\n{self.pem}"

    def write(self, path: Path) -> None:
        """Write its file.

        Raises:
            StorageError: the file system refused.
        """
        replace_text(path, self.to_text())

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a public key's file, or any PEM of one; the latter is named for its file.

        Raises:
            TrustError: it is none, or not on P-256 or P-384.
        """
        content = read_small(path, MOST_BYTES).replace(b"\r\n", b"\n")
        if b"PRIVATE KEY-----" in content:
            raise TrustError(f"{path} is a private key, which only its maker may have; give the public one (*{PUBLIC})")
        found = _PEM.search(content if content.endswith(b"\n") else content + b"\n")
        if found is None:
            raise TrustError(f"{path} is no public key in PEM; copy it again")
        facts = _FACTS.search(content[: found.start()])
        name = facts[1].decode("utf-8", "replace") if facts else path.stem
        return cls.of(name, facts[2].decode() if facts else "", found[0].decode(), path)

    @classmethod
    def of(cls, name: str, created: str, pem: str, path: Path) -> PublicKey:
        """A key of these facts; `path` is for the error.

        Raises:
            TrustError: the PEM is no key on P-256 or P-384, or not in the one form in which a key is written.
        """
        key = cls(checked_name(name, path), created, pem)
        if _pem_of(key._loaded(path)) != pem:
            raise TrustError(f"{path} holds a public key in another form than the usual one; write it again")
        return key

    def _loaded(self, path: Path) -> EllipticCurvePublicKey:
        _needed()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(self.pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TrustError(f"{path} is no public key; copy it again") from error
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise TrustError(f"{path} is a key of another kind than medge uses; make one with 'medge keys new'")
        return key

    def has_signed(self, envelope: Envelope) -> bool:
        """Whether this key's owner has signed what an envelope holds."""
        from cryptography.exceptions import InvalidSignature

        key = self._loaded(Path(self.name))
        try:
            key.verify(envelope.signature, envelope.signed, _algorithm(key))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs. Its file is PEM (PKCS #8), readable by its owner only."""

    _key: EllipticCurvePrivateKey
    path: Path

    @classmethod
    def make(cls, path: Path, name: str, *, passphrase: str | None = None, created: str | None = None) -> PublicKey:
        """Make a key pair: `path` becomes the private key, the public one lies beside it with the ending `.pub`.

        Args:
            path: of the private key.
            name: of the key.
            passphrase: encrypts the private key's file; None leaves it as it is.
            created: day, as YYYY-MM-DD; today where None.

        Raises:
            TrustError: the place is within a bundle or a kit, or there is a key already; the name is none.
            StorageError: the file system refused.
        """
        _needed()
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            KeySerializationEncryption,
            NoEncryption,
            PrivateFormat,
        )  # fmt: skip

        public_path = path.with_suffix(PUBLIC)
        refuse_carried(path)
        checked_name(name, path)
        for one in (path, public_path):
            if one == path and one.suffix == PUBLIC:
                raise TrustError(
                    f"{path} would be the public key's name; give another, such as {path.with_suffix(PRIVATE)}"
                )
            if one.exists() or one.is_symlink():
                raise StorageError(f"{one} exists, and a key is never replaced; choose another name")
        key = ec.generate_private_key(ec.SECP256R1())
        hidden: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            hidden = BestAvailableEncryption(passphrase.encode())
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_with_mode(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        public = PublicKey(name, created or today(), _pem_of(key.public_key()))
        public.write(public_path)
        return public

    @classmethod
    def read(cls, path: Path, ask: Callable[[], str] | None = None) -> PrivateKey:
        """Read a private key.

        Args:
            path: its file.
            ask: gives the passphrase; only called where there is one.

        Raises:
            TrustError: it is none, not on P-256 or P-384, lies within a bundle or a kit, or the passphrase is wrong.
        """
        _needed()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        refuse_carried(path)
        content = read_small(path, MOST_BYTES)
        secret: bytes | None = None
        if b"ENCRYPTED" in content:
            if ask is None:
                raise TrustError(f"{path} is protected by a passphrase; give it")
            secret = ask().encode()
        try:
            key = load_pem_private_key(content, secret)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            wrong = "can't be read with this passphrase" if secret is not None else "is no private key in PEM"
            raise TrustError(f"{path} {wrong}") from error
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
            raise TrustError(f"{path} is a key of another kind than medge uses; make one with 'medge keys new'")
        return cls(key, path)

    @property
    def public_pem(self) -> str:
        """The public key that belongs to it."""
        return _pem_of(self._key.public_key())

    def sign(self, payload: bytes, payload_type: str) -> Envelope:
        """An envelope with this payload, signed."""
        hint = hashlib.sha256(self.public_pem.encode()).hexdigest()
        unsigned = Envelope(hint, payload_type, payload, b"")
        return Envelope(
            hint, payload_type, payload, self._key.sign(unsigned.signed, _algorithm(self._key, repeatable=True))
        )


def refuse_carried(path: Path) -> None:
    """Refuse a private key within a bundle or a kit, which others get.

    Raises:
        TrustError: it is there.
    """
    for folder in path.absolute().resolve().parents:
        if any((folder / name).exists() for name in CARRIED):
            raise TrustError(f"{path} would lie in {folder}, which is given to others; keep private keys elsewhere")


def today() -> str:
    """The day, as YYYY-MM-DD; of SOURCE_DATE_EPOCH where that is set, so that what is made twice is the same."""
    return made_at().date().isoformat()


def checked_name(name: str, path: Path) -> str:
    """A key's name, which people read.

    Raises:
        TrustError: it is empty, too long, or holds what a terminal would obey.
    """
    if not name.strip() or len(name) > LONGEST_NAME or holds_controls(name):
        raise TrustError(
            f"{path}: a key's name is one line of at most {LONGEST_NAME} characters, not '{one_line(name, 60)}'"
        )
    return name


_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384"}


def _algorithm(key: EllipticCurvePrivateKey | EllipticCurvePublicKey, *, repeatable: bool = False) -> Any:
    """ECDSA; repeatable after RFC 6979: the same file has the same signature, and no bad random number gives the key away."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    return ECDSA(getattr(hashes, _HASHES[key.curve.name])(), deterministic_signing=repeatable)


def _pem_of(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _needed() -> None:
    """Raises MissingExtraError where the package is not installed that computes signatures."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("cryptography", "trust") from error
