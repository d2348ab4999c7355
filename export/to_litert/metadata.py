"""What a .tflite file says of itself, as LiteRT's tools read it: TensorFlow Lite's metadata, of which the schema is public.

The schema (metadata_schema.fbs of tflite-support) has dozens of tables; the few that an encoder needs are written here by their
slots, since no package that LiteRT needs carries it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import flatbuffers

from ...runtime.bundles.manifest import LICENCE_NOTICE
from ...runtime.pictures.preprocess import Normalisation

NAME, OWN = (
    "TFLITE_METADATA",
    "medge",
)  # entries of the file's metadata: for everyone, and JSON with what there's no table for
IDENTIFIER = b"M001"
LEAST_PARSER = "1.0.0"
RGB = 1
FEATURES, IMAGE = 1, 2  # of what a tensor's content may be
NORMALISATION = 1  # of what a process unit may be

Write = Callable[[flatbuffers.Builder], int]  # writes a table, a text or a list; returns its place


@dataclass(frozen=True)
class Described:
    """A tensor for people and tools.

    Attributes:
        name: in the file's signature.
        text: what it holds.
        normalisation: of an image's grey levels, None for what is no image.
        side: pixels of an image's side.
    """

    name: str
    text: str
    normalisation: Normalisation | None = None
    side: int = 0


def metadata(facts: Mapping[str, str], given: Described, found: Described) -> dict[str, bytes]:
    """The entries of a tower's file: {name: content}.

    Args:
        facts: as `Making.metadata`, with "tower" and "recipe".
        given, found: the tower's input and its output.
    """
    told = (
        f"{facts['tower']} tower of {facts['source']}, recipe {facts['recipe']}, images prepared by {facts['profile']}: "
        "an embedding, not yet of unit length. Not a medical device."
    )
    graph = _table({2: _list([_tensor(given)]), 3: _list([_tensor(found)])})
    model = _table({
        0: _text(f"{facts['source']} {facts['tower']}"), 1: _text(told), 3: _list([graph]), 4: _text("medge"),
        5: _text(LICENCE_NOTICE), 7: _text(LEAST_PARSER),
    })  # fmt: skip
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model(builder), file_identifier=IDENTIFIER)
    return {NAME: bytes(builder.Output()), OWN: json.dumps(dict(facts), ensure_ascii=False).encode()}


def _tensor(tensor: Described) -> Write:
    fields: dict[int, Write | int] = {0: _text(tensor.name), 1: _text(tensor.text)}
    if (normalise := tensor.normalisation) is None:
        return _table({**fields, 3: _table({0: FEATURES, 1: _table({})})})
    size = _table({0: tensor.side, 1: tensor.side}, width="u32")
    fields[3] = _table({0: IMAGE, 1: _table({0: RGB, 1: size})})
    # Readers of this table compute (grey level - mean) / deviation.
    scaled = [[255 * value for value in values] for values in (normalise.mean, normalise.std)]
    fields[4] = _list([_table({0: NORMALISATION, 1: _table({0: _floats(scaled[0]), 1: _floats(scaled[1])})})])
    return _table(fields)


def _table(fields: Mapping[int, Write | int], width: str = "u8") -> Write:
    """A table by its slots; numbers are bytes, or of 32 bits."""

    def write(builder: flatbuffers.Builder) -> int:
        written = {slot: what if isinstance(what, int) else what(builder) for slot, what in fields.items()}
        builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in written.items():
            if not isinstance(fields[slot], int):
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            elif width == "u8":
                builder.PrependUint8Slot(slot, value, 0)
            else:
                builder.PrependUint32Slot(slot, value, 0)
        return int(builder.EndObject())

    return write


def _text(text: str) -> Write:
    return lambda builder: int(builder.CreateString(text))


def _list(items: Sequence[Write]) -> Write:
    def write(builder: flatbuffers.Builder) -> int:
        places = [item(builder) for item in items]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    return write


def _floats(values: Sequence[float]) -> Write:
    def write(builder: flatbuffers.Builder) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return int(builder.EndVector())

    return write
