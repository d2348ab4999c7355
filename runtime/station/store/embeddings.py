"""The clinic's own index: embeddings of the pictures that the station has judged, in its database.

They go with their study, and are in every backup. `medge index` keeps files of a folder instead, in a file of its own, which
could not be removed from in the same transaction. A search reads all of them in pieces: exact, and with little memory.
Each function works within a transaction.
"""

from __future__ import annotations

import heapq
import sqlite3
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PIECE = 2048  # embeddings that are held at a time


@dataclass(frozen=True)
class Near:
    """A picture that is like another one.

    Attributes:
        instance, study: UIDs.
        frame: which of the instance's frames is the nearest.
        similarity: cosine.
    """

    instance: str
    study: str
    frame: int
    similarity: float


def remember(connection: sqlite3.Connection, instance: str, frame: int, space: str, row: NDArray[np.float32]) -> bool:
    """Keep an embedding, or replace it; whether its instance is still there.

    Args:
        connection: of a transaction.
        instance: its UID.
        frame: which frame.
        space: the encoder's fingerprint.
        row: (D,) float32 of unit length.
    """
    return (
        connection.execute(
            "INSERT INTO embeddings (instance, frame, space, vector) SELECT uid, ?, ?, ? FROM instances WHERE uid = ? "
            "ON CONFLICT (instance, frame, space) DO UPDATE SET vector = excluded.vector",
            (frame, space, row.astype("<f4").tobytes(), instance),
        ).rowcount
        > 0
    )


def known(connection: sqlite3.Connection, instance: str, space: str) -> dict[int, NDArray[np.float32]]:
    """{frame: embedding} of an instance, each (D,) float32."""
    rows = connection.execute(
        "SELECT frame, vector FROM embeddings WHERE instance = ? AND space = ? ORDER BY frame", (instance, space)
    )
    return {row[0]: np.frombuffer(row[1], "<f4").astype(np.float32) for row in rows}


def nearest(
    connection: sqlite3.Connection, query: NDArray[np.float32], space: str, count: int, *, without: str = ""
) -> list[Near]:
    """The nearest instances, the nearest first, each with its nearest frame.

    Args:
        connection: of a transaction.
        query: (D,) float32 of unit length.
        space: the encoder's fingerprint.
        count: how many at most.
        without: the UID of an instance to leave out.
    """
    best: dict[str, tuple[float, int]] = {}
    size = 4 * len(query)
    rows = connection.execute(
        "SELECT instance, frame, vector FROM embeddings WHERE space = ? AND instance <> ? AND length(vector) = ?",
        (space, without, size),
    )
    while piece := rows.fetchmany(_PIECE):
        matrix = np.frombuffer(b"".join(row[2] for row in piece), "<f4").reshape(len(piece), len(query))
        for row, cosine in zip(piece, (matrix @ query).tolist(), strict=True):
            if row[0] not in best or cosine > best[row[0]][0]:
                best[row[0]] = cosine, row[1]
        if len(best) > 4 * count + _PIECE:
            best = dict(heapq.nlargest(count, best.items(), key=lambda one: one[1]))
    found = heapq.nlargest(count, best.items(), key=lambda one: one[1])
    return [Near(uid, _study(connection, uid), frame, cosine) for uid, (cosine, frame) in found]


def _study(connection: sqlite3.Connection, instance: str) -> str:
    row = connection.execute(
        "SELECT study FROM series JOIN instances ON instances.series = series.uid WHERE instances.uid = ?", (instance,)
    ).fetchone()
    return str(row[0])
