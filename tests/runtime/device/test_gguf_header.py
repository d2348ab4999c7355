"""GGUF files from outside: whole ones are read, every kind of damage is one clear sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medge.runtime.device.gguf_header import read_header
from medge.runtime.errors import BundleError


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_file(
    *, magic: bytes = b"GGUF", version: int = 3, tensors: list[tuple[str, tuple[int, ...], int, int]] | None = None,
    count: int | None = None, data: int = 128, extra: bytes = b"", keys: int = 0,
) -> bytes:  # fmt: skip
    """A file made by hand: tensors of (name, shape, type, offset), then `data` bytes."""
    tensors = [("a", (32,), 0, 0)] if tensors is None else tensors
    architecture = string("general.architecture") + struct.pack("<I", 8) + string("gemma3")
    head = (
        magic + struct.pack("<IQQ", version, len(tensors) if count is None else count, 1 + keys) + architecture + extra
    )
    for name, shape, kind, offset in tensors:
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return head + bytes(-len(head) % 32) + bytes(data)


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    return path


def test_a_sound_file(tmp_path: Path) -> None:
    header = read_header(write(tmp_path, gguf_file(tensors=[("a", (32, 2), 8, 0), ("b", (8,), 0, 96)])))
    assert header.architecture == "gemma3"
    assert header.tensors["a"].bytes == 68
    assert header.tensors["b"].offset % 32 == 0
    assert header.types() == {"F32": 1, "Q8_0": 1}
    assert header.kinds == {"general.architecture": "STR"}


def test_arrays_stand_as_their_length_unless_asked_for(tmp_path: Path) -> None:
    words = string("words") + struct.pack("<IIQ", 9, 8, 2) + string("aorta") + string("hilus")
    numbers = string("numbers") + struct.pack("<IIQ3f", 9, 6, 3, 0.5, -1.0, 2.0)
    path = write(tmp_path, gguf_file(keys=2, extra=words + numbers))
    assert read_header(path).metadata == {"general.architecture": "gemma3", "words": 2, "numbers": 3}
    asked = read_header(path, ["words", "numbers", "none"])
    assert asked.metadata["words"] == [b"aorta", b"hilus"]
    assert asked.metadata["numbers"] == [0.5, -1.0, 2.0]
    assert asked.tensors == read_header(path).tensors


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gguf_file(magic=b"GGML"), "does not begin with GGUF"),
        (gguf_file(version=9), "format version is 9"),
        (gguf_file(data=100), "ends before tensor 'a'"),
        (gguf_file(tensors=[("a", (1 << 38,), 0, 0)]), "ends before tensor 'a'"),
        (gguf_file(tensors=[("a", (1 << 63, 1 << 63), 0, 0)]), "can't have the shape"),
        (gguf_file(tensors=[("a", (33,), 8, 0)]), "can't have the shape"),
        (gguf_file(tensors=[("a", (0,), 0, 0)]), "can't have the shape"),
        (gguf_file(tensors=[("a", (8,), 77, 0)]), "unknown type 77"),
        (gguf_file(tensors=[("a", (8,), 0, 7)]), "wrong or occupied"),
        (gguf_file(tensors=[("a", (32,), 0, 0), ("b", (32,), 0, 64)], data=512), "wrong or occupied"),
        (gguf_file(tensors=[("a", (8,), 0, 0), ("a", (8,), 0, 32)]), "twice"),
        (gguf_file(tensors=[("a", (1,) * 5, 0, 0)]), "5 dimensions"),
        (gguf_file(count=1 << 40), "promises"),
        (gguf_file()[:40], "cut off"),
        (gguf_file(keys=1, extra=string("k") + struct.pack("<IIQ", 9, 8, 1 << 27)), "cut off"),
        (gguf_file(keys=1, extra=string("k") + struct.pack("<I", 99)), "unknown type 99"),
        (gguf_file(keys=1, extra=string("k") + struct.pack("<IIQ", 9, 9, 0)), "array of the unknown type 9"),
        (gguf_file(keys=2, extra=(string("k") + struct.pack("<IB", 7, 1)) * 2), "'k' stands in it twice"),
        (gguf_file(keys=1, extra=struct.pack("<QB", 1, 255) + struct.pack("<IB", 7, 1)), "no UTF-8"),
        (gguf_file(keys=1, extra=string("k") + struct.pack("<IQ", 8, 1 << 60)), "cut off"),
        (gguf_file(keys=1, extra=string("general.alignment") + struct.pack("<II", 4, 0)), "alignment of 0"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        read_header(write(tmp_path, content))


def test_empty_and_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="GGUF"):
        read_header(write(tmp_path, b""))
    with pytest.raises(BundleError, match="No such file"):
        read_header(tmp_path / "nowhere.gguf")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 160), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_no_byte_can_make_it_crash(tmp_path: Path, where: int, value: int, cut: int) -> None:
    content = bytearray(gguf_file(tensors=[("a", (32, 2), 8, 0), ("b", (8,), 0, 96)]))
    content[min(where, len(content) - 1)] = value
    try:
        header = read_header(write(tmp_path, bytes(content[: max(cut, 1)])))
    except BundleError:
        return
    assert all(tensor.offset + tensor.bytes <= cut for tensor in header.tensors.values())
