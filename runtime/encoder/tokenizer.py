"""Text to token ids as MedSigLIP expects them: lower case, no punctuation, ended and padded with `</s>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as _Tokenizer

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
    """`tokenizer.json` with fixed-length output; eos and pad are both id 1, as the checkpoint's configuration says."""

    def __init__(self, path: Path, length: int = 64, end_id: int = 1) -> None:
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path} is not a tokenizer ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.length = length
        self._end = end_id

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[Cut]]:
        """Token ids of (len(texts), length), int64, and the texts that had to be cut."""
        ids = np.full((len(texts), self.length), self._end, np.int64)
        cuts: list[Cut] = []
        for row, (text, encoding) in enumerate(zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)):
            tokens = encoding.ids  # ends with </s>
            if len(tokens) > self.length:
                keep = tokens[: self.length - 1]
                lost = self._tokenizer.decode(tokens[self.length - 1 : -1])
                cuts.append(Cut(text, self._tokenizer.decode(keep), lost))
                tokens = [*keep, self._end]
            ids[row, : len(tokens)] = tokens
        return ids, cuts
