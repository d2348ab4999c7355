"""Text to token ids as a text tower expects them: cut, ended and padded to a fixed length.

How a text is changed before that (MedSigLIP: lower case, no punctuation) stands in `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as _Tokenizer

from ..bundles.manifest import TokenizerFacts
from ..errors import BundleError


@dataclass(frozen=True)
class Cut:
    """A text that was longer than the model reads: the part that was kept and the part that was lost."""

    text: str
    kept: str
    lost: str

    def __str__(self) -> str:
        return f"{self.text[:60]!r} is too long for the text tower: cut after {self.kept[-40:]!r}, lost {self.lost!r}"


class Tokenizer:
    """`tokenizer.json` with fixed-length output; what it ends with comes from the manifest."""

    def __init__(self, path: Path, facts: TokenizerFacts) -> None:
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path} is not a tokenizer ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.length = facts.length
        self._facts = facts

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[Cut]]:
        """Token ids of (len(texts), length), int64, and the texts that had to be cut."""
        ids = np.full((len(texts), self.length), self._facts.pad_id, np.int64)
        cuts: list[Cut] = []
        for row, (text, encoding) in enumerate(zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)):
            tokens = encoding.ids  # begin and end stand in them
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
