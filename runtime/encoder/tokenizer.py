"""Text to token ids as a text tower expects them: cut, ended and padded to a fixed length.

How a text is changed before that (MedSigLIP: lower case, no punctuation) stands in `tokenizer.json`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as _Tokenizer

from ..bundles.facts import TokenizerFacts
from ..errors import BundleError, one_line
from .tokenizer_file import tokenizer_content


@dataclass(frozen=True)
class Cut:
    """A text that was longer than the model reads: the part that was kept and the part that was lost."""

    text: str
    kept: str
    lost: str

    def __str__(self) -> str:
        return f"{self.text[:60]!r} is too long for the text tower: cut after {self.kept[-40:]!r}, lost {self.lost!r}"


class Tokenizer:
    """`tokenizer.json` with fixed-length output; what it ends with comes from the manifest.

    Args:
        path: the file.
        facts: what it must end with, and how long a row is.
        vocabulary: how many token ids the text tower knows.

    Raises:
        BundleError: the file is no tokenizer that medge writes, or not the one that the manifest tells of.
    """

    def __init__(self, path: Path, facts: TokenizerFacts, vocabulary: int) -> None:
        self.length = facts.length
        self._path, self._facts, self._vocabulary = path, facts, vocabulary
        try:
            content = tokenizer_content(path, vocabulary)
        except ValueError as error:
            raise BundleError(f"{path} is not a tokenizer ({error}); copy or export the bundle again") from error
        with self._errors():
            self._tokenizer = _Tokenizer.from_buffer(content)
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
        if self._tokens(["a"])[0][-1:] != [facts.end_id]:
            raise BundleError(
                f"{path} does not end a text with token {facts.end_id}, as the manifest says; export it again"
            )
        if facts.pad_id != facts.end_id and self._tokenizer.id_to_token(facts.pad_id) not in self._special():
            raise BundleError(
                f"{path}: token {facts.pad_id} is no special token, so it can't fill rows; export it again"
            )

    def _special(self) -> set[str]:
        """Tokens that no text becomes, and "!", with which OpenCLIP fills rows."""
        return {"!", *(token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special)}

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the library raises into a `BundleError`, a panic of its Rust code included, which is no `Exception`."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BundleError(f"{self._path} is not a tokenizer ({one_line(error)})") from error

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, begin and end among them.

        Raises:
            BundleError: one that the text tower does not know.
        """
        with self._errors():
            found: list[list[int]] = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        if (most := max((max(ids, default=0) for ids in found), default=0)) >= self._vocabulary:
            raise BundleError(f"{self._path} gives token {most}, and the text tower knows {self._vocabulary}")
        return found

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[Cut]]:
        """Token ids of (len(texts), length), int64, and the texts that had to be cut."""
        ids = np.full((len(texts), self.length), self._facts.pad_id, np.int64)
        cuts: list[Cut] = []
        for row, (text, tokens) in enumerate(zip(texts, self._tokens(texts), strict=True)):
            if len(tokens) > self.length:
                keep = tokens[: self.length - 1]
                lost = self._tokenizer.decode(tokens[self.length - 1 : -1])
                cuts.append(Cut(text, self._tokenizer.decode(keep), lost))
                tokens = [*keep, self._facts.end_id]
            ids[row, : len(tokens)] = tokens
        return ids, cuts

    def mask(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for each token of the text, its end among them, 0 behind it; as `ids`, (N, length) int64."""
        ended = np.cumsum(ids == self._facts.end_id, axis=1) - (ids == self._facts.end_id)
        return (ended == 0).astype(np.int64)
