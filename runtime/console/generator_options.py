"""Options that the language model's commands share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .terminal import err

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..generator.conversation import Sampling, Stop
    from ..generator.generator import Generator

ContextOption = Annotated[
    int | None, typer.Option(min=256, help="Tokens to make room for.", show_default="what fits, up to 8192")
]
LimitOption = Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")]
TemperatureOption = Annotated[float, typer.Option(min=0.0, max=2.0, help="0: the likeliest token each time.")]
SeedOption = Annotated[int, typer.Option(help="Of sampling, at a temperature over 0.")]
GpuLayersOption = Annotated[int | None, typer.Option(min=0, help="Layers on a GPU.", show_default="as many as fit")]
CacheOption = Annotated[
    str, typer.Option(help="What keys and values are kept in: f16, q8_0, or q4_0 for less memory at some loss.")
]
IsolateOption = Annotated[
    bool, typer.Option("--isolate", help="Run the model in a process of its own: whatever ends that costs one answer.")
]
FromStorageOption = Annotated[
    bool,
    typer.Option(
        "--from-storage", help="Where memory does not hold the weights, read them from their file each time: slow."
    ),
]
ThinkOption = Annotated[bool, typer.Option("--think", help="Let the model think first; its trace goes to stderr.")]


def sampling_of(limit: int, temperature: float, seed: int) -> Sampling:
    """What the three options choose about an answer."""
    from ..generator.conversation import Sampling

    return Sampling(limit, temperature, seed)


def cut_off(what: str, stop: Stop, limit: int) -> str:
    """What a user is told of an answer or a report that was cut off."""
    if stop == "context":
        return f"the context is full, so the {what} was cut off; give a longer --context"
    return f"the limit of {limit} tokens cut the {what} off; raise --limit"


@contextmanager
def opened(
    bundle: Path, *, context: int | None, threads: int | None, gpu_layers: int | None, cache: str, isolate: bool,
    allow_failed_parity: bool, from_storage: bool = False,
) -> Iterator[Generator]:  # fmt: skip
    """A bundle's generator, closed at the end; Ctrl-C ends in one line."""
    from ..generator.cache import CacheName
    from ..generator.load import load

    generator = load(
        bundle, allow_failed_parity=allow_failed_parity, context=context, threads=threads, gpu_layers=gpu_layers,
        cache=cast("CacheName", cache), isolate=isolate, from_storage=from_storage,
    )  # fmt: skip
    try:
        with stopping_in_a_line():
            yield generator
    finally:
        generator.close()


@contextmanager
def stopping_in_a_line() -> Iterator[None]:
    """End at Ctrl-C with one line, not in an answer's line."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("\nmedge: stopped", style="yellow")
        raise typer.Exit(130) from None
