"""Run the command line as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def hears_ctrl_c() -> None:
    """For `preexec_fn`: a test run that was started in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def medge(
    *words: object, code: int | None = 0, cwd: Path | None = None, said: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, with `said` typed into it; its exit code must be `code` (any where None), and no traceback may show."""
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "medge", *map(str, words)], capture_output=True, text=True, check=False, cwd=cwd,
        env=environment, input=said,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done
