"""A bundle with a changed file, its hashes made to fit, used as a user would; and what a sound one gives.

A case is JSON: {"bundle", "file", "do": how the file is changed, "edits"}. `EDITORS` says how each kind of change is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import ENCODER, ONNX_READER, READER
from .mutate import edit_bytes, edit_json
from .verdict import WrongError

MANIFEST = "manifest.json"
NEAR = 1e-5  # the same file, engine and thread give the same numbers; a larger difference is another result
TEXTS = ("pneumonia", "a normal film")

Result = dict[str, Any]
EDITORS: dict[str, Callable[[bytes, list[Any]], bytes]] = {
    "json": lambda data, edits: json_bytes(edit_json(json.loads(data), edits)),
    "bytes": edit_bytes,
}


def json_bytes(tree: Any) -> bytes:
    """JSON as medge writes it; what UTF-8 can't hold is escaped."""
    try:
        return json.dumps(tree, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(tree, indent=2).encode()


def sealed(body: bytes) -> bytes:
    """A manifest with the last member that says the hash of what stands before it; docs/reference/bundle-format.md."""
    with contextlib.suppress(ValueError):
        tree = json.loads(body)
        if isinstance(tree, dict):
            tree.pop("digest", None)
            body = json_bytes(tree)
    before = body.rstrip().removesuffix(b"}").rstrip(b"\n")
    return before + f',\n  "digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'.encode()


def lay_out(source: Path, target: Path, name: str, content: bytes | None, *, seal: bool = True) -> None:
    """A bundle whose file `name` has this content (None: it is not there); the others are links to the sound ones."""
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if path.is_dir():
            (target / relative).mkdir(parents=True, exist_ok=True)
        elif str(relative) not in (name, MANIFEST):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target / relative)
    if name == MANIFEST:
        if content is not None:
            (target / MANIFEST).write_bytes(sealed(content) if seal else content)
        return
    if content is not None:
        (target / name).write_bytes(content)
    manifest = json.loads((source / MANIFEST).read_bytes())
    if seal and content is not None:
        for entry in manifest["files"]:
            if entry["path"] == name:
                entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (target / MANIFEST).write_bytes(sealed(json_bytes(manifest)))


def phantom() -> NDArray[np.uint8]:
    """A picture whose every part says something: (48, 40, 3)."""
    y, x = np.mgrid[0:48, 0:40]
    return np.stack([(3 * x + 2 * y) % 256, (x * y) % 256, (255 - 5 * y) % 256], axis=-1).astype(np.uint8)


def use(folder: Path) -> Result:
    """Everything that a user gets of a bundle, as numbers and names."""
    from medge.runtime.bundles.manifest import Manifest
    from medge.runtime.commands.inspect import inspect
    from medge.runtime.encoder.load import load as load_encoder
    from medge.runtime.generator.load import load as load_generator

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        inspect(folder)
        kind = Manifest.read(folder).kind
        if kind == "encoder":
            return _use_encoder(load_encoder(folder, allow_failed_parity=True, threads=1, device="cpu"))
        return _use_generator(load_generator(folder, allow_failed_parity=True, threads=1, context=256))


def _use_encoder(encoder: Any) -> Result:
    from medge.runtime.golden.encoder import replay

    image = phantom()
    baked = encoder.classify(image)[0]
    asked = encoder.classify(image, list(TEXTS))[0]
    result: Result = {"labels": baked.labels, "image": encoder.embed_images(image), "text": encoder.embed_texts(TEXTS)}
    for name, scores in (("baked", baked), ("asked", asked)):
        result |= {
            f"{name}.cosine": scores.cosine,
            f"{name}.softmax": scores.softmax,
            f"{name}.sigmoid": scores.sigmoid,
        }
        [row.probability for row in scores.ranked()]
    checks = [(what, holds) for what, _, _, holds in replay(encoder)]
    result["fingerprint"] = encoder.fingerprint.partition("/")[2]
    return result | {"golden": checks}


def _use_generator(generator: Any) -> Result:
    from medge.runtime.generator.conversation import Sampling, user
    from medge.runtime.golden.generator import replay_answers

    result: Result = {"golden": [(what, holds) for what, _, _, holds in replay_answers(generator)]}
    try:
        for name, parts in (("text", ("why?",)), ("image", (phantom(), "what?"))):
            answer = generator.chat([user(*parts)], Sampling(limit=3))
            result |= {name: answer.text, f"{name}.stop": answer.stop, f"{name}.prompt": answer.prompt_tokens,
                       f"{name}.logits": generator.engine.next_logits()}  # fmt: skip
    finally:
        if generator._engine is not None:
            generator._engine.close()
    return result


def reference(base: Path, bundle: str) -> Result:
    """What the sound bundle gives; computed once, by `write_references`."""
    loaded: Result = pickle.loads((base / f"{bundle}.pickle").read_bytes())
    return loaded


def write_references(base: Path) -> None:
    for bundle in (ENCODER, READER, ONNX_READER):
        (base / f"{bundle}.pickle").write_bytes(pickle.dumps(use(base / bundle)))


def compare(expected: Result, found: Result, *, may_differ: bool) -> None:
    """Raise where a result is another one, or holds a number that is none.

    Args:
        expected: of the sound bundle.
        found: of the changed one.
        may_differ: the change lies in values that nothing but a measurement can tell from the right ones.
    """
    for name, value in found.items():
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise WrongError(f"{name} is not finite")
    if may_differ:
        return
    for name in sorted({*expected, *found}):
        old, new = expected.get(name), found.get(name)
        if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            same = old.shape == new.shape and np.allclose(old, new, rtol=NEAR, atol=NEAR)
        else:
            same = type(old) is type(new) and old == new
        if not same and name != "golden":
            raise WrongError(f"{name} is another one: {_short(old)} became {_short(new)}")


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape} {np.array2string(value.ravel()[:3], precision=4)}"
    return repr(value)[:80]


def run_case(content: bytes, place: Path, base: Path, may_differ: Callable[[dict[str, Any]], bool]) -> None:
    """Use a changed bundle and compare what comes of it."""
    case = json.loads(content)
    source = base / case["bundle"]
    old = (source / case["file"]).read_bytes() if case["file"] else b""
    new = EDITORS[case["do"]](old, case["edits"])
    if case["file"] == MANIFEST:
        new_tree, old_tree = sealed(new), sealed(old)
        if new_tree == old_tree:
            return
    elif new == old:
        return
    lay_out(source, place / case["bundle"], case["file"], new)
    found = use(place / case["bundle"])
    compare(reference(base, case["bundle"]), found, may_differ=may_differ(case))
    shutil.rmtree(place / case["bundle"])


def case_bytes(bundle: str, file: str, do: str, edits: list[Any]) -> bytes:
    return json.dumps({"bundle": bundle, "file": file, "do": do, "edits": edits}, indent=1).encode()


def files_of(base: Path, bundle: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((base / bundle / MANIFEST).read_bytes())["files"]
    return listed


def file_of(base: Path, bundle: str, role: str) -> str:
    return next(entry["path"] for entry in files_of(base, bundle) if entry["role"] == role)
