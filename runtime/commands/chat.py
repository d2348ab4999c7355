"""`medge chat`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

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
from ..console.options import AllowFailed, BundleArgument, ThreadsOption
from ..console.terminal import err, out, warn
from ..console.view_options import FrameOption, WindowOption, view_of
from .ask import print_stream

if TYPE_CHECKING:
    from ..generator.conversation import Part, Sampling, Turn
    from ..generator.generator import Generator
    from ..pictures.view import View

HELP = "Images by path: @film.dcm. /new forgets the conversation, /quit ends; Ctrl-C stops an answer."


def chat(
    bundle: BundleArgument,
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
) -> None:
    """Talk with a language model in the terminal; show it images by path, as in "what is on @film.dcm?".

    Example: medge chat reader
    """
    view, sampling = view_of(frame, window), sampling_of(limit, temperature, seed)
    with opened(
        bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, isolate=isolate,
        from_storage=from_storage, allow_failed_parity=allow_failed_parity,
    ) as generator:  # fmt: skip
        generator.context  # noqa: B018  - opened now, so that a bundle that doesn't fit is refused before the first question
        out.print(f"{generator.manifest.name}, {generator.context} tokens of context. {HELP}")
        _converse(generator, sampling, think, view)


def _converse(generator: Generator, sampling: Sampling, think: bool, view: View) -> None:
    from rich.text import Text

    from ..errors import MedgeError
    from ..generator.conversation import assistant, user

    turns: list[Turn] = []
    while True:
        try:
            said = out.input(Text("> ", "bold")).strip()
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if said in {"/quit", "/exit"}:
            return
        if said == "/new":
            turns = []
        elif said:
            try:
                asked = [*turns, user(*_parts(said, view))]
                answer, stop = print_stream(generator.stream(asked, sampling, think=think))
                if stop != "end":
                    warn(cut_off("answer", stop, sampling.limit))
                turns = [*asked, assistant(answer)]
            except KeyboardInterrupt:
                err.print("\nmedge: stopped; the question is forgotten", style="yellow")
            except MedgeError as error:  # one question that fails must not end the conversation
                warn(str(error))


def _parts(line: str, view: View) -> list[Part]:
    """ "what is on @film.dcm?" to its texts and images, in order."""
    from ..pictures.images import read_image

    parts: list[Part] = []
    for piece in re.split(r"(@\S+)", line):
        path = Path(piece[1:].rstrip("?!,;")) if piece.startswith("@") else None
        if path is not None:
            parts.append(read_image(path, view))
        elif piece.strip():
            parts.append(piece.strip())
    return parts
