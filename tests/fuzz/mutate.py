"""Changes at random: of bytes, and of JSON values. All take their chance from one `random.Random`."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, -(2**31), -(2**63),
    0.5, -0.0, 1e-320, 1e300, -1e300, math.nan, math.inf, -math.inf, 10**400,
)  # fmt: skip
TEXTS = (
    "", " ", "x", "0", "-1", "1e999", "nan", "\x00", "a\x00b", "\x1b[31mred\x1b[0m", "[/red]", "[bold]x", "../../etc/passwd",
    "/etc/passwd", "/dev/zero", "/dev/stdin", "C:\\x", "a/../b", "./manifest.json", "manifest.json", "\ud800", "\u202eabc",
    "é" * 300, "x" * 5000, "{}", "{{ 7 }}", "%s%n", "a\nb", "\n", "con", "~", "-x", "--help", "\ufeff", "👩🏽\u200d⚕️", "null",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, [0] * 2000, {"a": {"b": []}})


def nasty(rng: random.Random, near: Any = None) -> Any:
    """A value that a reader may stumble over; often one of the type, or near the value, of what stands there."""
    chance = rng.random()
    if isinstance(near, bool) and chance < 0.5:
        return not near
    if isinstance(near, int | float) and not isinstance(near, bool) and chance < 0.6:
        return rng.choice((
            near + 1, near - 1, -near, near * 2, near * 1000, str(near), float(near) if abs(near) < 2**1000 else 0.0, [near],
            rng.choice(NUMBERS), rng.choice(NUMBERS), rng.randrange(-5, 300),
        ))  # fmt: skip
    if isinstance(near, str) and chance < 0.6:
        return rng.choice((
            near + "x", near[:-1], near.upper(), near * 50, f"../{near}", f"/{near}", near[::-1], [near], rng.choice(TEXTS),
                rng.choice(TEXTS),
        ))  # fmt: skip
    if isinstance(near, list) and chance < 0.5:
        return rng.choice(
            (
                near[:-1],
                near[1:],
                near * 2,
                [*near, rng.choice(NUMBERS)],
                list(reversed(near)),
                dict(enumerate(map(str, near))),
            )
        )
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, NUMBERS, TEXTS, OTHERS))))


def paths(tree: Any, at: tuple[Any, ...] = (), *, most: int = 60) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON tree stand; of long lists the first ones and the last."""
    yield at
    if isinstance(tree, dict):
        for key in list(tree)[:most]:
            yield from paths(tree[key], (*at, key), most=most)
    elif isinstance(tree, list):
        for index in sorted({*range(min(len(tree), most // 4)), *range(max(0, len(tree) - 2), len(tree))}):
            yield from paths(tree[index], (*at, index), most=most)


def get(tree: Any, path: tuple[Any, ...] | list[Any]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def json_edits(rng: random.Random, tree: Any, *, most: int = 60) -> list[list[Any]]:
    """One to three changes of a JSON tree, for `edit_json`."""
    places = [path for path in paths(tree, most=most) if path]
    edits: list[list[Any]] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = list(rng.choice(places))
        action = rng.choice(("set", "set", "set", "set", "delete", "add", "rename", "copy", "swap"))
        if action == "set":
            edits.append(["set", path, nasty(rng, get(tree, path))])
        elif action == "delete":
            edits.append(["delete", path])
        elif action == "add":
            edits.append(["add", path, rng.choice(("extra", "", "__class__", "kind")), nasty(rng)])
        elif action == "rename":
            edits.append(["rename", path, rng.choice(TEXTS)])
        else:
            edits.append([action, path, list(rng.choice(places))])
    return edits


def edit_json(tree: Any, edits: list[list[Any]]) -> Any:
    """A changed copy; a change whose place is gone by an earlier one is passed over."""
    tree = copy.deepcopy(tree)
    for action, path, *rest in edits:
        try:
            holder, key = get(tree, path[:-1]), path[-1]
            old = holder[key]
            if action == "set":
                holder[key] = rest[0]
            elif action == "delete":
                del holder[key]
            elif action == "add" and isinstance(old, dict):
                old[rest[0]] = rest[1]
            elif action == "add" and isinstance(old, list):
                old.append(rest[1])
            elif action == "rename" and isinstance(holder, dict):
                holder[rest[0]] = holder.pop(key)
            elif action == "copy":
                holder[key] = copy.deepcopy(get(tree, rest[0]))
            elif action == "swap":
                other, where = get(tree, rest[0][:-1]), rest[0][-1]
                holder[key], other[where] = copy.deepcopy(other[where]), copy.deepcopy(old)
        except (KeyError, IndexError, TypeError):
            continue
    return tree


def byte_edits(rng: random.Random, data: bytes, *, head: int = 0) -> list[list[Any]]:
    """One to four changes of bytes, [offset, how many are taken out, what is put in as hexadecimal digits].

    Args:
        head: so many bytes at the beginning are changed as often as all the rest.
    """
    edits: list[list[Any]] = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(data)
        at = rng.randrange(min(head, size)) if head and rng.random() < 0.5 else rng.randrange(size) if size else 0
        action = rng.random()
        if action < 0.3:
            edits.append([at, 1, bytes([data[at] ^ (1 << rng.randrange(8))]).hex() if size else "00"])
        elif action < 0.55:
            count = rng.choice((1, 2, 4, 8))
            edits.append([at, count, rng.choice((b"\0", b"\xff", b"\x80", b"\x7f", b"\x01")).hex() * count])
        elif action < 0.65:
            edits.append([at, rng.choice((1, 2, 3, 4, 8, 16, 64)), ""])
        elif action < 0.75:
            edits.append([at, 0, rng.randbytes(rng.choice((1, 2, 4, 16))).hex()])
        elif action < 0.85:
            start, count = rng.randrange(max(size, 1)), rng.choice((2, 4, 8, 32, 128))
            edits.append([at, rng.choice((0, count)), data[start : start + count].hex()])
        else:
            edits.append([at, size - at, ""])
    return edits


def edit_bytes(data: bytes, edits: list[list[Any]]) -> bytes:
    for at, out, new in edits:
        data = data[:at] + bytes.fromhex(new) + data[at + out :]
    return data


def mangled(rng: random.Random, data: bytes, *, head: int = 0) -> bytes:
    return edit_bytes(data, byte_edits(rng, data, head=head))
