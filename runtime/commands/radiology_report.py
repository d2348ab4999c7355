"""`medge report`."""

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
from ..console.view_options import FrameOption, WindowOption, view_of

NAMES = (
    "general",
    "chest-xray",
    "ct",
    "fundus",
    "dermatology",
    "pathology",
)  # of runtime/assistants/radiology_report.py


def radiology_report(
    bundle: BundleArgument,
    images: Annotated[list[Path], typer.Argument(help="One image, or several that belong together.")],
    template: Annotated[str, typer.Option(help=f"The kind of report: {', '.join(NAMES)}.")] = "general",
    clinical: Annotated[str, typer.Option(help="What the reader should know, such as the clinical question.")] = "",
    frame: FrameOption = None,
    window: WindowOption = None,
    limit: LimitOption = 1024,
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
    """Write findings and impression of an image, in a form that a grammar forces.

    The exit code is 3 when the report was cut off: by the token limit, or because the context was full.

    Example: medge report reader film.dcm --template chest-xray
    """
    from ..assistants.radiology_report import write_report

    view, sampling = view_of(frame, window), sampling_of(limit, temperature, seed)
    with opened(
        bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, isolate=isolate,
        from_storage=from_storage, allow_failed_parity=allow_failed_parity,
    ) as generator:  # fmt: skip
        written = write_report(generator, images, template, sampling, clinical=clinical, view=view)
    if as_json:
        print_json({"bundle": generator.manifest.name, **written.as_dict()})
    else:
        out.print(written.text)
        out.print("\nNot a medical device: a qualified person must check every word.", style="dim")
    if not written.complete:
        warn(cut_off("report", written.stop, limit))
        raise typer.Exit(SOME_FAILED)
