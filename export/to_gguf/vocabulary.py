"""A SentencePiece vocabulary, special tokens and chat template into GGUF metadata, as llama.cpp's converter does."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError
from ..families.cut_vocabulary import KeptTokens, renumbered, tokens_of
from ..families.gemma3 import _optional, text_config
from ..source.checkpoint import Checkpoint
from .scripts import is_written_in

UNUSED_SCORE, ADDED_SCORE = -10000.0, -1000.0

TYPES = gguf.TokenType
MULTIPLE = 64  # of a published vocabulary's size; llama.cpp's fastest kernels take a matrix by several rows at a time

# Pieces that are special whatever `added_tokens_decoder` says of them.
_SPECIAL = re.compile(r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<unused.*>", re.DOTALL)

Vocabulary = tuple[list[bytes], list[float], list[int]]  # pieces, scores, types


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Pieces of `tokenizer.model`, then what `added_tokens.json` and `tokenizer_config.json` change.

    Args:
        folder: the checkpoint.
        size: how many ids the model's embedding has; ids without a piece get a placeholder that is never matched.

    Raises:
        CheckpointError: no `tokenizer.model`.
    """
    from sentencepiece import SentencePieceProcessor

    path = folder / "tokenizer.model"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; download it with the weights")
    source = SentencePieceProcessor(model_file=str(path))
    ids = list(range(min(source.vocab_size(), size)))  # asked for all at once: one by one takes eight seconds
    padding = range(len(ids), size)
    pieces = [piece.encode() for piece in source.id_to_piece(ids)] + [f"[PAD{index}]".encode() for index in padding]
    scores = [*source.get_score(ids), *(UNUSED_SCORE for _ in padding)]
    types = [int(TYPES.NORMAL) for _ in ids] + [int(TYPES.UNUSED) for _ in padding]
    kinds = (
        (TYPES.BYTE, source.is_byte), (TYPES.UNUSED, source.is_unused), (TYPES.CONTROL, source.is_control),
        (TYPES.UNKNOWN, source.is_unknown),
    )  # fmt: skip
    for kind, asked in kinds:
        for index in itertools.compress(ids, asked(ids)):
            types[index] = int(kind)
    for text, index in _optional(folder / "added_tokens.json").items():
        if index < size:
            pieces[index], scores[index], types[index] = text.encode(), ADDED_SCORE, int(TYPES.USER_DEFINED)
    for key, token in _optional(folder / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        index, text = int(key), token["content"]
        if index >= size:
            continue
        special = token.get("special") or _SPECIAL.fullmatch(text)
        types[index] = int(TYPES.CONTROL if special else TYPES.USER_DEFINED)
        pieces[index] = (text if special else text.replace("▁", " ")).encode()
        scores[index] = ADDED_SCORE
    return pieces, scores, types


def add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    """Write the vocabulary, special ids and chat template."""
    tokens, folder = tokens_of(checkpoint), checkpoint.folder
    pieces, scores, types = read_vocabulary(folder, tokens.of if tokens else text_config(checkpoint)["vocab_size"])
    # It warns of Gemma's own post-processor, which joins a pair of texts by a second <bos>.
    logging.getLogger("gguf.vocab").setLevel(logging.ERROR)
    special = gguf.SpecialVocab(folder, n_vocab=len(pieces))
    if tokens is not None:
        kept = tokens.ids.tolist()
        pieces, scores, types = [pieces[i] for i in kept], [scores[i] for i in kept], [types[i] for i in kept]
        named = special.special_token_ids
        special.special_token_ids = dict(zip(named, renumbered(checkpoint, list(named.values())), strict=True))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    special.add_to_gguf(writer, quiet=True)
    writer.add_add_space_prefix(False)


def tokens_by_script(checkpoint: Checkpoint, scripts: Sequence[str]) -> KeptTokens:
    """What stays of a vocabulary that is cut by script.

    All but ordinary pieces stay: bytes, so that any text has an encoding, and the tokens that a chat template, an image, line
    breaks and mark-up are written with. So do the first of the rows that have no piece, as many as make the number a multiple.

    Args:
        checkpoint: a whole one.
        scripts: as `parse_scripts` returns them.

    Raises:
        CheckpointError: no `tokenizer.model`.
    """
    size = text_config(checkpoint)["vocab_size"]
    pieces, _, types = read_vocabulary(checkpoint.folder, size)
    kept = np.array([
        kind != TYPES.UNUSED and (kind != TYPES.NORMAL or is_written_in(piece.decode(), scripts))
        for piece, kind in zip(pieces, types, strict=True)
    ])  # fmt: skip
    filling = np.flatnonzero(np.array(types) == TYPES.UNUSED)
    kept[filling[: -int(kept.sum()) % MULTIPLE]] = True
    return KeptTokens(np.flatnonzero(kept), size)


def tokens_in(language: Path, checkpoint: Checkpoint) -> KeptTokens | None:
    """Which tokens of a whole checkpoint a file has that was made from it; None where it has them all.

    The pieces themselves say it, so that a Unicode of another version changes nothing.

    Raises:
        CheckpointError: the file has a piece that the checkpoint lacks.
    """
    key, size = "tokenizer.ggml.tokens", text_config(checkpoint)["vocab_size"]
    found = read_header(language, [key]).metadata[key]
    if len(found) == size:
        return None
    places = {piece: index for index, piece in enumerate(read_vocabulary(checkpoint.folder, size)[0])}
    if strange := next((piece for piece in found if piece not in places), None):
        raise CheckpointError(f"{language}: its piece {strange!r} is none of {checkpoint.folder}")
    return KeptTokens(np.array([places[piece] for piece in found], np.int64), size)
