"""The gates of a parity report in the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from reports import ENCODER, judged
from rich.console import Console

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'medge[export]'")

from medge.export.commands.gate_table import gate_table
from medge.runtime.bundles.gates import Gate, GateResult


def test_figures_are_read_at_a_glance() -> None:
    gates = (
        GateResult("scores.flips", "<=", 1 / 22, 1 / 22, True, None, 0.0080694, 0.21798, "22 images", "lost"),
        Gate("scores.auc_difference", "<=", 0.003).judge(None),
        GateResult("text.kld.mean", "<=", 0.05, 8.33333e-05, True),
        GateResult("vision.centred_cosine.mean", ">=", 0.999, 0.9999712, True),
    )
    page = Console(file=io.StringIO(), width=110, record=True)
    page.print(gate_table(replace(judged(ENCODER), gates=gates)))
    lines = [" ".join(line.replace("│", " ").split()) for line in page.export_text().splitlines()]
    assert "scores.flips 0.0455 0.00807 to 0.218 <= 0.04545 warn" in lines
    assert "scores.auc_difference – <= 0.003 not measured" in lines
    assert "text.kld.mean 8.3\u00a0×\u00a010⁻⁵ <= 0.05 pass".replace("\u00a0", " ") in lines
    assert any(line.startswith("vision.centred_cosine.mean 0.999971 ") for line in lines)
