"""`medge distill medsiglip|medgemma`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.bundles.manifest import sha256_json
from ...runtime.console.generator_options import (
    ContextOption,
    GpuLayersOption,
    LimitOption,
    TemperatureOption,
    opened,
    sampling_of,
)
from ...runtime.console.layouts import Columns, check_ending
from ...runtime.console.options import AllowFailed, BundleArgument, ForceOption, JsonOption, LabelsOption, ThreadsOption
from ...runtime.console.result_file import ResultFile
from ...runtime.console.terminal import SOME_FAILED, Warned, out, print_json, progress, warn
from ...runtime.errors import DistillationError, ImageError
from ...runtime.pictures.images import Refused
from ...runtime.pictures.preprocess import DEFAULT_PROFILE
from ..distill.answers import ABOUT_AN_IMAGE, answered, read_questions
from ..distill.job import (
    DIVERGENCES,
    ENGINES,
    METHODS,
    PRECISIONS,
    PROMPTS_PER_SHARD,
    QUANTIZE,
    EncoderDistillation,
    Finish,
    GeneratorDistillation,
    PassOptions,
    TrainOptions,
    check_finish,
    check_images_job,
    check_texts_job,
)
from .gate_table import gate_table
from .losses import tell_failed, tell_losses
from .options import (
    ParityImagesOption,
    ParityTextsOption,
    ProfileOption,
    SkipParityOption,
    TaskOption,
    WorkersOption,
    one_of,
)

if TYPE_CHECKING:
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
ExamplesOption = Annotated[
    list[Path], typer.Option(help='Texts, or JSON lines: {"text"} or {"question", "answer", "image"}; repeat it.')
]
LengthOption = Annotated[int, typer.Option(min=32, help="Tokens of an example.")]
TopOption = Annotated[int, typer.Option(min=1, help="Likeliest tokens of the teacher that are kept.")]
PositionsOption = Annotated[int, typer.Option(min=1, help="Places of an example that are learned from.")]
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
    for refused in skipped:
        warn(refused)
    if as_json:
        failed = [asdict(refused) for refused in skipped]
        print_json(
            {"out": str(to), "work": str(work), "facts": result.facts, "figures": result.figures, "failed": failed}
        )
    else:
        _tell_figures(result)
        out.print(f"{to}: report in {to / 'distillation.html'}; the teacher's answers stay in {work}")
    if skipped:
        raise typer.Exit(SOME_FAILED)


def _tell_figures(result: Distillation) -> None:
    """What came of a run, as a table."""
    from rich.table import Table

    table = Table(title=f"{result.student}, on what was held back from training")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.figures.items():
        table.add_row(name.replace("_", " "), f"{value:.5g}")
    if (ratio := result.facts.get("operations_to_teacher")) is not None:
        table.add_row("operations of an image, to the teacher", f"{ratio:.3f}")
    out.print(table)


@app.command()
def medgemma(
    teacher: TeacherOption,
    student: Annotated[
        str, typer.Option(help="A checkpoint folder, or layers=N: the teacher with so many of its layers.")
    ],
    data: ExamplesOption,
    to: OutOption,
    held_back: Annotated[
        list[Path] | None, typer.Option(help="The same, to judge by; repeat it.", show_default="a fiftieth of --data")
    ] = None,
    divergence: Annotated[str, typer.Option(help="KL divergence: forward, reverse, skewed.")] = "forward",
    method: Annotated[str, typer.Option(help="Train the layers' weights (full), or lora.")] = "full",
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA's matrices.")] = 16,
    length: LengthOption = 256,
    top: TopOption = 32,
    positions: PositionsOption = 48,
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


@app.command()
def finish(
    bundle: BundleArgument,
    teacher: Annotated[Path, typer.Option(help="The checkpoint that the bundle was made from.")],
    data: ExamplesOption,
    to: Annotated[Path, typer.Option("--out", help="The bundle folder to make.")],
    held_back: Annotated[
        list[Path] | None, typer.Option(help="The same, to judge by; repeat it.", show_default="a sixteenth of --data")
    ] = None,
    length: LengthOption = 256,
    top: TopOption = 32,
    positions: PositionsOption = 48,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 300,
    batch: BatchOption = 8,
    accumulate: AccumulateOption = 1,
    rate: RateOption = 1e-3,
    precision: PrecisionOption = "no",
    seed: SeedOption = 0,
    texts: ParityTextsOption = None,
    images: ParityImagesOption = None,
    task: TaskOption = None,
    skip_parity: SkipParityOption = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = 1,
    work: WorkOption = None,
    save_every: SaveOption = 50,
    cpu: CpuOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a rounded MedGemma nearer to the checkpoint that it was made from, at the same size and speed.

    The scales of its blocks and its norms learn from the checkpoint's answers; its codes stay. The fewer the
    bits, the more is gained. The new bundle is measured as export measures it. Interrupted, the same command
    goes on where it was. Without a gain on what is held back there is no new bundle.

    Example: medge distill finish reader --teacher medgemma-mini --data reports.txt --out finished --steps 100
    """
    job = Finish(
        bundle=bundle, out=to, teacher=teacher, data=tuple(data), held_back=tuple(held_back or ()), length=length, top=top,
        positions=positions, texts=tuple(texts or ()), images=images, tasks=tuple(task or ()), skip_parity=skip_parity, work=work,
        data_pass=PassOptions(one_of(engine, ENGINES, "--engine"), address, workers, PROMPTS_PER_SHARD),
        training=TrainOptions(
            steps, batch, accumulate, rate, one_of(precision, PRECISIONS, "--precision"), seed, save_every, cpu,
        ),
        force=force,
    )  # fmt: skip
    check_finish(job)
    from ..jobs.finish import finish_bundle

    told = Warned()
    with progress() as advance:
        made, report, result = finish_bundle(job, advance, warn=told)
    if as_json:
        parity = asdict(report.summary()) if report else None
        print_json(
            {"out": str(to), "work": str(job.workplace), "facts": result.facts, "figures": result.figures, "parity": parity,
             "failed": told.failed()}
        )  # fmt: skip
    else:
        _tell_figures(result)
        if report is not None:
            out.print(gate_table(report))
        out.print(f"{to}: {made.size() / 1e6:.1f} MB; the checkpoint's answers stay in {job.workplace}")
    if report is not None:
        tell_losses(to, [report])
        tell_failed([to] if report.status != "passed" else [])
    if told.failed():
        raise typer.Exit(SOME_FAILED)


@app.command()
def answers(
    bundle: BundleArgument,
    to: Annotated[Path, typer.Option("--out", help="The .jsonl file to write, an example a line.")],
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help='JSON lines, {"question", "image": path or absent}, or texts with a question a line; repeat it.'
        ),
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="Images, or folders of them, to ask about; repeat it.")
    ] = None,
    about: Annotated[str, typer.Option(help="What is asked about each of --images.")] = ABOUT_AN_IMAGE,
    step_by_step: Annotated[
        bool, typer.Option("--step-by-step", help="Ask the teacher to think before it answers.")
    ] = False,
    limit: LimitOption = 512,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuLayersOption = None,
    allow_failed_parity: AllowFailed = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a language model's bundle answer questions that have no answer yet, to distil or finish from.

    The same question about the same picture is asked once. Answers that were cut off, say next to nothing or
    repeat themselves are left out; they stand, with the reason, in a second file beside --out. Images that
    can't be read are named and skipped; the exit code is then 3. Interrupted, the same command goes on
    where it was. Nothing checks whether an answer is right: a student learns it anyway.

    Example: medge distill answers reader --questions questions.txt --out answers.jsonl --limit 64
    """
    check_ending(to, (".jsonl",))
    asked = read_questions(questions or (), images or (), about, step_by_step=step_by_step)
    sampling = sampling_of(limit, temperature, seed)
    same = {"teacher": bundle.name, "made_with": sha256_json([asdict(sampling)])[:16]}
    columns = Columns("id", same, ("question", "answer", "image", "source", "left_out"))
    rest, told = to.with_name(f"{to.stem}.left-out.jsonl"), Warned()
    with (
        ResultFile(to, columns, force=force) as kept,
        ResultFile(rest, columns, force=force) as others,
        opened(
            bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache="f16", isolate=False,
            allow_failed_parity=allow_failed_parity,
        ) as teacher,
        progress() as advance,
    ):  # fmt: skip
        for number, (key, question) in enumerate(asked.items()):
            advance("answering", number, len(asked))
            if key in kept.done or key in others.done:
                continue
            try:
                row, reason = answered(teacher, question, sampling)
            except ImageError as error:
                told(Refused(str(question.image), str(error)))
                continue
            row = {"id": key, **same, **row}
            if reason is None:
                kept.add(row)
            else:
                others.add({**row, "left_out": reason})
        good, bad = len(kept.done), len(others.done)
    if not good:
        unread = f"{len(told.failed())} images can't be read, " if told.failed() else ""
        raise DistillationError(f"no example was made: {unread}{bad} answers were left out, {rest} says why")
    if as_json:
        print_json(
            {"out": str(to), "left_out": str(rest), "examples": good, "examples_left_out": bad, "failed": told.failed()}
        )
    else:
        out.print(f"{to}: {good} examples; {bad} left out, with the reason in {rest}")
    if told.failed():
        raise typer.Exit(SOME_FAILED)
