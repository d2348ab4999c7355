"""`tokenizer.json`, checked before the `tokenizers` library is given it: that library's parser trusts what it reads.

Some files end it in a panic, others, such as lists in lists in lists, in the end of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..bundles.tensors import check_regular
from ..errors import one_line

MOST_BYTES = 64 << 20
MOST_DEPTH = 12
# What the tokenizers of SigLIP and CLIP are made of, in every version of transformers that the exporter runs on.
KINDS = {
    "normalizer": {"Sequence", "Lowercase", "Replace", "Strip", "Precompiled", "NFC", "NFD", "NFKC", "NFKD", "Prepend"},
    "pre_tokenizer": {"Sequence", "Metaspace", "Split", "ByteLevel", "WhitespaceSplit", "Whitespace"},
    "post_processor": {"Sequence", "TemplateProcessing", "RobertaProcessing", "ByteLevel"},
    "decoder": {"Sequence", "Metaspace", "ByteLevel", "Replace", "Strip", "Fuse", "ByteFallback", "BPEDecoder"},
    "model": {"Unigram", "BPE"},
}


def tokenizer_content(path: Path, vocabulary: int) -> bytes:
    """The bytes of a file that the library may be given.

    Args:
        path: the file.
        vocabulary: how many token ids there may be.

    Raises:
        ValueError: it is no tokenizer that medge writes; the message says what, without the file's name.
    """
    try:
        check_regular(path, MOST_BYTES)
        content = path.read_bytes()
        body = msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise ValueError(one_line(error)) from error
    except RecursionError as error:
        raise ValueError("lists or objects stand too deep in one another") from error
    unknown = body.keys() - {*KINDS, "version", "truncation", "padding", "added_tokens"}
    if unknown:
        raise ValueError(f"unknown field '{one_line(min(unknown), 80)}'")
    for part, kinds in KINDS.items():
        if not isinstance(made_of := body.get(part) or {}, dict):
            raise ValueError(f"its {part} is no object")
        for kind in _kinds({name: value for name, value in made_of.items() if name != "vocab"}, part):
            if not isinstance(kind, str) or kind not in kinds:
                raise ValueError(f"its {part} has a part of the kind '{one_line(kind, 80)}'")
    _check_vocabulary(body, vocabulary)
    return content


def _kinds(value: Any, where: str, depth: int = 0) -> Iterator[Any]:
    """Every `type` below a part."""
    if depth > MOST_DEPTH:
        raise ValueError(f"in its {where} lists or objects stand too deep in one another")
    if isinstance(value, dict):
        if "type" in value:
            yield value["type"]
        for name, below in value.items():
            if name != "merges":
                yield from _kinds(below, where, depth + 1)
    elif isinstance(value, list):
        for below in value:
            yield from _kinds(below, where, depth + 1)


def _check_vocabulary(body: dict[str, Any], vocabulary: int) -> None:
    """Check that every token id is known to the text tower."""
    try:
        model = msgspec.convert(body.get("model"), type=dict[str, Any])
        words: list[Any] | dict[str, int]
        if model.get("type") == "Unigram":
            words = msgspec.convert(model.get("vocab"), type=list[tuple[str, float]])
            ids: set[int] = set(range(len(words)))
            if (unknown := msgspec.convert(model.get("unk_id"), type=int | None)) is not None and unknown not in ids:
                raise ValueError(f"its unknown token {unknown} is none of {len(words)}")
        else:
            words = msgspec.convert(model.get("vocab"), type=dict[str, int])
            ids = set(words.values())
        added = msgspec.convert(body.get("added_tokens") or [], type=list[dict[str, Any]])
        ids |= {msgspec.convert(token.get("id"), type=int) for token in added}
    except msgspec.ValidationError as error:
        raise ValueError(f"its words are not in order: {one_line(error)}") from error
    if not words:
        raise ValueError("it has no words")
    if min(ids) < 0 or max(ids) >= vocabulary:
        raise ValueError(f"its token ids reach {max(ids)}, and the text tower knows {vocabulary}")
