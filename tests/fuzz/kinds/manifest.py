"""`manifest.json` with changed fields or bytes, and its seal made to fit."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from ..base import ENCODER, ONNX_READER, READER
from ..bundles import MANIFEST, case_bytes, run_case
from ..mutate import byte_edits, edit_json, get, json_edits
from ..verdict import Kind

PROFILES = ("eval-tf", "hf-bicubic", "finetune-pil", "serving-pad")
# Fields that other bundles have with other values: only a measurement tells them from the right ones.
_FREE: dict[tuple[str, ...], Any] = {
    ("model", "logit_scale"): lambda value: _number(value) and 0 < value <= 1000,
    ("model", "logit_bias"): lambda value: _number(value) and abs(value) <= 1000,
    ("model", "sigmoid"): lambda value: isinstance(value, bool),
    ("preprocessing", "profile"): lambda value: value in PROFILES,
    ("preprocessing", "mean"): lambda value: _three(value) and all(0 <= one <= 1 for one in value),
    ("preprocessing", "std"): lambda value: _three(value) and all(0 < one <= 1 for one in value),
    ("labels",): lambda _: True,
}  # fmt: skip


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _three(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_number, value))


def make(rng: random.Random, base: Path) -> bytes:
    bundle = rng.choice((ENCODER, ENCODER, READER, ONNX_READER))
    data = (base / bundle / MANIFEST).read_bytes()
    if rng.random() < 0.85:
        return case_bytes(bundle, MANIFEST, "json", json_edits(rng, json.loads(data)))
    return case_bytes(bundle, MANIFEST, "bytes", byte_edits(rng, data))


def run(content: bytes, place: Path, base: Path) -> None:
    old = json.loads((base / json.loads(content)["bundle"] / MANIFEST).read_bytes())
    run_case(content, place, base, lambda case: _free(old, case))


def _free(old: dict[str, Any], case: dict[str, Any]) -> bool:
    """Whether all that is changed, beside what changes no result, may have the value that it has now."""
    if case["do"] != "json":
        from ..bundles import EDITORS

        try:
            new = json.loads(EDITORS["bytes"](json.dumps(old, indent=2, ensure_ascii=False).encode(), case["edits"]))
        except ValueError:
            return False
    else:
        new = edit_json(old, case["edits"])
    changed = [path for path in _FREE if _at(old, path) != _at(new, path)]
    return bool(changed) and all(_FREE[path](_at(new, path)) for path in changed)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    try:
        return get(tree, path)
    except (KeyError, TypeError, IndexError):
        return None


KIND = Kind(make, run, modules=("onnxruntime", "llama_cpp.llama_cpp", "llama_cpp.mtmd_cpp", "medge.runtime.generator.generator",
                                "medge.runtime.encoder.encoder", "medge.runtime.golden.encoder",
                                "medge.runtime.golden.generator",
                                "medge.runtime.commands.inspect", "rich.table", "jinja2.sandbox",
                                "medge.runtime.generator.template_sandbox",
                                "medge.runtime.pictures.dicom"),
            share=3)  # fmt: skip
