"""Small GGUF files made by hand, as medge's exporter would write them, and ways to spoil them that keep their form.

python tests/gguf_files.py 2000 7    # cases and seed: what passes the check is loaded and used, in processes of their own
"""

from __future__ import annotations

import copy
import json
import random
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from medge.runtime.device.gguf_architecture import read_language, read_projector
from medge.runtime.device.gguf_header import TYPES
from medge.runtime.errors import BundleError

U32, I32, F32, BOOL, STR, ARRAY = 4, 5, 6, 7, 8, 9
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", 10: "<Q", 11: "<q", 12: "<d"}
NUMBERS = {name: number for number, (name, *_) in TYPES.items()}
WIDTH, HEAD, INNER, LAYERS, PIECES = 32, 16, 64, 2, 300
SIDE, PATCH, SEEN = 28, 14, 48


@dataclass
class Key:
    name: str
    type: int
    value: Any  # of an array (type of its elements, elements)


@dataclass
class Tensor:
    name: str
    shape: tuple[int, ...]
    type: str
    shift: int = 0  # bytes that it lies beside its place

    @property
    def bytes(self) -> int:
        _, block, size = TYPES[NUMBERS[self.type]]
        return prod(self.shape) // block * size


@dataclass
class File:
    """A GGUF in parts."""

    keys: list[Key]
    tensors: list[Tensor]
    version: int = 3
    counts: tuple[int, int] = (0, 0)  # how many more tensors and keys it promises than it has
    cut: int = 0  # bytes taken off its end; added to it where negative
    done: list[str] = field(default_factory=list)  # what was spoiled, in words

    def content(self) -> bytes:
        head = struct.pack(
            "<4sIQQ",
            b"GGUF",
            self.version,
            max(0, len(self.tensors) + self.counts[0]),
            max(0, len(self.keys) + self.counts[1]),
        )
        head += b"".join(
            _string(key.name) + struct.pack("<I", key.type) + _value(key.type, key.value) for key in self.keys
        )
        at, data = 0, b""
        rng = np.random.default_rng(0)
        for tensor in self.tensors:
            place = max(0, at + tensor.shift)
            head += _string(tensor.name)
            head += struct.pack(
                f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, NUMBERS[tensor.type], place
            )
            values = min(prod(tensor.shape), 1 << 22)
            if tensor.type in ("F32", "F16"):
                numbers = rng.standard_normal(values) * 0.05 + ("norm" in tensor.name)
                content = numbers.astype(np.float32 if tensor.type == "F32" else np.float16).tobytes()
            else:
                content = bytes(min(tensor.bytes, 1 << 22))
            data += content + bytes(-len(content) % 32)
            at = len(data)
        whole = head + bytes(-len(head) % 32) + data
        return whole[: len(whole) - self.cut] if self.cut >= 0 else whole + bytes(-self.cut)


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STR:
        return _string(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack(FORMS[kind], value)


def language(width: int = WIDTH) -> File:
    """A language model of two layers and three hundred pieces."""
    inner = 2 * width
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "<start_of_turn>"]
    pieces += [f"▁w{index}" for index in range(PIECES - len(pieces))]
    types = [3, 3, 3, 2, *[6] * 256, 1, 3]
    types += [1] * (PIECES - len(types))
    numbers = {
        "block_count": LAYERS, "context_length": 1024, "embedding_length": width, "feed_forward_length": inner,
        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": HEAD, "attention.value_length": HEAD,
        "attention.sliding_window": 64,
    }  # fmt: skip
    keys = [
        Key("general.architecture", STR, "gemma3"), Key("general.type", STR, "model"), Key("general.name", STR, "Small"),
        Key("tokenizer.ggml.model", STR, "llama"), Key("tokenizer.ggml.add_space_prefix", BOOL, False),
        Key("tokenizer.ggml.pre", STR, "default"),
        Key("tokenizer.ggml.tokens", ARRAY, (STR, pieces)),
        Key("tokenizer.ggml.scores", ARRAY, (F32, [-float(index) for index in range(PIECES)])),
        Key("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        Key("tokenizer.ggml.bos_token_id", U32, 2), Key("tokenizer.ggml.eos_token_id", U32, 1),
        Key("tokenizer.ggml.unknown_token_id", U32, 3), Key("tokenizer.ggml.padding_token_id", U32, 0),
        Key("tokenizer.ggml.add_bos_token", BOOL, True), Key("tokenizer.chat_template", STR, "{{ messages }}"),
        *(Key(f"gemma3.{name}", U32, value) for name, value in numbers.items()),
        Key("gemma3.attention.layer_norm_rms_epsilon", F32, 1e-6), Key("gemma3.rope.freq_base", F32, 1e6),
        Key("gemma3.rope.freq_base_swa", F32, 1e4), Key("gemma3.rope.scaling.type", STR, "linear"),
        Key("gemma3.rope.scaling.factor", F32, 8.0), Key("general.file_type", U32, 1),
        Key("general.quantization_version", U32, 2),
    ]  # fmt: skip
    tensors = [Tensor("token_embd.weight", (width, PIECES), "F16"), Tensor("output_norm.weight", (width,), "F32")]
    norms = {"attn_norm": width, "post_attention_norm": width, "ffn_norm": width, "post_ffw_norm": width,
             "attn_q_norm": HEAD, "attn_k_norm": HEAD}  # fmt: skip
    matrices = {"attn_q": (width, 2 * HEAD), "attn_k": (width, HEAD), "attn_v": (width, HEAD), "attn_output": (2 * HEAD, width),
                "ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width)}  # fmt: skip
    for layer in range(LAYERS):
        tensors += [Tensor(f"blk.{layer}.{name}.weight", (size,), "F32") for name, size in norms.items()]
        tensors += [Tensor(f"blk.{layer}.{name}.weight", shape, "F16") for name, shape in matrices.items()]
    return File(keys, tensors)


def projector() -> File:
    """A vision tower of two layers that makes one token of an image."""
    numbers = {"projection_dim": WIDTH, "image_size": SIDE, "patch_size": PATCH, "embedding_length": SEEN,
               "feed_forward_length": INNER, "block_count": 2, "attention.head_count": 2}  # fmt: skip
    keys = [
        Key("general.architecture", STR, "clip"), Key("general.type", STR, "mmproj"), Key("general.file_type", U32, 1),
        Key("clip.has_vision_encoder", BOOL, True), Key("clip.use_gelu", BOOL, True), Key("clip.projector_type", STR, "gemma3"),
        *(Key(f"clip.vision.{name}", U32, value) for name, value in numbers.items()),
        Key("clip.vision.projector.scale_factor", U32, 2), Key("clip.vision.image_mean", ARRAY, (F32, [0.5] * 3)),
        Key("clip.vision.image_std", ARRAY, (F32, [0.5] * 3)), Key("clip.vision.attention.layer_norm_epsilon", F32, 1e-6),
    ]  # fmt: skip
    tensors = [
        Tensor("mm.input_projection.weight", (WIDTH, SEEN), "F16"), Tensor("mm.soft_emb_norm.weight", (SEEN,), "F32"),
        Tensor("v.patch_embd.weight", (PATCH, PATCH, 3, SEEN), "F32"), Tensor("v.patch_embd.bias", (SEEN,), "F32"),
        Tensor("v.position_embd.weight", (SEEN, 4), "F32"), Tensor("v.post_ln.weight", (SEEN,), "F32"),
        Tensor("v.post_ln.bias", (SEEN,), "F32"),
    ]  # fmt: skip
    matrices = {**dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (SEEN, SEEN)),
                "ffn_up": (SEEN, INNER), "ffn_down": (INNER, SEEN)}  # fmt: skip
    for layer in range(2):
        tensors += [Tensor(f"v.blk.{layer}.{norm}.{part}", (SEEN,), "F32") for norm in ("ln1", "ln2") for part in
                    ("weight", "bias")]  # fmt: skip
        for name, shape in matrices.items():
            tensors.append(Tensor(f"v.blk.{layer}.{name}.weight", shape, "F16"))
            tensors.append(Tensor(f"v.blk.{layer}.{name}.bias", shape[1:], "F32"))
    return File(keys, tensors)


# Ways to spoil a file

FOREIGN = (
    Key("gemma3.rope.dimension_count", U32, 7), Key("gemma3.attention.sliding_window_pattern", U32, 0),
    Key("gemma3.expert_count", U32, 9999), Key("gemma3.vocab_size", U32, 5), Key("general.alignment", U32, 1),
    Key("split.count", 2, 3), Key("gemma3.attention.causal", BOOL, False),
    Key("tokenizer.ggml.suppress_tokens", ARRAY, (I32, [1 << 30])), Key("tokenizer.ggml.eot_token_id", U32, 1 << 31),
    Key("clip.vision.feature_layer", ARRAY, (I32, [99])), Key("clip.has_audio_encoder", BOOL, True),
    Key("clip.use_silu", BOOL, True), Key("gemma3.pooling_type", U32, 77), Key("gemma3.block_count", U32, 1),
)  # fmt: skip


def _another_key_type(file: File, rng: random.Random) -> str:
    key = rng.choice(file.keys)
    kind = rng.choice([*FORMS, STR, ARRAY])
    number = key.value if isinstance(key.value, int | float) else 1
    value: Any = (
        (rng.choice([U32, F32, STR]), []) if kind == ARRAY else str(number) if kind == STR else int(number) & 127
    )
    key.type, key.value = kind, float(value) if kind in (F32, 12) else value
    return f"{key.name} as type {kind}"


def _another_number(file: File, rng: random.Random) -> str:
    key = rng.choice([key for key in file.keys if key.type in (U32, F32, BOOL)])
    if key.type == U32:
        key.value = rng.choice([0, 1, key.value + 1, key.value * 2, max(0, key.value - 1), 1 << 31, (1 << 32) - 1])
    else:
        key.value = not key.value if key.type == BOOL else rng.choice([float("nan"), float("inf"), 0.0, -1.0, 3.0])
    return f"{key.name} = {key.value}"


def _another_text(file: File, rng: random.Random) -> str:
    key = rng.choice([key for key in file.keys if key.type == STR])
    key.value = rng.choice(
        ["", "clip", "gemma3", "llama", "bert", "none", "yarn", "x" * 70_000, "\udcff\udcfe", "a\0b", "mistral"]
    )
    return f"{key.name} = {key.value[:9]!r}"


def _another_array(file: File, rng: random.Random) -> str:
    key = rng.choice([key for key in file.keys if key.type == ARRAY])
    inner, items = key.value
    items = list(items)
    how = rng.choice(["shorter", "longer", "twice", "type", "item", "empty"])
    at = rng.randrange(len(items)) if items else 0
    if how == "shorter":
        items = items[: rng.randrange(len(items) + 1)]
    elif how == "longer":
        items += items[:1] * rng.randrange(1, 9)
    elif how == "twice" and items:
        items[at] = items[at - 1]
    elif how == "empty":
        items = []
    elif how == "item" and items:
        items[at] = {STR: rng.choice(["", "\udcff", "<0x4>", "x" * 999]), I32: rng.choice([0, 6, 7, -1, 99])}.get(
            inner, rng.choice([float("nan"), float("inf"), 0.0])
        )
    elif how == "type" and inner != STR:
        inner, items = rng.choice([U32, I32, F32, BOOL]), [1] * len(items)
    key.value = (inner, items)
    return f"{key.name}: {how}"


def _keys_more_or_less(file: File, rng: random.Random) -> str:
    at, how = rng.randrange(len(file.keys)), rng.choice(["gone", "twice", "renamed", "foreign", "count"])
    name = file.keys[at].name
    if how == "gone":
        del file.keys[at]
    elif how == "twice":
        file.keys.append(copy.deepcopy(file.keys[at]))
    elif how == "renamed":
        file.keys[at].name = rng.choice(["", name + "x", name[:-1], name.upper(), "gemma3.", "x" * 300])
    elif how == "foreign":
        name = (added := copy.deepcopy(rng.choice(FOREIGN))).name
        file.keys.append(added)
    else:
        file.counts = (rng.choice([-1, 0, 1, 1 << 40]), rng.choice([-1, 1, 1 << 62]))
    return f"key {name}: {how}"


def _another_tensor_type(file: File, rng: random.Random) -> str:
    tensor = rng.choice(file.tensors)
    tensor.type = rng.choice([name for name in NUMBERS if tensor.shape[0] % TYPES[NUMBERS[name]][1] == 0])
    return f"{tensor.name} as {tensor.type}"


def _another_shape(file: File, rng: random.Random) -> str:
    tensor = rng.choice(file.tensors)
    shape, at = list(tensor.shape), rng.randrange(len(tensor.shape))
    how = rng.choice(["longer", "reversed", "more", "less", "one", "huge"])
    if how == "longer":
        shape[at] += rng.choice([-1, 1, 16, 32])
    elif how == "reversed":
        shape.reverse()
    elif how == "more":
        shape.append(rng.choice([1, 2]))
    elif how == "less" and len(shape) > 1:
        shape = [prod(shape)]
    elif how == "one":
        shape[at] = 1
    elif how == "huge":
        shape[at] = 1 << rng.choice([31, 33, 62])
    tensor.shape = tuple(shape)
    return f"{tensor.name} as {tensor.shape}"


def _tensors_more_or_less(file: File, rng: random.Random) -> str:
    at, how = (
        rng.randrange(len(file.tensors)),
        rng.choice(["gone", "twice", "renamed", "swapped", "shifted", "foreign"]),
    )
    tensor = file.tensors[at]
    name = tensor.name
    if how == "gone":
        del file.tensors[at]
    elif how == "twice":
        file.tensors.append(copy.deepcopy(tensor))
    elif how == "renamed":
        tensor.name = rng.choice(
            ["", name + "s", name.replace("blk.0", "blk.7"), "x" * 80, "output.weight", "rope_freqs.weight"]
        )
    elif how == "swapped":
        other = rng.choice(file.tensors)
        tensor.name, other.name = other.name, tensor.name
    elif how == "shifted":
        tensor.shift = rng.choice([-32, 32, 1, -64, 1 << 40])
    else:
        file.tensors.append(
            Tensor(rng.choice(["output.weight", "dense_2.weight", "v.class_embd"]), (WIDTH, PIECES), "F16")
        )
    return f"tensor {name}: {how}"


def _cut(file: File, rng: random.Random) -> str:
    file.cut, file.version = rng.choice([(1, 3), (5000, 3), (-32, 3), (0, 1), (0, 2), (0, 4)])
    return f"cut by {file.cut}, version {file.version}"


WAYS: tuple[Callable[[File, random.Random], str], ...] = (
    _another_key_type, _another_number, _another_text, _another_array, _keys_more_or_less, _another_tensor_type, _another_shape,
    _tensors_more_or_less, _cut,
)  # fmt: skip


def spoiled(whole: File, rng: random.Random) -> File:
    """A copy with one thing that is otherwise, sometimes two or three."""
    file = copy.deepcopy(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        file.done.append(rng.choice(WAYS)(file, rng))
    return file


# What llama.cpp makes of what the check lets pass: one line a file, so that a process that ends early says at which.
USE = """
import json, sys
from pathlib import Path
import numpy as np
from medge.runtime.errors import MedgeError
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.prompt import Picture
for language, projector in json.load(sys.stdin):
    print("begun", language, projector, flush=True)
    try:
        with Engine(Path(language), Path(projector) if projector else None, context=256, threads=1) as engine:
            ids = engine.tokenize("w1 w2 \\u00e9\\u4e2d<bos>") or [2]
            pictures = [Picture.of(np.full((28, 28, 3), 90, np.uint8), 1)] if projector else []
            engine.text(list(engine.generate([2, *pictures, *ids])))
        print("used", flush=True)
    except MedgeError as error:
        print("refused", str(error)[:200].replace("\\n", " "), flush=True)
"""


def use(pairs: list[tuple[Path, Path | None]]) -> list[str]:
    """Load each pair of files and generate; one verdict each: "used", "refused ..." or "ended the process: ..."."""
    verdicts: list[str] = []
    while len(verdicts) < len(pairs):
        rest = [(str(a), str(b) if b else None) for a, b in pairs[len(verdicts) :]]
        done = subprocess.run(
            [sys.executable, "-c", USE],
            input=json.dumps(rest),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith(("begun", "used", "refused"))]
        verdicts += [line for line in lines if not line.startswith("begun")]
        if done.returncode:
            if not lines[-1].startswith("begun"):  # at its exit
                verdicts.pop()
            verdicts.append(f"ended the process: {done.returncode} {done.stderr[-300:]}")
    return verdicts


@dataclass(frozen=True)
class Tried:
    """A spoiled file and what the check says of it: `refused` is its sentence, "" where it passes.

    `files` are then what a model is loaded from: a language model, and the projector where that is the spoiled one.
    """

    files: tuple[Path, Path | None]
    spoiling: str
    refused: str


def spoil_and_check(cases: int, rng: random.Random, folder: Path) -> Iterator[Tried]:
    """Spoil `cases` files; one that is refused is removed."""
    (sound := folder / "language.gguf").write_bytes(language().content())
    for case in range(cases):
        of_tower = rng.random() < 0.35
        file = spoiled(projector() if of_tower else language(), rng)
        path = folder / f"{case}.gguf"
        path.write_bytes(file.content())
        refused = ""
        try:
            (read_projector if of_tower else read_language)(path)
        except BundleError as error:
            refused = str(error)
            path.unlink()
        yield Tried((sound, path) if of_tower else (path, None), f"{case}: {'; '.join(file.done)}", refused)


def campaign(cases: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Spoil `cases` files: how many were refused by the check, used, or refused by llama.cpp; and what went wrong."""
    tried = list(spoil_and_check(cases, random.Random(seed), folder))
    passed = [one for one in tried if not one.refused]
    counts = Counter[str]({"refused by the check": len(tried) - len(passed)})
    wrong = []
    for one, verdict in zip(passed, use([one.files for one in passed]) if passed else [], strict=True):
        counts[verdict.split()[0]] += 1
        if verdict != "used":
            wrong.append(f"{one.spoiling} -> {verdict}")
    return counts, wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found, bad = campaign(int(sys.argv[1]), int(sys.argv[2]), Path(place))
    print(dict(found), *bad, sep="\n")
