"""Bundles that were damaged on their way: bytes changed, files cut, swapped or gone, and no hash made to fit. All are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ..base import ENCODER, ONNX_READER, READER
from ..bundles import MANIFEST, case_bytes, files_of, lay_out
from ..mutate import byte_edits, edit_bytes
from ..verdict import Kind, WrongError
from . import manifest


def make(rng: random.Random, base: Path) -> bytes:
    bundle = rng.choice((ENCODER, READER, ONNX_READER))
    name = rng.choice([MANIFEST, *(entry["path"] for entry in files_of(base, bundle))])
    if rng.random() < 0.1:
        return case_bytes(bundle, name, "gone", [])
    return case_bytes(bundle, name, "bytes", byte_edits(rng, (base / bundle / name).read_bytes()))


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.kinds import load

    case = json.loads(content)
    old = (base / case["bundle"] / case["file"]).read_bytes()
    new = None if case["do"] == "gone" else edit_bytes(old, case["edits"])
    if new == old:
        return
    lay_out(base / case["bundle"], place / "bundle", case["file"], new, seal=False)
    load(place / "bundle", allow_failed_parity=True)
    raise WrongError(f"a bundle with a changed {case['file']} was loaded")


KIND = Kind(make, run, modules=manifest.KIND.modules, batch=100)
