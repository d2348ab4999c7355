"""`medge ask`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    ThinkOption,
    cut_off,
    opened,
    sampling_of,
)
from ..console.options import AllowFailed, BundleArgument, JsonOption, ThreadsOption
from ..console.terminal import SOME_FAILED, err, print_json, warn, write
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..generator.conversation import Fragment, Stop
    from ..pictures.images import Refused


def ask(
    bundle: BundleArgument,
    question: Annotated[str, typer.Argument(help="The question.")],
    image: Annotated[list[Path] | None, typer.Option(help="An image (PNG, JPEG, TIFF, DICOM); repeat it.")] = None,
    ct: Annotated[
        list[Path] | None, typer.Option(help="A CT series: its folder, or its files; windowed as MedGemma 1.5 expects.")
    ] = None,
    frame: FrameOption = None,
    window: WindowOption = None,
    limit: LimitOption = 512,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    think: ThinkOption = False,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    gpu_layers: GpuLayersOption = None,
    cache: CacheOption = "f16",
    isolate: IsolateOption = False,
    from_storage: FromStorageOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a language model a question, about images or none.

    The answer is printed as it comes. The exit code is 3 when the answer was cut off, or slices of a CT series were skipped.

    Example: medge ask reader "What kind of image is this?" --image film.dcm
    """
    if image and ct:
        raise typer.BadParameter("give --image or --ct, not both")
    if ct and (frame is not None or window):
        raise typer.BadParameter("--frame and --window are for --image; a CT series is shown in three windows")
    from ..assistants.ct_question import ask_series
    from ..generator.conversation import about

    view, sampling = view_of(frame, window), sampling_of(limit, temperature, seed)
    with opened(
        bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, isolate=isolate,
        from_storage=from_storage, allow_failed_parity=allow_failed_parity,
    ) as generator:  # fmt: skip
        note = ""
        skipped: tuple[Refused, ...] = ()
        if ct:
            answer, series = ask_series(generator, ct, question, sampling, think=think)
            note, skipped = series.note, series.skipped
            for refused in skipped:
                warn(refused)
        elif as_json:
            answer = generator.ask(image, question, sampling, view=view, think=think)
        else:
            _, stop = print_stream(generator.stream([about(image, question, view)], sampling, think=think))
            _end(stop, limit, False)
            return
        if as_json:
            print_json({"bundle": generator.manifest.name, "answer": answer.text, "thought": answer.thought,
                        "stop": answer.stop, "note": note, "prompt_tokens": answer.prompt_tokens, "tokens": answer.tokens,
                        "failed": [asdict(refused) for refused in skipped]})  # fmt: skip
        else:
            if note:
                warn(note)
            if answer.thought:
                err.print(answer.thought, style="dim")
            write(answer.text + "\n")
        _end(answer.stop, limit, bool(skipped))


def _end(stop: Stop, limit: int, skipped: bool) -> None:
    """Say that an answer was cut off, and exit with 3 where it was, or where not all was read."""
    if stop != "end":
        warn(cut_off("answer", stop, limit))
    if stop != "end" or skipped:
        raise typer.Exit(SOME_FAILED)


def print_stream(fragments: Iterable[Fragment]) -> tuple[str, Stop]:
    """Print an answer as it comes, the model's trace dimmed on stderr; returns the answer, and why it ended."""
    text, stop = "", None
    for fragment in fragments:
        stop = fragment.stop
        if fragment.thought:
            err.print(fragment.text, style="dim", end="")
        else:
            text += fragment.text
            write(fragment.text)
    write("\n")
    assert stop is not None  # of the last fragment
    return text, stop
