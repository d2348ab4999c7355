"""Whether a bundle or a file is signed by a key that the device trusts, under the device's policy.

Each function obeys the policy: "refuse" raises, "warn" tells by a `TrustWarning` and gives None, "off" looks at nothing and gives
None. So no caller has to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..bundles.manifest import MANIFEST, SIGNATURE, Manifest, sha256_file
from ..errors import MedgeError, TrustError, TrustWarning
from . import statement
from .envelope import IN_TOTO, Envelope, read_small
from .files import found_files
from .trust import Signer, Trust, chosen

T = TypeVar("T")


@dataclass(frozen=True)
class SignedFiles:
    """What a trusted key says of a bundle.

    Attributes:
        signer: whose key.
        files: {path: SHA-256}, the manifest's among them.
    """

    signer: Signer
    files: Mapping[str, str]


def verify_file(path: Path, signature: Path, trust: Trust) -> Signer | None:
    """Who signed a file; None where the policy lets it pass without.

    Args:
        path: the file; it is hashed.
        signature: its signature's file.
        trust: of the device.

    Raises:
        TrustError: by the policy "refuse": no signature, one that does not hold, or of a key that is not trusted.
    """

    def look() -> Signer:
        signer, files = _signed(signature, trust)
        if files.keys() != {statement.ITSELF}:
            raise TrustError(f"{signature} is a bundle's signature, not that of {path}")
        if sha256_file(path) != files[statement.ITSELF]:
            raise TrustError(
                f"{path} is not what {signature.name} was made for: it was changed, or the signature is another file's"
            )
        return signer

    return _by_policy(trust, look, 3)


def verify_bundle(folder: Path, trust: Trust) -> Signer | None:
    """Who signed a bundle, every file of which is hashed; None where the policy lets it pass without.

    Raises:
        TrustError: by the policy "refuse": not signed, by a key that is not trusted, or any file is not what was signed.
        BundleError: its manifest can't be read.
    """

    def look() -> Signer:
        signed = _signed_files(folder, trust)
        for path, digest in signed.files.items():
            if sha256_file(folder / path) != digest:
                raise TrustError(f"{folder}: {path} was changed after it was signed; copy the bundle again")
        return signed.signer

    return _by_policy(trust, look, 3)


def signed_files(folder: Path, trust: Trust) -> SignedFiles | None:
    """What a trusted key says of a bundle, for whoever hashes its files anyway.

    The signature holds, the manifest is what was signed and says of each file what was signed, and nothing else lies there; the
    other files' bytes are not read.

    Raises:
        TrustError, BundleError: as `verify_bundle` does.
    """
    return _by_policy(trust, lambda: _signed_files(folder, trust), 3)


def signed_manifest(folder: str | Path, trust: Trust | str | Path | None) -> str | None:
    """The SHA-256 of a bundle's manifest as a trusted key has signed it, for `Bundle.open`, which hashes
    the other files by the manifest: so each is hashed once.

    Args:
        folder: the bundle.
        trust: the device's trust, or its folder; that of the environment variable MEDGE_TRUST where None.

    Returns:
        None where no signature is asked for, or the policy lets the bundle pass without.

    Raises:
        TrustError, BundleError: as `verify_bundle` does.
    """
    found = chosen(trust)
    if found is None:
        return None
    signed = _by_policy(found, lambda: _signed_files(Path(folder), found), 4)
    return None if signed is None else signed.files[MANIFEST]


def _by_policy(trust: Trust, look: Callable[[], T], depth: int) -> T | None:
    """What `look` gives; `depth` is how many calls above this one the caller is whom a warning is for."""
    if trust.policy == "off":
        return None
    try:
        return look()
    except TrustError as error:
        if trust.policy == "refuse":
            raise
        warnings.warn(
            f"{error}. It is used all the same, as this device's policy is to warn", TrustWarning, stacklevel=depth
        )
        return None


def _signed(signature: Path, trust: Trust) -> tuple[Signer, dict[str, str]]:
    envelope = Envelope.parse(read_small(signature), signature)
    if envelope.payload_type != IN_TOTO:
        raise TrustError(f"{signature} is a signature, but not of files")
    signer = trust.check(envelope, signature)  # before anything of the payload is looked at
    return signer, statement.read(envelope.payload, signature)


def _signed_files(folder: Path, trust: Trust) -> SignedFiles:
    signature = folder / SIGNATURE
    if not signature.is_symlink() and not signature.exists():
        raise TrustError(f"{folder} is not signed, and this device uses signed bundles; ask its maker for a signed one")
    signer, files = _signed(signature, trust)
    if statement.ITSELF in files:
        raise TrustError(f"{signature} is a single file's signature, not this bundle's; copy the bundle again")
    found = set(found_files(folder))
    for path in sorted(found - files.keys()):
        raise TrustError(
            f"{folder} holds {path}, which is not among the files that were signed; take it away or copy again"
        )
    for path in sorted({MANIFEST, *files} - found):
        raise TrustError(f"{folder} lacks {path}, which was signed; copy the bundle again")
    for path in _listed_otherwise(folder, files):
        raise TrustError(f"{folder}: {path} is not what was signed; copy the bundle again")
    return SignedFiles(signer, files)


def _listed_otherwise(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """The files of which a bundle's manifest says something else than was signed; the manifest itself where it was changed.

    A changed manifest is read all the same: where a file was changed and the manifest made to fit, that file is named.
    """
    changed = sha256_file(folder / MANIFEST) != files[MANIFEST]
    try:
        listed = Manifest.read(folder).files
    except MedgeError:
        if not changed:
            raise
        listed = ()
    yield from (entry.path for entry in listed if files.get(entry.path) != entry.sha256)
    if changed:
        yield MANIFEST
