"""Who signs a kit: the key, and what devices learn of keys from the stick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...bundles.claim import scratch_folder
from ...bundles.manifest import SIGNATURE as BUNDLE_SIGNATURE
from ...bundles.manifest import sha256_file
from ...errors import KitError, TrustError
from ...trust.documents import Rotation, read_revocations
from ...trust.keys import PUBLIC, PrivateKey, PublicKey
from ...trust.signing import sign_bundle, sign_file
from ...trust.trust import REVOKED, ROTATED
from ..layout import MAKERS, TRUST
from ..writing import Content


@dataclass(frozen=True)
class Makers:
    """Those who sign.

    Attributes:
        key: signs.
        public: the public key that belongs to it, which the technician compares.
        carried: a folder with keys that older ones have signed, and a revocation list; None for nothing.
    """

    key: PrivateKey
    public: PublicKey
    carried: Path | None = None

    @classmethod
    def read(cls, key: Path, carried: Path | None, ask: Callable[[], str]) -> Makers:
        """Read the private key, and the public one beside it.

        Args:
            key: the private key's file.
            carried: what the stick shall bring.
            ask: gives the passphrase.

        Raises:
            TrustError: it is none, it lies in a kit or a bundle, or the public key beside it is missing or another's.
        """
        private, place = PrivateKey.read(key, ask), key.with_suffix(PUBLIC)
        public = PublicKey.read(place)
        if public.pem.strip() != private.public_pem.strip():
            raise TrustError(f"{place} is not the public key of {key}; put the right one beside it")
        return cls(private, public, carried)

    def sign(self, path: Path) -> bytes:
        """The signature of a file."""
        return sign_file(path, self.key).read_bytes()

    def bundle_signature(self, folder: Path) -> Content:
        """A bundle's signature: the one that it has, or one of these makers.

        Raises:
            BundleError: the bundle is not whole.
        """
        if (folder / BUNDLE_SIGNATURE).exists():
            return folder / BUNDLE_SIGNATURE
        with scratch_folder() as scratch:
            return sign_bundle(folder, self.key, scratch / BUNDLE_SIGNATURE).read_bytes()

    def beside(self) -> Iterator[tuple[str, Content]]:
        """(path on the stick, content) of what devices learn.

        Raises:
            TrustError: a file of it is damaged.
            KitError: there is nothing of the kind in the folder.
        """
        yield MAKERS, self.public.to_text().encode()
        if self.carried is None:
            return
        rotations = sorted(self.carried.glob(f"*{ROTATED}"))
        for path in rotations:
            Rotation.read(path)
            yield f"{TRUST}/{path.name}", path
        if (self.carried / REVOKED).exists():
            read_revocations(self.carried / REVOKED)
            yield f"{TRUST}/{REVOKED}", self.carried / REVOKED
        elif not rotations:
            raise KitError(
                f"{self.carried} holds no *{ROTATED} and no {REVOKED}, so devices would learn nothing from it"
            )

    def refuse_among(self, pieces: dict[str, Content]) -> None:
        """Refuse to put the private key onto the stick.

        Raises:
            KitError: it is one of the contents.
        """
        content = pieces.get(sha256_file(self.key.path))
        if content is not None:
            where = content if isinstance(content, Path) else "a file of the kit"
            raise KitError(f"{where} is the private key {self.key.path}: take it out of what goes onto the stick")

    def refuse_on_stick(self, out: Path) -> None:
        """Refuse a private key that lies where the kit goes: whoever finds the stick could sign in the makers' name.

        Raises:
            KitError: it lies in the kit's folder, or on the medium that the kit is written to, unless that is the machine's own.
        """
        place = out.absolute()
        while not place.exists():
            place = place.parent
        stick = place.resolve()
        while not stick.is_mount() and stick != stick.parent:
            stick = stick.parent
        real = self.key.path.resolve()
        own = stick == Path("/") or Path.home().resolve().is_relative_to(stick)
        if out.resolve() in real.parents or (not own and stick in real.parents):
            raise KitError(
                f"the private key {self.key.path} lies on the stick: whoever finds the stick could sign kits in your name; move "
                "it to this machine, or to a medium that never leaves you"
            )
