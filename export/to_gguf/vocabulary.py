"""A SentencePiece vocabulary, special tokens and chat template into GGUF metadata, as llama.cpp's converter does."""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path

import gguf

from ...runtime.errors import CheckpointError
from ..families.gemma3 import _optional

UNUSED_SCORE, ADDED_SCORE = -10000.0, -1000.0

TYPES = gguf.TokenType

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


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """Write the vocabulary, special ids and chat template."""
    pieces, scores, types = read_vocabulary(folder, size)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    # It warns of Gemma's own post-processor, which joins a pair of texts by a second <bos>.
    logging.getLogger("gguf.vocab").setLevel(logging.ERROR)
    gguf.SpecialVocab(folder, n_vocab=len(pieces)).add_to_gguf(writer, quiet=True)
    writer.add_add_space_prefix(False)
