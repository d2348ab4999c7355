"""SentencePiece models rebuilt from a vocabulary: what transformers' `AutoTokenizer` reads in a checkpoint folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

# SentencePiece's own numbers of a piece's types, which GGUF uses as well.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


class Piece(NamedTuple):
    """One entry of a vocabulary, as SentencePiece writes it: a space is "▁"."""

    text: str
    score: float
    type: int


def siglip_spiece(tokenizer_json: str) -> bytes:
    """`spiece.model` from a SigLIP checkpoint's `tokenizer.json`: the same pieces, scores and character map.

    Lower case and punctuation are `SiglipTokenizer`'s own work, before SentencePiece sees a text.
    """
    body = json.loads(tokenizer_json)
    unknown = body["model"]["unk_id"]
    control = {item["id"] for item in body["added_tokens"] if item["special"]} - {unknown}

    def kind(index: int, text: str) -> int:
        if index == unknown:
            return UNKNOWN
        if index in control:
            return CONTROL
        return BYTE if len(text) == 6 and text.startswith("<0x") else NORMAL

    pieces = [Piece(text, score, kind(index, text)) for index, (text, score) in enumerate(body["model"]["vocab"])]
    model = _model(pieces, {"pad": 0, "eos": 1, "bos": -1, "unk": unknown})
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    steps = body["normalizer"]["normalizers"]
    characters = next(step["precompiled_charsmap"] for step in steps if step["type"] == "Precompiled")
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = base64.b64decode(characters)
    return bytes(model.SerializeToString())


def gemma_pieces(texts: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> list[Piece]:
    """Gemma's vocabulary from a GGUF's tokens, scores and types, where spaces stand as they match text."""
    kinds = {CONTROL: USER_DEFINED, USER_DEFINED: USER_DEFINED, BYTE: BYTE}
    pieces = []
    for index, (text, score, kind) in enumerate(zip(texts, scores, types, strict=True)):
        which = UNKNOWN if index == 3 else CONTROL if index < 3 else kinds.get(kind, NORMAL)
        if which == USER_DEFINED:
            # llama.cpp's converter gives added pieces -1000. SentencePiece gives them 0, so that they merge first.
            text, score = text.replace(" ", "▁"), 0.0
        pieces.append(Piece(text, score, which))
    return pieces


def gemma_spiece(pieces: Sequence[Piece]) -> bytes:
    """Gemma's `tokenizer.model`: byte-pair merges by score, bytes for what has no piece, no space put in front."""
    model = _model(pieces, {"pad": 0, "eos": 1, "bos": 2, "unk": 3})
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    return bytes(model.SerializeToString())


def merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Every way in which a piece is two others, the best-scored piece first: what `tokenizer.json` lists for BPE."""
    ids = {piece.text: index for index, piece in enumerate(pieces)}
    found: list[tuple[float, int, int, str, str]] = []
    for text, score, _ in pieces:
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        pairs = [(left, right) for left, right in pairs if left in ids and right in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(score, len(left), len(right), left, right) for left, right in pairs]
    found.sort(key=lambda item: item[:3], reverse=True)
    return [(left, right) for *_, left, right in found]


def _model(pieces: Sequence[Piece], named: dict[str, int]) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2  # its classes are made when it is imported
    model = proto.ModelProto()
    model.trainer_spec.vocab_size = len(pieces)
    model.trainer_spec.byte_fallback = True
    for name, index in named.items():
        setattr(model.trainer_spec, f"{name}_id", index)
        if index >= 0:
            setattr(model.trainer_spec, f"{name}_piece", pieces[index].text)
    for text, score, kind in pieces:
        model.pieces.add(piece=text, score=score, type=kind)
    return model
