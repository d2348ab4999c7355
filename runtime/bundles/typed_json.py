"""JSON read back, strictly, to the dataclasses that it was written from.

What a field may hold stands in its type: `Annotated[int, msgspec.Meta(gt=0)]`. Nothing is guessed or converted, except that a
whole number may stand where a fraction is read.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from ..errors import one_line
from ..json_text import loads

T = TypeVar("T")


@cache
def field_types(kind: type) -> dict[str, Any]:
    """{field: type} of a dataclass, its parents' fields included."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def without_none(kind: Any) -> Any:
    """`X` of `X | None`; another type as it is."""
    inner = [one for one in get_args(kind) if one is not NoneType]
    return inner[0] if NoneType in get_args(kind) and len(inner) == 1 else kind


def parse(content: bytes) -> dict[str, Any]:
    """The object that JSON holds.

    Raises:
        ValueError: as of `loads`; it is no UTF-8, no object, or names a field twice.
    """
    body = loads(content.decode(), once=True)
    if not isinstance(body, dict):
        raise ValueError("it is no object")
    return body


def build(kind: type[T], body: dict[str, Any]) -> T:
    """The dataclass of this type that parsed JSON holds.

    Raises:
        ValueError: a field is missing, unknown, or of another form; the message names it.
    """
    try:
        found = msgspec.convert(body, type=kind)
        unknown = _unknown(body, msgspec.to_builtins(found), "$")
    except msgspec.ValidationError as error:
        raise ValueError(_short(str(error))) from error
    except RecursionError as error:
        raise ValueError("objects or lists stand too deep in one another") from error
    if unknown:
        raise ValueError(_short(f"unknown field `{unknown}`"))
    return found


def _short(message: str) -> str:
    """A message without the pattern, which tells a user nothing, and without the middle of a long value; the field comes last."""
    message = re.sub(r"Expected `str` matching regex '.*'(?= - at )", "Not a text that may stand here", message)
    return one_line(message, 400)


def _unknown(given: Any, kept: Any, path: str) -> str:
    """The path of the first thing that was given and not kept; "" where everything was."""
    if isinstance(given, dict):
        for name, value in given.items():
            below = f"{path}.{name[:80]}"
            if found := below if name not in kept else _unknown(value, kept[name], below):
                return found
    elif isinstance(given, list):
        for number, pair in enumerate(zip(given, kept, strict=True)):
            if found := _unknown(*pair, f"{path}[{number}]"):
                return found
    return ""
