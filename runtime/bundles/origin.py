"""When, by which medge and from which checkpoint something was made or measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


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


def today() -> str:
    """The day, UTC, as "2026-11-26"."""
    return datetime.now(UTC).date().isoformat()
