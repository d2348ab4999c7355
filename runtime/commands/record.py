"""`medge record`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console.generator_options import (
    CacheOption,
    ContextOption,
    FromStorageOption,
    GpuLayersOption,
    IsolateOption,
    LimitOption,
    SeedOption,
    TemperatureOption,
    cut_off,
    opened,
    sampling_of,
)
from ..console.options import AllowFailed, BundleArgument, JsonOption, ThreadsOption
from ..console.terminal import SOME_FAILED, out, print_json, warn


def record(
    bundle: BundleArgument,
    fhir: Annotated[
        Path, typer.Argument(help="The patient's record: a FHIR R4 Bundle or resource as JSON, or JSON lines.")
    ],
    question: Annotated[str, typer.Argument(help="The question.")],
    page: Annotated[list[Path] | None, typer.Option(help="A further page of the record; repeat it.")] = None,
    limit: LimitOption = 320,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuLayersOption = None,
    cache: CacheOption = "f16",
    isolate: IsolateOption = False,
    from_storage: FromStorageOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question over a patient's record, and cite the resources that the answer rests on.

    Example: medge record reader patient.json "Which medicines does the patient take?"
    """
    from ..assistants.health_record import answer_from_record

    with opened(
        bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, isolate=isolate,
        from_storage=from_storage, allow_failed_parity=allow_failed_parity,
    ) as generator:  # fmt: skip
        answer = answer_from_record(generator, [fhir, *(page or ())], question, sampling_of(limit, temperature, seed))
    if as_json:
        print_json({"bundle": generator.manifest.name, "answer": answer.text, "sources": list(answer.sources),
                    "lines_shown": answer.shown, "lines": answer.of, "stop": answer.stop, "note": answer.note})  # fmt: skip
    else:
        out.print(answer.text)
        for source in answer.sources:
            out.print(f"  {source}", style="dim")
        if answer.note:
            warn(answer.note)
        if answer.shown < answer.of:
            warn(
                f"{answer.shown} of the record's {answer.of} lines fitted into the context; a longer --context holds more"
            )
    if not answer.complete:
        warn(cut_off("answer", answer.stop, limit))
        raise typer.Exit(SOME_FAILED)
