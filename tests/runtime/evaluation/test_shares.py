"""Probes on shares of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medge.runtime.errors import ProbeError
from medge.runtime.evaluation.items import Item
from medge.runtime.evaluation.shares import scores_by_probe, share_of, with_split

LABELS = ["dark", "bright"]


def items(count: int, *, findings: bool = False) -> tuple[list[Item], dict[str, np.ndarray]]:
    """Items whose first number says their label, three of a patient."""
    rng, made, embeddings = np.random.default_rng(2), [], {}
    for number in range(count):
        truth = {"dark": number % 2 == 0, "bright": number % 2 == 1}
        if findings and number % 5 == 0:
            del truth["bright"]  # not known
        row = rng.normal(0, 0.1, 8).astype(np.float32)
        row[0] += number % 2
        made.append(Item(f"{number:03}", lambda: Path(), truth, f"p{number // 3}"))
        embeddings[made[-1].key] = row
    return made, embeddings


@pytest.mark.parametrize("findings", [False, True])
def test_a_probe_learns_the_labels(findings: bool) -> None:
    made, embeddings = items(60, findings=findings)
    scores = scores_by_probe(made[:40], made[40:], embeddings, LABELS, one=not findings, seed=0)
    assert scores.shape == (20, 2)
    truth = np.array([[item.truth.get("dark"), item.key[-1] in "13579"] for item in made[40:]], bool)
    assert ((scores > 0.5) == truth).all()


def test_too_few_images_are_named() -> None:
    made, embeddings = items(60, findings=True)
    with pytest.raises(ProbeError, match="one image is not enough"):
        scores_by_probe(made[:3], made[40:], embeddings, LABELS, one=True, seed=0)
    with pytest.raises(ProbeError, match="bright: a probe needs at least two labels"):
        scores_by_probe([made[n] for n in (1, 3, 0, 10)], made[40:], embeddings, LABELS, one=False, seed=0)


def test_a_greater_share_holds_the_smaller_one() -> None:
    made, _ = items(200)
    small, large = ({item.key for item in share_of(made, share, 4)} for share in (0.05, 0.1))
    assert (len(small), len(large)) == (10, 20)
    assert small < large
    assert len(share_of(made, 0.001, 4)) == 1


def test_no_patient_is_on_both_sides() -> None:
    made, _ = items(90)
    split = with_split(made, 7)
    sides = [{item.group for item in split if item.part == part} for part in ("train", "test")]
    assert not sides[0] & sides[1]
    assert [len(side) for side in sides] == [15, 15]
    assert [item.key for item in split] == [item.key for item in made]
    assert with_split(made, 8) != split
