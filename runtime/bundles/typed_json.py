"""JSON back to the dataclasses that it was written from."""

from __future__ import annotations

import dataclasses
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints


@cache
def field_types(kind: type) -> dict[str, Any]:
    """{field: type} of a dataclass, its parents' fields included."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def without_none(kind: Any) -> Any:
    """`X` of `X | None`; another type as it is."""
    inner = [one for one in get_args(kind) if one is not NoneType]
    return inner[0] if NoneType in get_args(kind) and len(inner) == 1 else kind


def build(kind: Any, value: Any) -> Any:
    """JSON to the dataclass (or tuple, mapping, union with None) that its type says.

    Raises:
        TypeError, KeyError: a field is missing, unknown, or of another form.
    """
    if dataclasses.is_dataclass(value):
        return value
    if without_none(kind) is not kind:
        return None if value is None else build(without_none(kind), value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} can't be made of {value!r}")
        types = field_types(kind)
        return kind(**{name: build(types[name], item) for name, item in value.items()})
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(build(inner[0], item) for item in value)
    if origin is dict:
        return {key: build(inner[1], item) for key, item in value.items()}
    return value
