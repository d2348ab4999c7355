"""What a bundle lost although its gates hold, and that they do not, told by every command that makes or measures bundles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ...runtime.console.terminal import err, warn
from .options import FAILED_GATE

if TYPE_CHECKING:
    from ...runtime.bundles.parity_report import ParityReport


def tell_failed(folders: Sequence[Path]) -> None:
    """Name the bundles that were made and failed a gate, and end with the code for that where there is one."""
    for folder in folders:
        warn(f"{folder} failed its parity gate: it was written, but the runtime will refuse it")
    if folders:
        err.file.flush()
        raise typer.Exit(FAILED_GATE)


def tell_losses(bundle: Path, reports: Iterable[ParityReport]) -> None:
    """On stderr, the warnings of reports that passed."""
    for report in reports:
        for warning in report.warnings if report.status == "passed" else ():
            warn(f"{bundle} passed with a warning: {warning}")
