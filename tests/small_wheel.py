"""A wheel of a few lines, with what wheels have: modules, a program, and data for two places."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def write_wheel(folder: Path, name: str = "tiny", module: str = "tiny.py", content: bytes = b"ANSWER = 42\n") -> Path:
    """Write NAME-1.0-py3-none-any.whl."""
    about = f"{name}-1.0.dist-info"
    members = {
        module: content,
        f"{name}-1.0.data/platlib/{name}_more.py": b"MORE = 43\n",
        f"{name}-1.0.data/scripts/{name}-script": b"#!python\nprint(42)\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n".encode(),
    }
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}"
        for path, body in members.items()
    ]
    members[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,", ""]).encode()
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, body in members.items():
            archive.writestr(path, body)
    return wheel
