"""Where the reports of `medge parity` go: into the bundle, or into a folder that leaves the bundle as it is."""

from __future__ import annotations

from pathlib import Path

from ...runtime.bundles.atomic import replace_text
from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.manifest import Manifest


def put(bundle: Bundle, manifest: Manifest, texts: dict[str, tuple[str, str]], out: Path | None) -> Bundle:
    """Write reports.

    Args:
        bundle: what was measured.
        manifest: its manifest with the reports' summaries.
        texts: {path: (role, text)}.
        out: a folder that gets the texts; where None, the bundle gets them and the manifest.

    Returns:
        the bundle as it is now.

    Raises:
        StorageError: the file system refused.
    """
    if out is None:
        return bundle.amend(manifest, texts)
    for path, (_, text) in texts.items():
        replace_text(out / path, text)
    return bundle
