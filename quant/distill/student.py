"""Shapes of student towers: a table, how to say another, and what one image costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...runtime.errors import RecipeError


@dataclass(frozen=True)
class StudentSpec:
    """Shape of a tower; None for what the teacher has.

    Attributes:
        name: what the user says.
        width, depth, heads, mlp: of the transformer.
        patch, resolution: of a vision tower, in pixels.
    """

    name: str
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp: int | None = None
    patch: int | None = None
    resolution: int | None = None


# The shapes of Dosovitskiy et al. 2021 (B) and Touvron et al. 2021 (S, Ti), at 224 pixels.
STUDENTS: dict[str, StudentSpec] = {
    spec.name: spec
    for spec in (
        StudentSpec("base", 768, 12, 12, 3072, 16, 224),
        StudentSpec("small", 384, 12, 6, 1536, 16, 224),
        StudentSpec("tiny", 192, 12, 3, 768, 16, 224),
        StudentSpec("same"),
    )
}
_KEYS = tuple(field.name for field in fields(StudentSpec) if field.name != "name")
_CONFIG_KEYS = {
    "width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads", "mlp": "intermediate_size",
    "patch": "patch_size", "resolution": "image_size",
}  # fmt: skip


def parse_student(text: str) -> StudentSpec:
    """A name of the table, or "width=96,depth=5,..." where what is not said is the teacher's.

    Raises:
        RecipeError: neither.
    """
    if text in STUDENTS:
        return STUDENTS[text]
    values: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(rf"\s*({'|'.join(_KEYS)})=(\d+)\s*", part)
        if found is None or not int(found[2]):
            raise RecipeError(
                f"{part.strip()!r} names no student; say {', '.join(STUDENTS)}, or width=96,depth=5 (of {', '.join(_KEYS)})"
            )
        values[found[1]] = int(found[2])
    return StudentSpec(text, **values)


def student_config(spec: StudentSpec, teacher: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of one tower: the teacher's with the spec's shape.

    Of another width, heads keep the teacher's size as far as that divides, and the MLP its proportion.

    Raises:
        RecipeError: the shape can't be: heads must divide the width, patches the resolution.
    """
    config = dict(teacher)
    if spec.width is not None and spec.width != teacher["hidden_size"]:
        size = teacher["hidden_size"] // teacher["num_attention_heads"]
        heads = max(1, round(spec.width / size))
        while spec.width % heads:
            heads -= 1
        mlp = round(spec.width * teacher["intermediate_size"] / teacher["hidden_size"] / 16) * 16
        config |= {"num_attention_heads": heads, "intermediate_size": mlp}
    for key in _KEYS:
        if (value := getattr(spec, key)) is not None:
            config[_CONFIG_KEYS[key]] = value
    if config["hidden_size"] % config["num_attention_heads"]:
        raise RecipeError(
            f"{spec.name!r}: a width of {config['hidden_size']} can't be split among {config['num_attention_heads']} heads"
        )
    if "patch_size" in config and config["image_size"] % config["patch_size"]:
        raise RecipeError(
            f"{spec.name!r}: {config['image_size']} pixels are no multiple of a patch of {config['patch_size']}"
        )
    return config


def operations(vision: Mapping[str, Any]) -> int:
    """Multiply-adds of one image through a SigLIP vision tower with this configuration: matrix products only."""
    width, mlp, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    tokens = (vision["image_size"] // patch) ** 2
    block = tokens * (4 * width**2 + 2 * width * mlp) + 2 * tokens**2 * width
    embedding = tokens * 3 * patch**2 * width
    # The pooling head has one query: keys and values of all tokens, then one row through the rest.
    head = 2 * tokens * width**2 + 2 * tokens * width + 2 * width**2 + 2 * width * mlp
    return int(embedding + vision["num_hidden_layers"] * block + head)


def choose_layers(types: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Which layers of a teacher make a shallower student, in order, each of the type that its place asks for.

    Gemma's layers are of two types by their place (every sixth sees the whole context, the others a window), so layers can't
    just be dropped. Of all orderly choices the one is taken that is spread most evenly.

    Args:
        types: of the teacher's layers.
        wanted: of the student's.

    Raises:
        RecipeError: the teacher has no such layers.
    """
    best: list[list[tuple[float, list[int]] | None]] = [[(0.0, [])] * (len(types) + 1)]
    for place, kind in enumerate(wanted):
        even = place * (len(types) - 1) / max(1, len(wanted) - 1)
        row: list[tuple[float, list[int]] | None] = [None]
        for number, found in enumerate(types):
            before = best[-1][number]
            taken = None
            if found == kind and before is not None:
                taken = (before[0] + (number - even) ** 2, [*before[1], number])
            # The best choice among the first `number + 1` layers: with this one as the last, or without it.
            row.append(min((c for c in (row[-1], taken) if c is not None), key=lambda c: c[0], default=None))
        best.append(row)
    last = best[-1][-1]
    if last is None:
        raise RecipeError(
            f"{len(wanted)} layers of the types {', '.join(sorted(set(wanted)))} can't be taken from {len(types)}"
        )
    return last[1]
