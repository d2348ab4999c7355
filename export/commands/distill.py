"""`medge distill medsiglip|medgemma`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.console.options import ForceOption, JsonOption, LabelsOption
from ...runtime.console.terminal import SOME_FAILED, out, print_json, progress, warn
from ...runtime.pictures.preprocess import DEFAULT_PROFILE
from ..distill.job import (
    DIVERGENCES,
    ENGINES,
    METHODS,
    PRECISIONS,
    PROMPTS_PER_SHARD,
    QUANTIZE,
    EncoderDistillation,
    GeneratorDistillation,
    PassOptions,
    TrainOptions,
    check_images_job,
    check_texts_job,
)
from .options import ProfileOption, WorkersOption, one_of

if TYPE_CHECKING:
    from ...runtime.pictures.images import Refused
    from ..pages.distillation import Distillation

app = typer.Typer(no_args_is_help=True, help="Train a smaller model to give what a larger one gives.")

TeacherOption = Annotated[Path, typer.Option(help="The teacher's checkpoint folder.")]
OutOption = Annotated[Path, typer.Option("--out", help="The student's checkpoint folder to make.")]
WorkOption = Annotated[
    Path | None,
    typer.Option(help="Where shards and checkpoints go; keep it to go on.", show_default="beside --out"),
]
EngineOption = Annotated[str, typer.Option(help="Who runs the teacher: local, or ray.")]
AddressOption = Annotated[
    str | None,
    typer.Option(help="A Ray cluster; --work must be a place that all its machines see.", show_default="here"),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Examples that go through at once, on each device.")]
AccumulateOption = Annotated[int, typer.Option(min=1, help="Batches whose gradients make one step.")]
RateOption = Annotated[float, typer.Option(min=0, help="Greatest learning rate.")]
PrecisionOption = Annotated[str, typer.Option(help="Of the forward pass: no (32 bits), bf16, fp16.")]
SeedOption = Annotated[int, typer.Option(help="Of every random choice.")]
SaveOption = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
CpuOption = Annotated[bool, typer.Option("--cpu", help="Stay off a GPU.")]


@app.callback()
def distill() -> None:
    """Train a smaller model to give what a larger one gives."""


@app.command()
def medsiglip(
    teacher: TeacherOption,
    images: Annotated[list[Path], typer.Option(help="Folder of unlabelled images; repeat it.")],
    to: OutOption,
    student: Annotated[
        str,
        typer.Option(help="base, small, tiny, same; or width=384,depth=12,heads=6,mlp=1536,patch=16,resolution=224."),
    ] = "small",
    captions: Annotated[
        Path | None, typer.Option(help='JSON lines, {"image": path below its folder, "caption": text}.')
    ] = None,
    text: Annotated[
        str, typer.Option(help="The text tower: kept, or a smaller one's shape (depth=6,width=384).")
    ] = "kept",
    texts: Annotated[
        list[Path] | None, typer.Option(help="Lines for a smaller text tower; repeat it.", show_default="medge's own")
    ] = None,
    labels: LabelsOption = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    views: Annotated[int, typer.Option(min=1, help="Views of each image: itself, and cut and toned at random.")] = 2,
    steps: Annotated[int, typer.Option(min=0, help="Of training.")] = 2000,
    batch: BatchOption = 64,
    accumulate: AccumulateOption = 1,
    rate: RateOption = 1e-3,
    precision: PrecisionOption = "no",
    seed: SeedOption = 0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin with none of the teacher's weights.")
    ] = False,
    quantize: Annotated[str | None, typer.Option(help="Finish with the rounding of int8 or int4 in place.")] = None,
    quantize_steps: Annotated[int, typer.Option(min=1, help="Of that finish, for each tower.")] = 200,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 1,
    work: WorkOption = None,
    save_every: SaveOption = 100,
    cpu: CpuOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Distil a MedSigLIP checkpoint into a smaller, faster one on unlabelled images.

    The student is an ordinary checkpoint: export, parity, probe and index take it as they take the teacher. With
    --labels, the teacher's scores of those labels are learned, too. Interrupted, the same command goes on where it was.
    Images that can't be read are named and skipped; the exit code is then 3.

    Example: medge distill medsiglip --teacher medsiglip-mini --student depth=2,width=96,heads=3 --images films/
    --out student --steps 200
    """
    job = EncoderDistillation(
        teacher=teacher, out=to, student=student, images=tuple(images), captions=captions, text=text,
        texts=tuple(texts or ()), labels=labels, profile=profile, views=views, inherit=not from_scratch,
        quantize=None if quantize is None else one_of(quantize, QUANTIZE, "--quantize"),
        quantize_steps=quantize_steps, work=work,
        data=PassOptions(one_of(engine, ENGINES, "--engine"), address, workers),
        training=TrainOptions(
            steps, batch, accumulate, rate, one_of(precision, PRECISIONS, "--precision"), seed, save_every, cpu,
        ),
        force=force,
    )  # fmt: skip
    check_images_job(job)  # what is wrong is said before torch is imported
    from ..distill.encoder import distill_medsiglip

    with progress() as advance:
        result, skipped = distill_medsiglip(job, advance)
    _tell(result, skipped, to, job.workplace, as_json)


def _tell(result: Distillation, skipped: Sequence[Refused], to: Path, work: Path, as_json: bool) -> None:
    """Say what came of a run; ends with the code for skipped inputs where there were any."""
    from rich.table import Table

    for refused in skipped:
        warn(refused)
    if as_json:
        failed = [asdict(refused) for refused in skipped]
        print_json(
            {"out": str(to), "work": str(work), "facts": result.facts, "figures": result.figures, "failed": failed}
        )
    else:
        table = Table(title=f"{result.student}, on what was held back from training")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in result.figures.items():
            table.add_row(name.replace("_", " "), f"{value:.5g}")
        if (ratio := result.facts.get("operations_to_teacher")) is not None:
            table.add_row("operations of an image, to the teacher", f"{ratio:.3f}")
        out.print(table)
        out.print(f"{to}: report in {to / 'distillation.html'}; the teacher's answers stay in {work}")
    if skipped:
        raise typer.Exit(SOME_FAILED)


@app.command()
def medgemma(
    teacher: TeacherOption,
    student: Annotated[
        str, typer.Option(help="A checkpoint folder, or layers=N: the teacher with so many of its layers.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(help='Texts, or JSON lines: {"text"} or {"question", "answer", "image"}; repeat it.'),
    ],
    to: OutOption,
    held_back: Annotated[
        list[Path] | None, typer.Option(help="The same, to judge by; repeat it.", show_default="a fiftieth of --data")
    ] = None,
    divergence: Annotated[str, typer.Option(help="KL divergence: forward, reverse, skewed.")] = "forward",
    method: Annotated[str, typer.Option(help="Train the layers' weights (full), or lora.")] = "full",
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA's matrices.")] = 16,
    length: Annotated[int, typer.Option(min=32, help="Tokens of an example.")] = 256,
    top: Annotated[int, typer.Option(min=1, help="Likeliest tokens of the teacher that are kept.")] = 32,
    positions: Annotated[int, typer.Option(min=1, help="Places of an example that are learned from.")] = 48,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 1000,
    batch: BatchOption = 8,
    accumulate: AccumulateOption = 1,
    rate: RateOption = 1e-4,
    precision: PrecisionOption = "no",
    seed: SeedOption = 0,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 1,
    work: WorkOption = None,
    save_every: SaveOption = 100,
    cpu: CpuOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Distil a MedGemma checkpoint into a shallower one on texts and questions about images.

    The student is an ordinary checkpoint with the teacher's tokenizer: export makes GGUF of it.
    Interrupted, the same command goes on where it was.

    Example: medge distill medgemma --teacher medgemma-mini --student layers=9 --data reports.txt --out medgemma-half --steps 100
    """
    job = GeneratorDistillation(
        teacher=teacher, out=to, student=student, data=tuple(data), held_back=tuple(held_back or ()),
        divergence=one_of(divergence, DIVERGENCES, "--divergence"),
        method=one_of(method, METHODS, "--method"),
        rank=rank, length=length, top=top, positions=positions, work=work,
        data_pass=PassOptions(one_of(engine, ENGINES, "--engine"), address, workers, PROMPTS_PER_SHARD),
        training=TrainOptions(
            steps, batch, accumulate, rate, one_of(precision, PRECISIONS, "--precision"), seed, save_every, cpu,
        ),
        force=force,
    )  # fmt: skip
    check_texts_job(job)
    from ..distill.generator import distill_medgemma

    with progress() as advance:
        result, skipped = distill_medgemma(job, advance)
    _tell(result, skipped, to, job.workplace, as_json)
