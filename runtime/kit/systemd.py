"""Calling systemd."""

from __future__ import annotations

import subprocess
from typing import Literal

from ..errors import KitError

Scope = Literal["", "system", "user"]  # whose services; "" where systemd runs none


def systemctl(scope: Scope, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run systemctl to its end; whether it failed is the caller's to see.

    Args:
        scope: whose services.
        words: of the command.
        seconds: that it may take.

    Raises:
        KitError: it has not ended by then.
    """
    command = ["systemctl", *(["--user"] if scope == "user" else []), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise KitError(f"{' '.join(command)} has not ended within {seconds:.0f} s") from error
