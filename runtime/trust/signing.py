"""Sign a bundle or a file, in model-signing's format."""

from __future__ import annotations

from pathlib import Path

from ..bundles.atomic import replace_bytes
from ..bundles.bundle import Bundle
from ..bundles.manifest import MANIFEST, SIGNATURE, sha256_file
from ..errors import TrustError
from . import statement
from .envelope import IN_TOTO
from .files import found_files
from .keys import PrivateKey


def sign_file(path: Path, key: PrivateKey, signature: Path | None = None) -> Path:
    """Sign one file.

    Args:
        path: the file.
        key: signs it.
        signature: where the signature goes; the file's name with the ending `.sig` where None, `kit.sig` for `kit.json`.

    Returns:
        Where the signature lies.

    Raises:
        TrustError: it is no regular file.
        StorageError: the file system refused.
    """
    if path.is_symlink() or not path.is_file():
        raise TrustError(f"{path} is no regular file; give the file that is to be signed")
    to = signature or path.with_suffix(".sig")
    if to == path:
        raise TrustError(f"{path} is a signature's name; give another place for the signature")
    payload = statement.make(path.name, {statement.ITSELF: sha256_file(path)})
    replace_bytes(to, key.sign(payload, IN_TOTO).to_json())
    return to


def sign_bundle(folder: Path, key: PrivateKey, signature: Path | None = None) -> Path:
    """Sign a bundle: every file of it, whose hashes are checked first.

    Args:
        folder: the bundle.
        key: signs it.
        signature: where the signature goes; in the bundle, as `model.sig`, where None. Elsewhere it is for a copy that holds the
            manifest's files and no others.

    Returns:
        Where the signature lies.

    Raises:
        BundleError: the bundle is not whole.
        TrustError: there are files that its manifest doesn't list.
        StorageError: the file system refused.
    """
    bundle = Bundle.open(folder, allow_failed_parity=True)
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    listed[MANIFEST] = sha256_file(folder / MANIFEST)
    for path in found_files(folder):
        if path not in listed and signature is None:
            raise TrustError(f"{folder} holds {path}, which is none of its files; take it away, then sign")
    payload = statement.make(folder.resolve().name, listed, ignored=(SIGNATURE,))
    to = signature or folder / SIGNATURE
    replace_bytes(to, key.sign(payload, IN_TOTO).to_json())
    return to
