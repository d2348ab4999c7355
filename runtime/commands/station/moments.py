"""Moments as the station's commands print them."""

from __future__ import annotations

import datetime


def moment(seconds: float | None) -> str:
    """ "2026-11-27 08:20" in this machine's time; "never" of None."""
    if seconds is None:
        return "never"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
