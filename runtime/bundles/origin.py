"""When, by which medge and from which checkpoint something was made or measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """What stands at the beginning of every page.

    Attributes:
        date: the day, UTC, as "2026-11-26".
        medge: medge's version.
        source: {file: SHA-256} of the checkpoint: its configuration and its weights.
    """

    date: str
    medge: str
    source: dict[str, str]
