"""Label banks, golden results and probes: safetensors files with other heads, shapes, types and values; and `tokenizer.json`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..base import ENCODER, READER
from ..bundles import EDITORS, case_bytes, file_of, reference, run_case
from ..mutate import byte_edits, edit_json, json_edits
from ..verdict import Kind, WrongError
from . import manifest

_TYPES = ("F32", "F16", "BF16", "F64", "I8", "U8", "I64", "BOOL", "F8_E4M3", "X", "")
PROBE = "probe.safetensors"


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack_from("<Q", data)[0]
    head: dict[str, Any] = json.loads(data[8 : 8 + size])
    return head, data[8 + size :]


def join(head: Any, body: bytes) -> bytes:
    try:
        text = json.dumps(head, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def make(rng: random.Random, base: Path) -> bytes:
    bundle, name = rng.choice((
        (ENCODER, file_of(base, ENCODER, "labels")), (ENCODER, file_of(base, ENCODER, "labels")), (ENCODER, file_of(base,
        ENCODER, "golden")),
        (READER, file_of(base, READER, "golden")), (ENCODER, PROBE), (ENCODER, file_of(base, ENCODER, "tokenizer")),
    ))  # fmt: skip
    path = base / PROBE if name == PROBE else base / bundle / name
    data = path.read_bytes()
    if rng.random() < 0.15:
        return case_bytes(bundle, name, "bytes", byte_edits(rng, data, head=600))
    if name.endswith(".json"):
        return case_bytes(bundle, name, "json", json_edits(rng, json.loads(data), most=12))
    head, _ = split(data)
    return case_bytes(bundle, name, "tensors", [_edit(rng, head) for _ in range(rng.choice((1, 1, 2)))])


def _edit(rng: random.Random, head: dict[str, Any]) -> list[Any]:
    name = rng.choice([key for key in head if key != "__metadata__"])
    action = rng.choice(
        (
            "head",
            "head",
            "dtype",
            "shape",
            "reshape",
            "values",
            "values",
            "rename",
            "delete",
            "metadata",
            "metadata",
            "add",
        )
    )
    if action == "head":
        return [action, json_edits(rng, head)]
    if action == "dtype":
        return [action, name, rng.choice(_TYPES)]
    shape = head[name]["shape"]
    if action in ("shape", "reshape"):
        return [
            action,
            name,
            rng.choice(
                (
                    [],
                    [0],
                    [*shape, 1],
                    shape[::-1],
                    shape[1:],
                    [n + 1 for n in shape],
                    [2**40],
                    [-1],
                    [n // 2 for n in shape],
                )
            ),
        ]
    if action == "values":
        return [action, name, rng.choice(("nan", "inf", "zero", "huge", "negated", "one nan"))]
    if action == "rename":
        return [action, name, rng.choice(("x", "", "embeddings", "ids", "weight"))]
    if action == "metadata" and "__metadata__" in head:
        key = rng.choice(list(head["__metadata__"]))
        value = head["__metadata__"][key]
        try:
            tree = json.loads(value)
            text = json.dumps(
                edit_json({"x": tree}, [[e[0], ["x", *e[1]], *e[2:]] for e in json_edits(rng, tree)])["x"]
            )
        except (ValueError, TypeError, IndexError, KeyError):
            text = rng.choice(("", "x", "[]", "{}", "null", "1", "{" * 100_000, '"a"'))
        return [action, key, text]
    return ["delete", name] if action != "add" else [action, "extra", [3]]


def edit(data: bytes, edits: list[Any]) -> bytes:
    head, body = split(data)
    for action, *rest in edits:
        if action == "head":
            head = edit_json(head, rest[0])
            if not isinstance(head, dict):
                return join(head, body)
        elif action == "metadata":
            head.setdefault("__metadata__", {})[rest[0]] = rest[1]
        elif action == "add":
            head[rest[0]] = {"dtype": "U8", "shape": rest[1], "data_offsets": [len(body), len(body) + 3]}
            body += b"abc"
        elif rest[0] in head:
            with contextlib.suppress(
                KeyError, TypeError, IndexError, ValueError
            ):  # of a head that an earlier change has broken
                head, body = _apply(head, body, action, rest)
    return join(head, body)


def _apply(head: dict[str, Any], body: bytes, action: str, rest: list[Any]) -> tuple[dict[str, Any], bytes]:
    name = rest[0]
    entry = head[name]
    if action == "dtype":
        entry["dtype"] = rest[1]
    elif action == "shape":
        entry["shape"] = rest[1]
    elif action == "rename":
        head[rest[1]] = head.pop(name)
    elif action == "delete":
        del head[name]
    else:
        tensors = {
            key: body[one["data_offsets"][0] : one["data_offsets"][1]]
            for key, one in head.items()
            if key != "__metadata__"
        }
        size = {"F32": 4, "I64": 8, "U8": 1}.get(entry["dtype"], 1)
        if action == "reshape":  # its bytes fit the new shape
            count = int(np.prod([max(n, 0) for n in rest[1]], dtype=float))
            tensors[name] = (tensors[name] * 8 + b"\0" * 8)[: min(count * size, 1 << 20)]
            entry["shape"] = rest[1]
        elif entry["dtype"] == "F32":
            values = np.frombuffer(tensors[name], np.float32).copy()
            fill = {"nan": np.nan, "inf": np.inf, "zero": 0.0, "huge": 3e38}.get(rest[1])
            if fill is not None:
                values[:] = fill
            elif rest[1] == "negated":
                values = -values
            else:
                values[:1] = np.nan
            tensors[name] = values.tobytes()
        at = 0
        for key, data in tensors.items():
            head[key]["data_offsets"] = [at, at + len(data)]
            at += len(data)
        body = b"".join(tensors.values())
    return head, body


EDITORS["tensors"] = edit


def write_probe(base: Path) -> None:
    """A probe of the encoder's bundle, with random weights."""
    from medge.runtime.encoder.linear_probe import Probe
    from medge.runtime.kinds import load

    encoder = load(base / ENCODER, allow_failed_parity=True)
    rng = np.random.default_rng(0)
    size = encoder.facts.embedding_size
    weight = rng.standard_normal((3, size)).astype(np.float32)
    Probe(
        ("a", "b", "c"), weight, np.zeros(3, np.float32), encoder.fingerprint, {"counts": {"a": 2, "b": 2, "c": 3}}
    ).save(base / PROBE)


def run(content: bytes, place: Path, base: Path) -> None:
    case = json.loads(content)
    if case["file"] == PROBE:
        _run_probe(case, place, base)
    else:
        run_case(content, place, base, _may_differ)


def _may_differ(case: dict[str, Any]) -> bool:
    """Whether the change is one of values alone. Embeddings of unit length and texts are the exporter's own affair; a tokenizer's
    many switches, too."""
    if case["do"] == "json":
        return True
    return case["do"] == "bytes" or all(change[0] in ("values", "metadata", "head") for change in case["edits"])


def _run_probe(case: dict[str, Any], place: Path, base: Path) -> None:
    from medge.runtime.encoder.linear_probe import Probe

    path, sound = place / PROBE, (base / PROBE).read_bytes()
    content = EDITORS[case["do"]](sound, case["edits"])
    path.write_bytes(_hashed(content) if case["do"] == "tensors" else content)
    embeddings = reference(base, ENCODER)["image"]
    found = Probe.load(path, split(sound)[0]["__metadata__"]["fingerprint"])
    scores = found.predict(embeddings)
    if not np.isfinite(scores).all() or scores.shape != (1, len(found.labels)):
        raise WrongError(f"a probe gives {scores}")
    if not all(isinstance(label, str) for label in found.labels):
        raise WrongError(f"a probe's labels are {found.labels!r}"[:200])
    json.dumps(found.facts)


def _hashed(content: bytes) -> bytes:
    """A probe with the hash of its own tensors."""
    try:
        head, body = split(content)
        parts = [body[slice(*head[name]["data_offsets"])] for name in sorted(("weight", "bias"))]
        head["__metadata__"]["sha256"] = hashlib.sha256(b"".join(parts)).hexdigest()
        return join(head, body)
    except (ValueError, KeyError, TypeError):
        return content


KIND = Kind(make, run, modules=(*manifest.KIND.modules, "medge.runtime.encoder.linear_probe"), share=2)
