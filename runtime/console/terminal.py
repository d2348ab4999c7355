"""Standard output and standard error, JSON, warnings and progress bars."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..progress import Progress

if TYPE_CHECKING:
    from ..encoder.embedder import Embedder
    from ..pictures.images import Refused

# What a terminal would obey in place of showing it: escape sequences, and characters that turn the direction of writing.
_OBEYED = [
    *range(9),
    *range(11, 32),
    *range(127, 160),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _OBEYED}
_SHOWN_IN_JSON = {code: f"\\u{code:04x}" for code in _OBEYED}


def printable(text: str) -> str:
    """A text from a file, a model or a file's name, with control characters written as their codes; line ends and tabs stay."""
    return text.translate(_SHOWN)


class SafeConsole(Console):
    """Prints texts as they are: no markup, no emoji codes, nothing of them that a terminal would obey, and tables in full.

    What shall be coloured is given as `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)  # before its width is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        if isinstance(renderable, Table):
            for column in renderable.columns:
                column.overflow = "fold"  # no name is cut and no number, however narrow the terminal
        for segment in super().render(renderable, options):  # what came as `Text`
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


out = SafeConsole()
err = SafeConsole(stderr=True)

LINE_EVERY = 30.0  # seconds between two lines about work whose output is piped
SCHEMA_VERSION = 2  # of what --json prints; raised when a key is taken away or means something else
SOME_FAILED = 3  # exit code when some inputs could not be read and the others are done


def write(text: str) -> None:
    """Write a part of an answer to standard output, at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def print_json(facts: Mapping[str, Any]) -> None:
    """Print what `--json` gives: an object with `schema_version`; what a command gives several of stands under `results`."""
    print_document({"schema_version": SCHEMA_VERSION, **facts})


def of_many(failed: Sequence[Refused], *, done: int, before: int = 0) -> dict[str, Any]:
    """What `--json` says of many images, in every command that takes them (docs/reference/json.md).

    Args:
        failed: images that could not be read.
        done: images that were done now.
        before: images that an earlier run has done.
    """
    totals = {"images": before + done + len(failed), "done": done, "done_before": before, "failed": len(failed)}
    return {"failed": [asdict(one) for one in failed], "totals": totals}


def print_document(body: Mapping[str, Any]) -> None:
    """Print JSON whose form somebody else has laid down."""
    text = json.dumps(body, indent=2, ensure_ascii=False)
    sys.stdout.write(text.translate(_SHOWN_IN_JSON) + "\n")  # such characters stand in strings only


def warn(message: object) -> None:
    err.print(f"medge: {message}", style="yellow", soft_wrap=True)


class Warned:
    """Warns as `warn` does, and keeps the images that were left out: what `--json` says under `failed`."""

    def __init__(self) -> None:
        self._refused: list[Refused] = []

    def __call__(self, message: object) -> None:
        from ..pictures.images import Refused

        if isinstance(message, Refused):
            self._refused.append(message)
        warn(message)

    def failed(self) -> list[dict[str, str]]:
        """The images that were left out, an object each, and each once, as `--json` has them."""
        return [asdict(refused) for refused in dict.fromkeys(self._refused)]


@contextlib.contextmanager
def cuts_told(encoder: Embedder, texts: Sequence[str]) -> Iterator[None]:
    """Tell of each text that is too long for this encoder in one line, in the place of Python's warnings about it."""
    from ..encoder.encoder import TextCutWarning

    for cut in encoder.cuts(texts):
        warn(str(cut))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCutWarning)
        yield


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """How far work is, on stderr: a bar for each kind of work on a terminal, a line every half minute elsewhere."""
    if not err.is_terminal:
        yield _Lines()
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(),
        bars.TextColumn("left"), bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=err, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield advance


class _Lines:
    """Progress where nobody watches a bar: a line now and then, so that a log shows that work goes on."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._told = time.monotonic()

    def __call__(self, what: str, done: int, total: int, /) -> None:
        now = time.monotonic()
        begun = self._begun.setdefault(what, now)
        if now - self._told < LINE_EVERY:
            return
        self._told = now
        left = f", about {_duration((now - begun) / done * (total - done))} left" if done and now > begun else ""
        err.print(f"medge: {what}: {done} of {total}{left}", soft_wrap=True)


def _duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
