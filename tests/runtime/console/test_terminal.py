"""What is said about work that takes long."""

from __future__ import annotations

import pytest

from medge.runtime.console import terminal


def test_piped_output_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 10.0, 31.0, 40.0, 500.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr(terminal, "err", terminal.Console(stderr=True))
    lines = terminal._Lines()
    for done in (0, 10, 31, 40, 90):
        lines("images", done, 120)
    assert capfd.readouterr().err.splitlines() == [
        "medge: images: 31 of 120, about 89 s left", "medge: images: 90 of 120, about 3 min left",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "told"), [(4.4, "4 s"), (89, "89 s"), (90, "2 min"), (12000, "3 h 20 min")])
def test_durations(seconds: float, told: str) -> None:
    assert terminal._duration(seconds) == told
