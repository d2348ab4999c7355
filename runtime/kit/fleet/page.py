"""The fleet's page: one file that loads nothing from anywhere. Needs `medge[pages]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pages.templates import Head, templates_of

_TONES = {"bad": "Some devices compute wrongly", "warn": "Some devices need a look", "good": "Every device does well"}


def render(facts: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        facts: as `compare.compared` gives them.
    """
    devices = facts["devices"]
    behind = [one for one in devices if facts["newest_kit"] and (one["kit"] or 0) < facts["newest_kit"]]
    bad = [one for one in devices if one["trouble"]]
    slow = [one for one in devices if one["slow"]]
    tone = "bad" if bad else "warn" if slow or behind or facts["refused"] else "good"
    days = sorted(one["collected"] for one in devices)
    head = Head(
        f"Fleet: {len(devices)} {'device' if len(devices) == 1 else 'devices'}",
        [
            ("collected", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")
            if days
            else ("collected", "–"),
            ("newest kit", str(facts["newest_kit"] or "none was installed from a kit")),
        ],
    )
    return templates_of("medge.runtime.kit.fleet").get_template("fleet.html.jinja").render(
        head=head, plots=(), facts=facts, tone=tone, status=_TONES[tone], bad=bad, slow=slow, behind=behind,
        named=named, share=share, seconds=seconds, gigabytes=gigabytes,
    )  # fmt: skip


def named(device: Mapping[str, Any]) -> str:
    """What a device is called: its label, else its word."""
    return str(device["label"] or device["id"])


def share(value: float | None) -> str:
    """ "35%"; a dash of what is not told."""
    return "–" if value is None else f"{100 * value:.0f}%"


def seconds(value: float | None) -> str:
    """ "0.42 s", "12 s"; a dash of what is not told."""
    return "–" if not value else f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def gigabytes(value: float) -> str:
    """ "8.2 GB"."""
    return f"{value / 1e9:,.1f} GB"
