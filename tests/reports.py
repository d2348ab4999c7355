"""Parity reports with made-up figures, for tests that need one and no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medge.runtime.bundles.figures import (
    Calibration,
    CalibrationBins,
    Confusions,
    Curve,
    Curves,
    DivergenceFigures,
    EmbeddingFigures,
    EncoderFigures,
    EncoderPlots,
    GeneratorFigures,
    GeneratorPlots,
    GeneratorSizes,
    ImageAnswer,
    ImageFigures,
    Interval,
    KLDivergence,
    LabelFigures,
    Paired,
    PixelFigures,
    Places,
    Rates,
    SameIds,
    ScoreFigures,
    ScorePoints,
    SpeedFigures,
    Spread,
    StageRow,
    TaskFigures,
    TowerSizes,
)  # fmt: skip
from medge.runtime.bundles.gates import Gate
from medge.runtime.bundles.origin import Origin
from medge.runtime.bundles.parity_report import EncoderReport, GeneratorReport, judge

PAIRED = Paired(Interval(0.9, 0.8, 0.95), Interval(0.89, 0.79, 0.94), Interval(-0.01, -0.02, 0.0))
ORIGIN = Origin("2026-11-26", "0.1.0", {"config.json": "1f" * 32, "model.safetensors": "a0" * 32})
RATES = (
    Rates(Interval(0.95, 0.76, 0.99), Interval(0.9, 0.7, 0.97)),
    Rates(Interval(0.9, 0.7, 0.97), Interval(0.95, 0.76, 0.99)),
)
BY_LABEL = (LabelFigures("chest x-ray", 20, *RATES), LabelFigures("head MRI", 20, *RATES[::-1]))
CONFUSIONS = Confusions(("chest x-ray", "head MRI"), ((19, 1), (2, 18)), ((18, 2), (1, 19)))
BINS = CalibrationBins((0.55, 0.95), (0.5, 1.0), (10, 30))
FLIPPED = ImageAnswer(7, 0.991, "chest x-ray", "head MRI", 0.52, 0.54, "chest x-ray")
SPEED = SpeedFigures(0.2, 0.1, 0.5)
TOWER = EmbeddingFigures(1e-3, Spread(0.9999, 0.999, 0.9991), Spread(0.999, 0.99, 0.991), 0.95, 40)
TWO_HOPS = (StageRow("patch embedding", 2e-3, 0.01, 1e-7, 2e-3), StageRow("pooled", 3e-3, 0.02, 0.0, 3e-3))
ENCODER = EncoderReport(
    made=ORIGIN, bundle="eyes", reference="medsiglip-mini", machine={"target": "x86"}, recipes={"vision": "int8", "text": "int8"},
    profile="eval-tf", images=40, texts=40, labelled=True, stages={"vision": TWO_HOPS, "text": TWO_HOPS}, gates=(),
    figures=EncoderFigures(
        pixels=PixelFigures(0, 0.0), vision=TOWER, text=replace(TOWER, ids_equal=True), size=TowerSizes(4_000_000, 0.26),
        scores=ScoreFigures(
            ("chest x-ray", "head MRI"), 0.025, 1e-4, 0.02, PAIRED, PAIRED, PAIRED, 0.01, confusions=CONFUSIONS, by_label=BY_LABEL
        ),
        speed=SPEED,
    ),
    plots=EncoderPlots(
        ScorePoints((0.1, 0.9), (0.12, 0.88)), Curves(Curve((0.0, 1.0), (0.0, 1.0)), Curve((0.0, 1.0), (0.1, 1.0))),
        Calibration(BINS, BINS), worst=(replace(FLIPPED, number=3, centred_cosine=0.99), FLIPPED), flipped=(FLIPPED,),
    ),
)  # fmt: skip
DIVERGENCE = DivergenceFigures(
    kld=KLDivergence(0.05, 0.02, 0.4, 0.8), same_top=0.93, perplexity_ratio=1.01, perplexity=20.0, tokens=900, units=12,
    intervals={"kld.mean": Interval(0.05, 0.04, 0.06), "same_top": Interval(0.93, 0.9, 0.95)},
)  # fmt: skip
GENERATOR = GeneratorReport(
    made=ORIGIN, bundle="reader", reference="medgemma-mini", machine={"cpu": "x86"},
    recipes={"language": "q4_k_m", "projector": "fast"}, profile="finetune-pil", images=16, texts=4, labelled=True, gates=(),
    stages={"language": (StageRow("block 0", 0.01, 0.2), StageRow("logits", 0.02, 0.3)), "vision": TWO_HOPS},
    figures=GeneratorFigures(
        size=GeneratorSizes(200_000_000, 5.4, {"Q4_K": 90, "F32": 40}, 2_000_000), text=DIVERGENCE, tokenizer=SameIds(True),
        speed=SPEED, tasks={"MedQA": TaskFigures(40, 0.1, PAIRED, 0.3)}, baseline=DIVERGENCE, pixels=PixelFigures(1),
        prompt=SameIds(True),
        image=ImageFigures(
            **vars(DIVERGENCE), max_error=0.1, cosine=Spread(0.99, 0.9, 0.92), centred_cosine=Spread(0.98, 0.8, 0.85)
        ),
    ),
    plots=GeneratorPlots(Places((10.0, 30.0), (0.9, 0.95), (0.1, 0.05))),
)  # fmt: skip


def judged(report: Any, *gates: Gate) -> Any:
    """The same report, held against gates."""
    return replace(report, gates=judge(report.figures, gates))
