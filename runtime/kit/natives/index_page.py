"""A folder of wheels with a page of links to them, as `pip install --find-links` reads it."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ...bundles.atomic import atomic_file, replace_text
from ...bundles.manifest import sha256_file

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Wheels for medge</title></head>
<body>
<h1>Wheels for medge</h1>
<p><code>pip install --find-links THIS-PAGE 'medge[llm]'</code> needs no compiler.
pip checks each file's SHA-256, which stands in its link.</p>
<ul>
{links}
</ul>
</body>
</html>
"""


def write_index(wheels: Iterable[Path], folder: Path) -> Path:
    """Copy wheels to a folder, and write its page of links.

    Args:
        wheels: the files.
        folder: made where it is not there; wheels in it that are not among these are removed.

    Returns:
        The page: `index.html` in the folder.
    """
    chosen = {wheel.name: wheel for wheel in wheels}
    folder.mkdir(parents=True, exist_ok=True)
    for there in folder.glob("*.whl"):
        if there.name not in chosen:
            there.unlink()
    links = []
    for name, wheel in sorted(chosen.items()):
        with atomic_file(folder / name) as partial:
            shutil.copyfile(wheel, partial)
        address = f"{quote(name)}#sha256={sha256_file(folder / name)}"
        links.append(f'<li><a href="{html.escape(address)}">{html.escape(name)}</a></li>')
    page = folder / "index.html"
    replace_text(page, _PAGE.format(links="\n".join(links)))
    return page
