"""JSON as a file from outside may hold it: whatever is wrong with it is a `ValueError`."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CONTROL = {
    code: " " for code in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E)
}


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, holds NaN or infinity or half a character, or nests deeper than Python can follow.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text):  # rare: an emoji that is written as two escapes is sound, half of one is not
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it holds half of a character") from error
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def holds_controls(text: str) -> bool:
    """Whether a text holds line breaks, or characters that steer a terminal or turn its direction."""
    return text.translate(_CONTROL) != text


def one_line(text: str, most: int | None = None) -> str:
    """A text without control characters and line breaks, each run of blanks as one.

    Args:
        most: characters after which it is cut.
    """
    line = " ".join(text.translate(_CONTROL).split())
    return line if most is None or len(line) <= most else f"{line[:most]}..."
