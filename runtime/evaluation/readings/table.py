"""The kinds of models that read reports."""

from __future__ import annotations

from .chexbert import CHEXBERT
from .radgraph import RADGRAPH
from .reading import Reading

READINGS: dict[str, Reading] = {"chexbert": CHEXBERT, "radgraph": RADGRAPH}
