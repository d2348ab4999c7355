"""Which bundles a station uses: those that its device trusts. Their bytes are hashed at the first opening, not each time."""

from __future__ import annotations

import json
from pathlib import Path

from ...bundles.atomic import replace_text
from ...bundles.bundle import Bundle
from ...bundles.manifest import SIGNATURE, sha256_file, sha256_json
from ...json_text import loads
from ...trust.verifying import signed_manifest


class Admission:
    """Lets bundles in.

    The signature and what the manifest says are looked at each time, which takes milliseconds, so that a key that was revoked
    meanwhile opens nothing more. That every byte is what was signed is remembered, by the manifest's and the signature's hashes
    and by each file's number, size and time of change.

    Args:
        trust: the device's trust folder; None where no signature is looked at, and each opening hashes.
        memory: the file that remembers what was hashed; None for none.
    """

    def __init__(self, trust: Path | None = None, memory: Path | None = None) -> None:
        self._trust, self._memory = trust, memory

    def check(self, folder: Path) -> None:
        """Look at a bundle before it is offered; none of its files but the manifest is read.

        Raises:
            TrustError: it is not signed by a key that the device trusts.
        """
        signed_manifest(folder, self._trust)

    def open(self, folder: Path, *, allow_failed_parity: bool) -> Bundle:
        """Open a bundle; raises as `Bundle.open` and `check` do."""
        wanted = signed_manifest(folder, self._trust)
        if wanted is None or self._memory is None:
            return Bundle.open(folder, allow_failed_parity=allow_failed_parity, manifest_sha256=wanted)
        looked = Bundle.open(folder, verify=False, allow_failed_parity=allow_failed_parity, manifest_sha256=wanted)
        stamp = _stamp(looked, wanted)
        if self._seen().get(folder.name) == stamp:
            return looked
        bundle = Bundle.open(folder, allow_failed_parity=True, manifest_sha256=wanted)
        if _stamp(bundle, wanted) == stamp:
            replace_text(self._memory, json.dumps({**self._seen(), folder.name: stamp}, indent=1) + "\n")
        return bundle

    def _seen(self) -> dict[str, str]:
        """{bundle's folder: what was hashed}; nothing where the file is damaged: then all is hashed again."""
        assert self._memory is not None
        try:
            found = loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _stamp(bundle: Bundle, manifest: str) -> str:
    """Changes with the manifest, the signature, or any file's number, size or time of change; the disk's number may change."""
    signature = sha256_file(bundle.folder / SIGNATURE)
    files = {path: found and found[1:] for path, found in bundle.checked.items()}
    return sha256_json([manifest, signature, files])
