"""GGUF files, language model and projector: keys, vocabulary, tensors, counts and bytes."""

from __future__ import annotations

import copy
import math
import random
import struct
from pathlib import Path
from typing import Any

from ..base import ONNX_READER, READER
from ..bundles import EDITORS, case_bytes, file_of, run_case
from ..gguf_edit import ARRAY, GGUF, STRING, Tensor
from ..mutate import byte_edits, edit_bytes, nasty
from ..verdict import Kind
from . import manifest

# Values in a block, bytes of a block, of ggml's types.
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 12: (256, 144),
           14: (256, 210), 20: (32, 18), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2), 39: (32,
           17)}  # fmt: skip
# Keys whose values other models have otherwise: only a measurement tells. The rest says how the file is to be read, or what the
# manifest says as well.
_FREE = ("rope.freq_base", "rope.scaling", "layer_norm_rms_epsilon", "layer_norm_epsilon", "tokenizer.ggml.scores",
         "tokenizer.ggml.tokens", "image_mean", "image_std", "final_logit_softcapping", "attn_logit_softcapping")  # fmt: skip
_TEMPLATES = ("", "{{ messages }}", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for i in range(9**9) %}{% endfor %}",
              "{{ '%2000000000d' % 1 }}", "{{ 'a'.ljust(10**9) }}", "{{ messages[0]['role'] }}", "{% if",
              "{{ ''.__class__ }}", "x",
              "{{ raise_exception('no') }}", "{{ messages|tojson(indent=10**8) }}", "\n", "{{ 1/0 }}")  # fmt: skip


def make(rng: random.Random, base: Path) -> bytes:
    bundle, role = rng.choice(
        ((READER, "language"), (READER, "language"), (READER, "projector"), (ONNX_READER, "language"))
    )
    name = file_of(base, bundle, role)
    data = (base / bundle / name).read_bytes()
    if rng.random() < 0.1:
        return case_bytes(bundle, name, "bytes", byte_edits(rng, data, head=4000))
    found = GGUF.read(data)
    return case_bytes(bundle, name, "gguf", [_edit(rng, found) for _ in range(rng.choice((1, 1, 1, 2)))])


def _edit(rng: random.Random, found: GGUF) -> list[Any]:
    """One change: [what, where, ...]."""
    key, kind, value = rng.choice(found.keys)
    place = rng.choice(found.tensors)
    action = rng.choice(("set", "set", "set", "type", "delete key", "twice", "member", "cut", "tensor type", "tensor type",
                         "reshape", "shape", "offset", "rename", "delete tensor", "data", "data", "counts", "version",
                         "template",
                         "more tensors", "array type"))  # fmt: skip
    if action == "set":
        return [action, key, _nasty_value(rng, kind, value)]
    if action == "type":
        return [
            action,
            key,
            rng.choice((*range(13), 99)),
            rng.choice((value if kind not in (ARRAY, STRING) else 1, "text", 0)),
        ]
    if action in ("delete key", "twice"):
        return [action, key]
    if action in ("member", "cut", "array type"):
        arrays = [entry for entry in found.keys if entry[1] == ARRAY]
        if not arrays:
            return ["delete key", key]
        key, _, (_, members) = rng.choice(arrays)
        if action == "member":
            at = rng.randrange(len(members)) if members else 0
            return [action, key, at, nasty(rng, members[at] if members else 0)]
        return [
            action,
            key,
            rng.choice((0, 1, len(members) - 1, len(members) // 2, len(members) + 1))
            if action == "cut"
            else rng.choice((0, 4, 5, 6, 8, 9, 12)),
        ]
    if action == "tensor type":
        return [action, place.name, rng.choice((*_BLOCKS, 4, 31, 40, 99))]
    if action == "reshape":
        return [action, place.name, _shape(rng, place.shape)]
    if action == "shape":
        return [
            action,
            place.name,
            rng.choice((_shape(rng, place.shape), [0], [2**63, 2], [2**32, 2**32], [], [1] * 5)),
        ]
    if action == "offset":
        return [
            action,
            place.name,
            rng.choice((place.offset + 1, place.offset + 32, 0, 2**63, 2**40, place.offset - 32)),
        ]
    if action == "rename":
        other = rng.choice(found.tensors).name
        return [
            action,
            place.name,
            rng.choice((other, place.name + "x", "", "a" * 200, place.name.replace("0", "9"), "output.weight")),
        ]
    if action == "delete tensor":
        return [action, place.name]
    if action == "data":
        fill = rng.choice(("nan", "inf", "zero", "huge", "noise"))
        return [action, place.name, fill, rng.randrange(1 << 30)]
    if action == "counts":
        return [
            action,
            rng.choice((None, 0, 1, 2**20, 2**63, len(found.tensors) + 1)),
            rng.choice((None, 0, 1, 2**40, len(found.keys) - 1)),
        ]
    if action == "version":
        return [action, rng.choice((0, 1, 2, 4, 2**31))]
    if action == "more tensors":
        return [action, rng.choice(("output.weight", "extra.weight", "blk.0.ffn_gate_inp.weight", "v.blk.7.ln1.weight",
            "rope_freqs.weight",
                                    "blk.0.attn_q.bias", "blk.1.attn_norm.bias")), rng.choice(([32], [32, 4], [16], [1])),
                                    rng.choice((0, 1, 24))]  # fmt: skip
    return [action, rng.choice(_TEMPLATES)]


def _nasty_value(rng: random.Random, kind: int, value: Any) -> Any:
    if kind == ARRAY:
        inner, members = value
        return rng.choice(([inner, []], [inner, members[:-1]], [inner, members + members[:1]], [4, [1, 2, 3]], [8, ["a"]],
                           [inner, list(reversed(members))]))  # fmt: skip
    return nasty(rng, value)


def _shape(rng: random.Random, shape: list[int]) -> list[int]:
    new = list(shape)
    at = rng.randrange(len(new))
    return rng.choice((
        [*new[:at], rng.choice((new[at] // 2 or 1, new[at] * 2, new[at] + 1, max(new[at] - 1, 1), 1)), *new[at + 1 :]],
        list(reversed(new)), [*new, 1], [math.prod(new)], [1, *new], [*new, 2],
    ))  # fmt: skip


def _bytes_of(shape: list[int], kind: int) -> int:
    block, size = _BLOCKS.get(kind, (1, 4))
    return min(math.prod(shape) // block * size, 1 << 22)


def edit(data: bytes, edits: list[Any]) -> bytes:
    """Make the changes of a case."""
    found = GGUF.read(data)
    for change in edits:
        _apply(found, change)
    return found.write()


def _apply(found: GGUF, change: list[Any]) -> None:
    action, where, *rest = change
    keys = [entry for entry in found.keys if entry[0] == where]
    tensors = [place for place in found.tensors if place.name == where]
    if action == "counts":
        found.counts = (where, rest[0])
    elif action == "version":
        found.version = where
    elif action == "template":
        found.keys = [entry for entry in found.keys if entry[0] != "tokenizer.chat_template"] + [
            ["tokenizer.chat_template", STRING, where]
        ]
    elif action == "more tensors":
        found.tensors.append(Tensor(where, rest[0], rest[1], 0, b"\0" * _bytes_of(rest[0], rest[1])))
        found.lay_anew()
    elif keys:
        _apply_key(found, keys[0], action, rest)
    elif tensors:
        _apply_tensor(found, tensors[0], action, rest)


def _apply_key(found: GGUF, entry: list[Any], action: str, rest: list[Any]) -> None:
    if action == "set":
        entry[2] = rest[0]
    elif action == "type":
        entry[1], entry[2] = rest if rest[0] != ARRAY else (ARRAY, [4, [1, 2, 3]])
    elif action == "delete key":
        found.keys.remove(entry)
    elif action == "twice":
        found.keys.append(copy.deepcopy(entry))
    elif entry[1] == ARRAY and isinstance(entry[2], list):
        if action == "member" and rest[0] < len(entry[2][1]):
            entry[2][1][rest[0]] = rest[1]
        elif action == "cut":
            entry[2][1] = (entry[2][1] * 2)[: rest[0]]
        elif action == "array type":
            entry[2] = [rest[0], [[4, [1]]] * 3 if rest[0] == ARRAY else entry[2][1]]


def _apply_tensor(found: GGUF, place: Tensor, action: str, rest: list[Any]) -> None:
    if action == "tensor type":
        place.type = rest[0]
        place.data = (place.data or b"\0") * 8
        place.data = place.data[: _bytes_of(place.shape, place.type)]
        found.lay_anew()
    elif action == "reshape":
        place.shape = rest[0]
        place.data = ((place.data or b"\0") * 8)[: _bytes_of(place.shape, place.type)]
        found.lay_anew()
    elif action == "shape":
        place.shape = rest[0]
    elif action == "offset":
        place.offset = max(0, rest[0])
    elif action == "rename":
        place.name = rest[0]
    elif action == "delete tensor":
        found.tensors.remove(place)
        found.lay_anew()
    elif action == "data":
        place.data = _filled(place, *rest)


def _filled(place: Tensor, fill: str, seed: int) -> bytes:
    if fill == "noise":
        place_rng = random.Random(seed)
        size = max(len(place.data) // 50, 1)
        at = place_rng.randrange(max(len(place.data) - size, 1))
        return place.data[:at] + place_rng.randbytes(size) + place.data[at + size :]
    half = {"nan": b"\x00\x7e", "inf": b"\x00\x7c", "zero": b"\0\0", "huge": b"\xff\x7b"}[fill]
    single = {"nan": b"\0\0\xc0\x7f", "inf": b"\0\0\x80\x7f", "zero": b"\0" * 4, "huge": b"\xff\xff\x7f\x7f"}[fill]
    unit = single if place.type == 0 else half
    return (unit * (len(place.data) // len(unit) + 1))[: len(place.data)]


EDITORS["gguf"] = edit


def run(content: bytes, place: Path, base: Path) -> None:
    run_case(content, place, base, lambda case: _may_differ(case, base))


def _may_differ(case: dict[str, Any], base: Path) -> bool:
    """Whether only weights, or keys that models differ in, were changed; sound values are the exporter's own affair."""
    if case["do"] != "bytes":
        return all(
            change[0] in ("data", "template", "tensor type")
            or (change[0] in ("set", "member") and any(part in str(change[1]) for part in (*_FREE, "chat_template")))
            # What changes nothing beside one that does: the same name, the same type, another byte for true.
            or (change[0] == "rename" and change[1] == change[2])
            or (change[0] == "array type" and change[1] == "tokenizer.ggml.tokens")
            or (change[0] == "set" and change[1] in ("clip.has_vision_encoder", "general.file_type"))
            for change in case["edits"]
        )
    data = (base / case["bundle"] / case["file"]).read_bytes()
    new = edit_bytes(data, case["edits"])
    try:
        old, found = GGUF.read(data), GGUF.read(new)
    except (struct.error, KeyError, ValueError, MemoryError):
        return False
    changed = [mine[0] for mine, theirs in zip(old.keys, found.keys, strict=False) if mine != theirs]
    alike = [(one.name, one.shape, one.type, one.offset) for one in old.tensors] == [
        (one.name, one.shape, one.type, one.offset) for one in found.tensors
    ]
    return (
        len(new) == len(data)
        and alike
        and all(any(part in key for part in (*_FREE, "chat_template")) for key in changed)
    )


KIND = Kind(make, run, modules=manifest.KIND.modules, share=3)
