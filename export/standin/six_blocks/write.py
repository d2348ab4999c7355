"""Write the six-block stand-in as a Hugging Face checkpoint."""

from __future__ import annotations

from pathlib import Path

from ..write import write_packed
from .architecture import CONFIG, PACKED


def write_six_blocks(out: Path, *, force: bool = False) -> None:
    """The stand-in before medsiglip-mini, fp32, as a checkpoint folder.

    For tests' fixtures and for the benchmarks whose tables were measured on it; it goes when those have moved.
    """
    write_packed(out, CONFIG, PACKED, force=force)
