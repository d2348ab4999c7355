"""The figures of what models find in reports, against values computed by hand and by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medge.runtime.evaluation.answers.reports import scores_of
from medge.runtime.evaluation.compare import compare_reports
from medge.runtime.evaluation.readings.chexbert import CHEXBERT, FINDINGS, FIVE, columns_of, positives
from medge.runtime.evaluation.readings.radgraph import RADGRAPH
from medge.runtime.evaluation.readings.reading import told_of


def labels(**found: int) -> list[int | None]:
    """Labels of a report; what is left out is not mentioned."""
    return [found.get(finding.replace(" ", "_")) for finding in FINDINGS]


# Radiologist's, model's.
PAIRS = [
    (labels(Edema=1, Pleural_Effusion=1), labels(Edema=-1, Pleural_Effusion=0)),  # uncertain counts; absent does not
    (labels(Edema=0, Fracture=-1), labels(Edema=1, Fracture=1)),
    (labels(Edema=1, No_Finding=1), labels(Edema=1)),
]  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"label": "a", "answer": "b", "group": "", **columns_of(right, said)} for right, said in PAIRS
]


def test_f1_by_hand() -> None:
    # Edema: 2 in both, 1 said only. Effusion: 1 right only. Fracture: 1 in both. No finding: 1 right only.
    told = told_of(CHEXBERT, ROWS)
    value = {name: figure["value"] for name, figure in told["figures"].items()}
    edema = 2 * 2 / (2 * 2 + 1)
    assert value == pytest.approx({
        "chexbert_micro_f1_of_14": 2 * 3 / (2 * 3 + 1 + 2), "chexbert_macro_f1_of_14": (edema + 1) / 14,
        "chexbert_micro_f1_of_5": 2 * 2 / (2 * 2 + 1 + 1), "chexbert_macro_f1_of_5": edema / 5,
    })  # fmt: skip
    assert told["labels"]["Edema"] | {"f1": None} == {"count": 2, "said": 3, "f1": None}
    assert told["labels"]["Edema"]["f1"]["value"] == pytest.approx(edema)
    assert told["labels"]["Pneumonia"] == {"count": 0, "said": 0, "f1": {"value": 0, "low": 0, "high": 0}}
    as_csv = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in ROWS]
    assert told_of(CHEXBERT, as_csv) == told


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_f1_is_scikit_learn_s() -> None:
    report = pytest.importorskip("sklearn.metrics", reason="pip install 'medge[probe]'").classification_report
    rng = np.random.default_rng(0)
    drawn = rng.choice([-1, 0, 1, 2], (2, 60, 14), p=[0.1, 0.2, 0.2, 0.5])
    drawn[:, :, 3] = 0  # a finding that nobody has
    values = [[[None if cell == 2 else int(cell) for cell in row] for row in side] for side in drawn]
    rows = [{"group": str(n // 2), **columns_of(*pair)} for n, pair in enumerate(zip(*values, strict=True))]
    figures = told_of(CHEXBERT, rows)["figures"]
    right, said = np.moveaxis(positives(rows), -1, 0)
    assert (right == np.isin(drawn[0], (1, -1))).all()
    for count, chosen in ((14, FINDINGS), (5, FIVE)):
        places = [FINDINGS.index(name) for name in chosen]
        wanted = report(right[:, places], said[:, places], output_dict=True)
        for kind in ("micro", "macro"):
            figure = figures[f"chexbert_{kind}_f1_of_{count}"]
            assert figure["value"] == pytest.approx(wanted[f"{kind} avg"]["f1-score"])
            assert figure["low"] < figure["value"] < figure["high"]


def test_two_models_are_compared_by_what_was_found() -> None:
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: pip install 'medge[reports]'")
    first = [{**row, **scores_of("b", "a")} for row in ROWS]
    perfect = [{**row, **columns_of(right, right)} for row, (right, _) in zip(first, PAIRS, strict=True)]
    found = compare_reports(first, perfect, [CHEXBERT])
    micro = found["figures"]["chexbert_micro_f1_of_14"]
    assert (micro["first"], micro["second"]) == pytest.approx((2 / 3, 1))
    assert micro["low"] <= micro["value"] <= micro["high"]
    edema = found["labels"]["Edema"]
    assert edema["f1"]["value"] == pytest.approx(1 - 4 / 5)
    assert edema["answers"] == {"count": 3, "right_to_wrong": 0, "wrong_to_right": 1, "wrong_to_other_wrong": 0, "p": 1}
    assert found["answers"] is None
    assert compare_reports(first, perfect)["labels"] == {}


def test_radgraph_is_the_mean_over_reports() -> None:
    rows = [
        {"group": "", "radgraph simple": simple, "radgraph partial": simple / 2, "radgraph complete": 0}
        for simple in (1, 0.5, 0)
    ]
    told = told_of(RADGRAPH, rows)
    assert {name: figure["value"] for name, figure in told["figures"].items()} == pytest.approx(
        {"radgraph_simple_f1": 0.5, "radgraph_partial_f1": 0.25, "radgraph_complete_f1": 0}
    )
    assert told["labels"] == {}
