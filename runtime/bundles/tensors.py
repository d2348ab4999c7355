"""The one reader of safetensors files: declared names, shapes and types, and finite values."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..errors import one_line

MOST_BYTES = 1 << 30  # of a file of embeddings, labels or golden results; none comes near


@dataclass(frozen=True)
class Declared:
    """What a tensor must be.

    Attributes:
        dtype: as safetensors names it: "F32", "I64", "U8".
        shape: None, or a word, where any length from 1 on will do; dimensions with the same word have the same length.
    """

    dtype: str
    shape: tuple[int | str | None, ...]


def read_tensors(path: Path, declared: Mapping[str, Declared]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of a file and its metadata.

    Args:
        path: the file.
        declared: every tensor that the file must hold; it may hold no other.

    Raises:
        ValueError: it is no such file, or holds something else; the message says what, without the file's name.
    """
    try:
        check_regular(path, MOST_BYTES)
        with safe_open(path, "np") as stream:
            names = set(stream.keys())
            if names != set(declared):
                found = one_line(", ".join(sorted(names))) or "nothing"
                raise ValueError(f"it holds {found}, and must hold {', '.join(sorted(declared))}")
            lengths: dict[str, int] = {}
            for name, wanted in declared.items():
                outline = stream.get_slice(name)
                _check(name, outline.get_dtype(), outline.get_shape(), wanted, lengths)
            tensors = {name: stream.get_tensor(name) for name in declared}
            metadata = dict(stream.metadata() or {})
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except SafetensorError as error:
        raise ValueError(one_line(error)) from error
    for name, values in tensors.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name!r} has values that are not finite numbers")
    return tensors, metadata


def check_regular(path: Path, most: int) -> None:
    """Check, before a file is read, that it is one, and not larger than any of its kind.

    Args:
        path: the file; it may be reached by a link.
        most: bytes that it may have.

    Raises:
        OSError: there is none, or it can't be looked at.
        ValueError: it is a folder, a device or a pipe, or too large; the message says which, without the file's name.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no regular file")
    if facts.st_size > most:
        raise ValueError(f"it has {facts.st_size} bytes, more than {most}")


def _check(name: str, dtype: str, shape: list[int], wanted: Declared, lengths: dict[str, int]) -> None:
    fits = dtype == wanted.dtype and len(shape) == len(wanted.shape)
    for length, asked in zip(shape, wanted.shape, strict=False):
        if isinstance(asked, str):
            asked = lengths.setdefault(asked, length)
        fits = fits and length > 0 and asked in (None, length)
    if not fits:
        must = " x ".join("?" if one is None else str(lengths.get(str(one), one)) for one in wanted.shape)
        is_ = " x ".join(map(str, shape))
        raise ValueError(f"{name!r} is {dtype} of {is_ or 'one value'}, and must be {wanted.dtype} of {must}")


def check_unit_length(rows: NDArray[np.float32], what: str) -> None:
    """Check that embeddings, (N, D), are of unit length.

    Raises:
        ValueError: a row is not; `what` names the rows.
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=-1)
    if not bool((np.abs(lengths - 1) < UNIT).all()):  # a length that is no number is none either
        worst = int(np.argmax(np.nan_to_num(np.abs(lengths - 1), nan=np.inf)))
        raise ValueError(f"{what} {worst} has length {lengths[worst]:.6g} instead of 1")


UNIT = 1e-3  # float32 sums of thousands of squares stay a thousand times nearer to 1
