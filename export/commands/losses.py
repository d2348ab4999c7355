"""What a bundle lost although its gates hold, told by every command that measures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.console.terminal import warn

if TYPE_CHECKING:
    from ...runtime.bundles.parity_report import ParityReport


def tell_losses(bundle: Path, reports: Iterable[ParityReport]) -> None:
    """On stderr, the warnings of reports that passed."""
    for report in reports:
        for warning in report.warnings if report.status == "passed" else ():
            warn(f"{bundle} passed with a warning: {warning}")
