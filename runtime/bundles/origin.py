"""When, by which medge and from which checkpoint something was made or measured."""

from __future__ import annotations

import os
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


def made_at() -> datetime:
    """Now, UTC; the moment of SOURCE_DATE_EPOCH where that is set, so that what is made twice is the same."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(told), UTC) if told else datetime.now(UTC)


def today() -> str:
    """The day, UTC, as "2026-11-26"."""
    return datetime.now(UTC).date().isoformat()
