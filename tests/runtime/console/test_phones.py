"""Bundles side by side, on phones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from medge.runtime.bundles.bundle import Bundle
from medge.runtime.console.phones import GIGABYTES, on_phones, phone, phones_table
from medge.runtime.generator.planner import Opening


def test_an_encoder_is_told_by_what_its_gates_measured(make_bundle: Callable[[str], Path]) -> None:
    bundle = Bundle.open(make_bundle("int8"), verify=False)
    row = on_phones(bundle, Opening())
    parity = bundle.manifest.artefacts["onnx"].parity
    assert parity is not None
    gates = {gate.figure: gate.value for gate in parity.gates}
    assert row.losses["vision.centred_cosine.min"] == gates["vision.centred_cosine.min"]
    assert (row.recipe, row.verdict, row.tokens_per_second) == ("int8", "passed", None)
    assert row.bytes == sum(bundle.tower_bytes(tower) for tower in bundle.manifest.towers.values())
    assert [plan.fit for plan in row.plans] == ["in memory"] * len(GIGABYTES)
    console = Console(width=80, record=True, file=io.StringIO(), markup=False)
    console.print(phones_table([row]))
    lines = console.export_text().splitlines()
    assert [size for size in GIGABYTES if any(f"{size} GB: fits" in line for line in lines)] == list(GIGABYTES)


def test_half_of_a_phones_memory_is_free() -> None:
    assert (phone(4).memory_total, phone(4).memory_free) == (4_000_000_000, 2_000_000_000)
