"""Drawn files of a fleet, as stations send them."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from medge.runtime.kit.collected.report import (
    Agreement,
    Check,
    Collected,
    Fault,
    Finding,
    Held,
    Machine,
    Model,
    Spread,
    Step,
    Work,
)
from medge.runtime.kit.collected.sealed import new_key, public_key, seal, text_of

EYES, READER = "medsiglip-448-int8", "medgemma-4b-q4_k_m"
REGIONS = ("lungs", "pleura", "heart", "mediastinum", "bones", "devices", "impression")


def device(number: int, *, slow: float = 1.0, kit: int = 5, good: bool = True, label: str = "") -> Collected:
    """What one device sends: `slow` times the time of others, on a kit, with golden results that hold or do not."""
    draw = random.Random(number)
    word = f"{number:012x}"
    cosine = draw.uniform(0.0001, 0.0006) if good else 0.09
    checks = [
        Check("preprocessing: greatest error in grey levels", 0.0, 1.0, True),
        Check("image embeddings: 1 - centred cosine", round(cosine, 6), 0.001, good),
    ]
    reader = Model(
        READER, "b" * 64, "generator", {"language": "q4_k_m", "projector": "f16"}, "passed", 3_300_000_000,
        [Check("centred logits of the likeliest answers", 0.002, 0.01, True)], 6.1,
        round(41.0 * slow * draw.uniform(0.9, 1.1), 1),
    )  # fmt: skip
    eyes = Model(
        EYES, "a" * 64, "encoder", {"vision": "int8", "text": "int8"}, "passed", 890_000_000, checks, 1.4,
        round(2.2 * slow * draw.uniform(0.9, 1.1), 2),
    )  # fmt: skip
    findings = [
        Finding(region, 60 + 5 * draw.randrange(9), round(round(20 * share * draw.uniform(0.6, 1.3)) / 20, 2))
        for region, share in zip(REGIONS, (0.2, 0.45, 0.15, 0.1, 0.05, 0.3, 0.35), strict=True)
    ]
    return Collected(
        1, f"2026-11-{10 + number % 15}", "0.2.0" if kit == 5 else "0.1.0", "3.12.11",
        {"numpy": "2.4.6", "onnxruntime": "1.32.0"},
        Machine(word, label or f"Clinic {number}", "x86_64", "Linux", "debian 13", 4, 8_200_000_000, ["avx2", "fma"], "avx2"),
        kit, [Step(3, "0.1.0", "2026-03-02", "installed"), Step(kit, "0.2.0", f"2026-09-{number % 20 + 1:02}", "updated")],
        [eyes, reader],
        Held(400 + 5 * number, {"CR": 300, "CT": 100}, 2000, 300, 20, 4, 120_000_000_000, True),
        [Work("classify", EYES, {"done": 400, "parked": "<5"}, Spread(400, round(0.6 * slow, 2), round(1.1 * slow, 2)), "<5"),
         Work("report", READER, {"done": 300}, Spread(300, round(95 * slow), round(160 * slow)), 5)],
        [Fault("classify", "ImageError", "medge.runtime.pictures.dicom:212", 10)] if number % 3 == 0 else [],
        [Agreement("chest-xray", READER, 300, 0.35, 0.82, Spread(300, 1.0, 3.0), findings),
         Agreement("ct", READER, "<5", None, None, Spread("<5", None, None), [])],
    )  # fmt: skip


def fleet() -> list[Collected]:
    """Eight devices: one that is slow, one that computes wrongly, one on an old kit."""
    ordinary = [device(number) for number in range(1, 6)]
    return [*ordinary, device(6, slow=2.4, label="Old laptop ward 3"), device(7, good=False), device(8, kit=4)]


def sticks(folder: Path, sent: list[Collected]) -> Path:
    """A folder with a sealed file of each; the makers' private key lies beside it."""
    private = folder.parent / "private"
    to = public_key(new_key(private))
    for number, one in enumerate(sent):
        seal(text_of(one), to, folder / f"stick {number}" / f"medge-{one.device.id}-{one.day}.age")
    return private


def older(one: Collected) -> Collected:
    """What the same device has sent before."""
    return dataclasses.replace(one, day="2026-05-01", medge="0.1.0", kit=3)
