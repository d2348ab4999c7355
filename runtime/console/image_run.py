"""Work on many images: each result is told, written and counted as it comes; after an interruption the same command goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import typer

from ..errors import ImageError
from ..pictures.images import UNREAD, ImageSource, Refused, describe, find_images, unread
from .layouts import Columns, Row, check_ending
from .result_file import ResultFile, image_name
from .terminal import SOME_FAILED, err, of_many, print_json, progress, warn

if TYPE_CHECKING:
    from ..pictures.view import View

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
# What is made of each image; of one that can't be read, why, in a sentence that calls it as the command does.
Through = Callable[[Sequence["Input"], "View"], Iterator[tuple["Input", T | ImageError]]]


class Streams(Protocol[T_co]):
    """What makes something of images as they come: an encoder makes their embeddings, (D,) float32."""

    def stream_images(
        self, sources: Iterable[ImageSource], *, view: View
    ) -> Iterator[tuple[ImageSource, T_co | ImageError]]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        result: what `--json` says of it, without its name.
        fields: what a file of results holds of it, without its name and what all rows have in common.
    """

    result: Row
    fields: Row


@dataclass(frozen=True)
class Input:
    """An image that a command shall go through.

    Attributes:
        name: of its row in a file of results.
        shown: what it is called on the terminal and in `--json`.
        open: gives what is read; called when its turn comes.
    """

    name: str
    shown: str
    open: Callable[[], ImageSource]


def inputs_of(images: Sequence[Path]) -> list[Input]:
    """Images as a user names them.

    Args:
        images: files and folders; an image that is given twice is one.

    Raises:
        ImageError: there is no image.
    """
    tell_unread(images)
    named = {image_name(path): path for path in find_images(list(images))}
    if not named:
        raise ImageError("no image found in " + ", ".join(map(str, images)))
    return [Input(name, str(path), partial(Path, path)) for name, path in named.items()]


def tell_unread(images: Sequence[Path]) -> None:
    """Tell of files in folders that are images by their endings, but none that medge reads: nobody else would miss them."""
    if left := unread(images):
        which = str(left[0]) if len(left) == 1 else f"{len(left)} files, the first {left[0]}"
        warn(f"{which}: {UNREAD}")


def through(encoder: Streams[T]) -> Through[T]:
    """Images through an encoder, in this process and in their order."""

    def stream(inputs: Sequence[Input], view: View) -> Iterator[tuple[Input, T | ImageError]]:
        found = encoder.stream_images((one.open() for one in inputs), view=view)
        for one, (source, item) in zip(inputs, found, strict=True):
            if isinstance(item, ImageError):
                yield one, ImageError(str(item).replace(describe(source), one.shown))
            else:
                yield one, item

    return stream


class ImageRun:
    """A command's way through its images.

    Args:
        inputs: the images, each once.
        view: which frame and which window of a file.
        to: the file of results, or None.
        endings: those that it may have.
        force: begin the file anew.

    Raises:
        StorageError: the file's ending is another.
        MissingExtraError: the package that writes such files is not installed.
    """

    def __init__(
        self, inputs: Sequence[Input], view: View, to: Path | None, endings: Sequence[str], *, force: bool
    ) -> None:  # fmt: skip
        if to is not None:
            check_ending(to, endings)
        self.inputs = list(inputs)
        self.view, self.to, self.force = view, to, force
        self.results: list[Row] = []
        self.failed: list[Refused] = []
        self.before = 0  # images that an earlier run has done
        self._taken_for: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Images that are done, and those that could not be read."""
        return self.before + len(self.results) + len(self.failed)

    def go(
        self, encoder: Streams[T], columns: Columns, measure: Callable[[T, str], Outcome],
        show: Callable[[Row], None] | None = None,
    ) -> None:  # fmt: skip
        """Go through the images in this process: `go_through` with an encoder, or with what makes something else of them."""
        self.go_through(through(encoder), columns, measure, show)

    def go_through(
        self, made: Through[T], columns: Columns, measure: Callable[[T, str], Outcome],
        show: Callable[[Row], None] | None = None,
    ) -> None:  # fmt: skip
        """Go through the images.

        Args:
            made: what makes something of them, such as their embeddings.
            columns: of the file of results.
            measure: what becomes of an image, from what was made of it and its input's name.
            show: called with each result as it comes.

        Raises:
            StorageError: the file holds other results, or the file system refused.
            typer.Exit: after Ctrl-C.
        """
        try:
            with self._opened(columns) as file, progress() as advance:
                waiting = self.inputs if file is None else [one for one in self.inputs if one.name not in file.done]
                self.before = len(self.inputs) - len(waiting)
                if file is not None:
                    self._taken_for.update(filter(None, (file.done.get(one.name) for one in self.inputs)))
                for one, item in made(waiting, self.view):
                    if isinstance(item, ImageError):
                        self._refuse(one, str(item))
                    else:
                        self._take(one, measure(item, one.name), file, columns, show)
                    advance("images", self.count - self.before, len(waiting))  # what is left takes as long as these
        except KeyboardInterrupt:
            self._stopped()

    def _opened(self, columns: Columns) -> AbstractContextManager[ResultFile | None]:
        return ResultFile(self.to, columns, force=self.force) if self.to is not None else nullcontext()

    def _refuse(self, one: Input, reason: str) -> None:
        self.failed.append(Refused(one.shown, reason))
        warn(reason)

    def _take(
        self, one: Input, found: Outcome, file: ResultFile | None, columns: Columns, show: Callable[[Row], None] | None
    ) -> None:
        if file is not None:
            file.add({columns.key: one.name, **columns.same, **found.fields})
        self.results.append({"image": one.shown, **found.result})
        if columns.taken_for is not None and (label := columns.taken_for(found.fields)):
            self._taken_for[label] += 1
        if show is not None:
            show(self.results[-1])

    def _stopped(self) -> NoReturn:
        """After Ctrl-C: how far the command came, and how it goes on."""
        hint = "with --out FILE the same command goes on where it was"
        if self.to:
            hint = f"the same command goes on in {self.to}"
        warn(f"stopped after {self.count} of {len(self.inputs)} images; {hint}")
        raise typer.Exit(130) from None

    def end(self, facts: dict[str, Any] | None) -> None:
        """Print the facts as JSON (nothing where None), and the totals on stderr where there was more than one image.

        Raises:
            typer.Exit: an image could not be read.
        """
        if facts is not None:
            many = of_many(self.failed, done=len(self.results), before=self.before)
            print_json({**facts, "results": self.results, **many})
        if self.count > 1:
            kinds = ", ".join(f"{number} {label}" for label, number in self._taken_for.most_common())
            told = [*([kinds] if kinds else []), *([f"{self.before} done before"] if self.before else [])]
            if told:
                err.print(f"medge: {self.count} images: {'; '.join(told)}", soft_wrap=True)
        end_with(self.failed, done=self.before + len(self.results))


def end_with(failed: Sequence[Refused], *, done: int) -> None:
    """End a command over images, some of which could not be read; each was named before.

    Raises:
        typer.Exit: with 3, or with 1 where none could be read.
    """
    if not failed:
        return
    if not done:
        warn("no image could be read")
        raise typer.Exit(1)
    warn(f"{len(failed)} of {done + len(failed)} images could not be read")
    raise typer.Exit(SOME_FAILED)
