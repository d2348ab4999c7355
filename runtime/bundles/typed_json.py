"""JSON back to the dataclasses that it was written from."""

from __future__ import annotations

import dataclasses
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints


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
    wanted = _JSON.get(origin or kind)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool)):
        raise TypeError(f"{value!r} is no {getattr(kind, '__name__', kind)}")
    if origin is Literal and value not in inner:
        raise TypeError(f"{value!r} is none of {inner}")
    if origin is tuple:
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise TypeError(f"{value!r} has not {len(inner)} members")
        return tuple(build(inner[0], item) for item in value)
    if origin is dict:
        return {key: build(inner[1], item) for key, item in value.items()}
    return value


# What JSON makes of each type; a whole number may be written where a fraction is read.
_JSON: dict[Any, tuple[type, ...]] = {
    int: (int,), float: (int, float), str: (str,), bool: (bool,), tuple: (list,), dict: (dict,),
}  # fmt: skip
