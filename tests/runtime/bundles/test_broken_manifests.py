"""A manifest that its author got wrong, or that someone prepared, ends in one sentence that names the field."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reports import ENCODER, judged

from medge.quant.recipes.recipe import PIXELS
from medge.runtime.bundles.facts import (
    Artefact,
    Calibration,
    EncoderFacts,
    FileEntry,
    GeneratorFacts,
    GoldenBound,
    Preprocessing,
    Source,
    Teacher,
    TokenizerFacts,
    TowerFacts,
)
from medge.runtime.bundles.gates import Gate
from medge.runtime.bundles.manifest import MANIFEST, MOST_BYTES, Manifest
from medge.runtime.errors import BundleError

SHA = "ab" * 32
GOLDEN = GoldenBound("min", 0.999)
PARITY = judged(ENCODER, PIXELS, Gate("vision.max_error", "<=", 0.1, warn=1e-6)).summary()
HALF = (0.5, 0.5, 0.5)
EYES = Manifest(
    kind="encoder", name="eyes", target="avx2", labels=("chest x-ray", "head MRI"), teacher_parity=PARITY,
    model=EncoderFacts("siglip", 192, 112, 14, 32000, TokenizerFacts(64, 1, 1), 10.1, -3.9, 10_583_138),
    preprocessing=Preprocessing("eval-tf", HALF, HALF),
    source=Source("mini", {"config.json": SHA}, "it is so", Calibration("own", images=3), Teacher("big", {"a": SHA})),
    artefacts={"onnx": Artefact(
        {"vision": TowerFacts("int8", "onnx/v.onnx", "onnx", GOLDEN, ("pixel_values",), "pooler_output", 20, False,
                              {"merged_tokens_a_block": 2, "weights": "u8"})}, PARITY)},
    files=(FileEntry("onnx/v.onnx", "vision", 10, SHA), FileEntry("tokenizer.json", "tokenizer", 4, SHA)), medge_version="0.1",
)  # fmt: skip
READER = replace(
    EYES, kind="generator", name="reader", labels=(), teacher_parity=None,
    model=GeneratorFacts("gemma3", 270_000_000, 18, 640, 1, 256, 512, 6, 32768, 262208, 112, 16, 14, (1, 106)),
    artefacts={"gguf": Artefact({
        "language": TowerFacts("q8_0", "m.gguf", "gguf", GOLDEN), "projector": TowerFacts("q8_0", "p.gguf", "gguf", GOLDEN)})},
    files=(FileEntry("m.gguf", "language", 10, SHA), FileEntry("p.gguf", "projector", 9, SHA)),
)  # fmt: skip
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]
# What a field is replaced by. None of these is right anywhere but among a recipe's decisions, where anything may stand.
WRONG = [
    -1, -1e300, 1e300, 10**30, 2**63, 0.25, True, "", "x" * 5000, "../up", "/etc/passwd", "C:\\x", "a//b", "a/./b", "\x1b[2J", [],
    {}, [[]], {"a": 1}, [{"a": [None]}], [1, "two"],
]  # fmt: skip


def sealed(before: bytes) -> bytes:
    return before + f',\n  "digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'.encode()


def read(body: dict[str, Any]) -> Manifest:
    return Manifest.parse(sealed(json.dumps(body).removesuffix("}").encode()), Path("eyes"))


def plain(manifest: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(manifest.to_json())
    del body["digest"]
    return body


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a body, the free ones below `decisions` left out."""
    if path:
        yield path
    if path and path[-1] == "decisions":
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in pairs:
        yield from places(below, (*path, name))


def changed(body: dict[str, Any], path: tuple[Any, ...], *, to: Any = None, drop: bool = False) -> dict[str, Any]:
    top: Any = copy.copy(body)
    inner = top
    for name in path[:-1]:
        inner[name] = copy.copy(inner[name])
        inner = inner[name]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return dict(top)


def outcome(body: dict[str, Any]) -> Manifest | str:
    """The manifest where it was accepted, else the sentence; any other error fails the test."""
    try:
        return read(body)
    except BundleError as error:
        return str(error)


@pytest.mark.parametrize("manifest", [EYES, READER], ids=lambda one: one.kind)
def test_a_field_of_another_form_is_refused(manifest: Manifest) -> None:
    body = plain(manifest)
    assert outcome(body) == manifest
    tried = 0
    for path in places(body):
        old = body
        for name in path:
            old = old[name]
        for new in WRONG:
            found = outcome(changed(body, path, to=new))
            tried += 1
            if isinstance(found, str):
                assert len(found) < 700
            else:  # of the same form, and kept as it is: nothing is converted or left out
                same = (type(old), type(new)) in {(float, int)} or type(old) is type(new) or old is None
                assert same, (path, new)
                assert plain(found) == changed(body, path, to=new), (path, new)
    assert tried > 1000


@pytest.mark.parametrize("manifest", [EYES, READER], ids=lambda one: one.kind)
def test_a_field_that_is_gone_is_refused_or_has_its_documented_default(manifest: Manifest) -> None:
    body = plain(manifest)
    for path in places(body):
        if not isinstance(path[-1], str) or path[-1] == "decisions":
            continue
        found = outcome(changed(body, path, drop=True))
        unknown = outcome(changed(body, (*path[:-1], f"{path[-1]}_"), to=1))
        assert isinstance(unknown, str), path
        if path[-1] == "sha256" and path[0] == "files":
            assert isinstance(found, str)
        if path[0] in ("model", "preprocessing", "kind", "target") and path[-1] != "sigmoid":
            assert isinstance(found, str), path


FIELDS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a deviation of 0": (("preprocessing", "std", 0), 0, r"\$\.preprocessing\.std\[0\]"),
    "a huge side": (("model", "image_size"), 100_000, r"<= 4096 - at `\$\.model\.image_size`"),
    "a scale below 0": (("model", "logit_scale"), -1.0, r"> 0.* - at `\$\.model\.logit_scale`"),
    "an end beyond the vocabulary": (("model", "tokenizer", "end_id"), 32000, r"at `\$\.model\.tokenizer\.end_id`"),
    "a cosine over 1": (("artefacts", "onnx", "towers", "vision", "golden", "cosine"), 1.5, r"golden\.cosine`"),
    "a path that leads out": (("files", 0, "path"), "../v.onnx", r"at `\$\.files\[0\]\.path`"),
    "an absolute path": (("files", 0, "path"), "/v.onnx", r"at `\$\.files\[0\]\.path`"),
    "a drive": (("files", 0, "path"), "C:/v.onnx", r"at `\$\.files\[0\]\.path`"),
    "a long name": (("files", 0, "path"), "v" * 300, r"at `\$\.files\[0\]\.path`"),
    "a line's end": (("files", 0, "path"), "onnx/v.onnx\n", r"at `\$\.files\[0\]\.path`"),
    "another role": (("files", 0, "role"), "virus", r"at `\$\.files\[0\]\.role`"),
    "a part that nothing uses": (
        ("files", 1, "role"),
        "projector",
        r"no artefact uses the projector - at `\$\.files\[1\]\.role`",
    ),
    "the same role twice": (("files", 1, "role"), "vision", r"'vision' is there twice - at `\$\.files`"),
    "the same path twice": (("files", 1, "path"), "ONNX/v.onnx", r"'onnx/v.onnx' is there twice - at `\$\.files`"),
    "another format": (("artefacts", "onnx", "towers", "vision", "format"), "pickle", r"towers\[\.\.\.\]\.format`"),
    "a file that is not listed": (
        ("artefacts", "onnx", "towers", "vision", "file"),
        "w",
        r"'w' is not the vision among",
    ),
    "a label twice": (("labels", 1), "chest x-ray", r"'chest x-ray' is there twice - at `\$\.labels`"),
    "merged in part": (
        ("artefacts", "onnx", "towers", "vision", "decisions", "merged_tokens_a_block"),
        1.5,
        "a_block`",
    ),
    "a map of no name": (("artefacts", "onnx", "towers", "vision", "decisions", "map_output"), 3, "map_output`"),
    "a status of its own": (("artefacts", "onnx", "parity", "status"), "failed", r"say 'passed' - at `.*\.status`"),
    "a gate of its own": (("artefacts", "onnx", "parity", "gates", 0, "passed"), False, r"gates\[0\]\.passed`"),
    "a bound of its own": (("artefacts", "onnx", "parity", "gates", 1, "bound"), 1e-9, r"gates\[1\]\.passed`"),
    "a loss not told": (("artefacts", "onnx", "parity", "warnings"), [], r"tell something else - at `.*\.warnings`"),
    "other inputs": (("artefacts", "onnx", "towers", "vision", "inputs"), ["pixels"], r"at `.*\.vision\.inputs`"),
    "a part of another kind": (
        ("artefacts", "onnx", "towers"),
        {},
        r"none is not what .* - at `\$\.artefacts\.onnx\.towers`",
    ),
    "the file of another part": (
        ("artefacts", "onnx", "towers", "vision", "file"),
        "tokenizer.json",
        "is not the vision",
    ),
    "a mean below 0": (("preprocessing", "mean", 1), -0.5, r">= 0.* - at `\$\.preprocessing\.mean\[1\]`"),
    "an unknown field of two lines": (
        ("artefacts", "onnx", "parity", "gates", 0, "a\n\x1b"),
        1,
        r"gates\[0\]\.a\\n\\x1b`",
    ),
    "no preprocessing": (("preprocessing",), None, r"missing - at `\$\.preprocessing`"),
    "deep lists": (("artefacts", "onnx", "towers", "vision", "decisions", "deep"), DEEP, "too deep"),
}


@pytest.mark.parametrize(("path", "to", "said"), FIELDS.values(), ids=FIELDS)
def test_the_sentence_names_the_field(tmp_path: Path, path: tuple[Any, ...], to: Any, said: str) -> None:
    assert PARITY.warnings
    body = plain(EYES)
    text = json.dumps(changed(body, path, to="HERE"), indent=2).replace('"HERE"', _dumped(to))
    (tmp_path / MANIFEST).write_bytes(sealed(text.removesuffix("\n}").encode()))
    with pytest.raises(BundleError, match=said) as caught:
        Manifest.read(tmp_path)
    assert "\n" not in str(caught.value)


def _dumped(value: Any) -> str:
    return "[" * 3000 + "]" * 3000 if value is DEEP else json.dumps(value)


SPOILT: dict[str, tuple[bytes, bytes, str]] = {
    "NaN": (b"10.1", b"NaN", "damaged"), "infinity": (b"10.1", b"1e999", "damaged"),
    "a field twice": (b'"target": "avx2"', b'"target": "avx2", "target": "avx2"', "the field 'target' is there twice"),
    "an inner field twice": (b'"patch_size": 14', b'"patch_size": 14, "patch_size": 7', "'patch_size' is there twice"),
    "no UTF-8": (b"avx2", b"av\xff2", "damaged"), "half a character": (b"avx2", b"\\ud800", "damaged"),
    "the version as a text": (b'"format_version": 2', b'"format_version": "2"', "no bundle format"),
    "the version as a truth": (b'"format_version": 2', b'"format_version": true', "bundle format"),
    "another kind": (b'"kind": "encoder"', b'"kind": ["encoder"]', "is of the kind"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), SPOILT.values(), ids=SPOILT)
def test_json_that_readers_disagree_about_is_refused(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    before = json.dumps(plain(EYES), indent=2).removesuffix("\n}").encode()
    assert old in before
    (tmp_path / MANIFEST).write_bytes(sealed(before.replace(old, new)))
    with pytest.raises(BundleError, match=said):
        Manifest.read(tmp_path)


def test_a_manifest_has_a_size(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(BundleError, match=f"a manifest at most {MOST_BYTES}; copy the bundle again$"):
        Manifest.read(tmp_path)
    for content in (b"", b"[]", b"null", b"{}", b'{"format_version": 2}', b"[" * 100_000):
        (tmp_path / MANIFEST).write_bytes(content)
        with pytest.raises(BundleError):
            Manifest.read(tmp_path)
