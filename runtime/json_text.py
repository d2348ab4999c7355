"""JSON as a file from outside may hold it: whatever is wrong with it is a `ValueError`."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from .errors import one_line

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CONTROL = {
    code: " " for code in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E)
}


def loads(text: str, *, once: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: the text.
        once: refuse an object that names a field twice.

    Raises:
        ValueError: it is none, holds a number that is not finite or half a character, or nests deeper than Python can follow.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once if once else None)
        if _SURROGATE.search(text):  # rare: an emoji that is written as two escapes is sound, half of one is not
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("objects or lists stand too deep in one another") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it holds half of a character") from error
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {one_line(number, 40)} is out of range")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        twice = next(name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1)
        raise ValueError(f"the field '{one_line(twice, 80)}' is there twice")
    return body


def holds_controls(text: str) -> bool:
    """Whether a text holds line breaks, or characters that steer a terminal or turn its direction."""
    return text.translate(_CONTROL) != text


def flattened(text: str, most: int | None = None) -> str:
    """A text without control characters and line breaks, each run of blanks as one.

    Args:
        text: the text.
        most: characters after which it is cut.
    """
    line = " ".join(text.translate(_CONTROL).split())
    return line if most is None or len(line) <= most else f"{line[:most]}..."
