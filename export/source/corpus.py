"""What users give to calibrate on, to learn from and to be measured by: texts, questions, captions, images.

JSON lines are read here and nowhere else, so that a line that is wrong is named in one form of sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...quant.texts.prompts import medical_texts, mixed_texts
from ...runtime.errors import CorpusError, one_line
from ...runtime.json_text import loads
from ...runtime.pictures.images import find_images
from ...runtime.written_text import read_written
from .samples import Samples, builtin_samples, read_images

TEXT_SUFFIXES = frozenset({".txt", ".md", ".jsonl"})
CHUNK = 512  # tokens of a text prompt
SKIP = 16  # the first tokens of a prompt are next to unpredictable for either side

Row = TypeVar("Row")


@dataclass(frozen=True)
class Corpus:
    """Texts and images to calibrate on, and what to call them."""

    texts: list[str]
    images: Samples
    source: str


@dataclass(frozen=True)
class Choice:
    """A question with its options, of which one is right; maybe about an image."""

    question: str
    options: tuple[str, ...]
    answer: int
    image: Path | None = None


@dataclass(frozen=True)
class Answered:
    """A question with its answer; maybe about an image."""

    question: str
    answer: str
    image: Path | None = None


def json_lines(path: Path, form: str, parse: Callable[[dict[str, Any]], Row]) -> Iterator[Row]:
    """The objects of a JSON-lines file, one a line, as `parse` reads them; blank lines are passed over.

    Args:
        form: what a line must hold, for the error: '{"text"}'.
        parse: raises KeyError, TypeError or ValueError for an object of another form.

    Raises:
        CorpusError: the file can't be read, or a line is not of the form.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):  # JSON strings may hold what splitlines() splits at
        if not line.strip():
            continue
        try:
            body = loads(line)
            if not isinstance(body, dict):
                raise TypeError("no JSON object")
            row = parse(body)
        except KeyError as error:
            raise CorpusError(f"{path}, line {number}: {one_line(error, 80)} is missing; expected {form}") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise CorpusError(f"{path}, line {number}: {one_line(error, 240)}; expected {form}") from error
        yield row


def read_text(path: Path) -> str:
    """A text file, UTF-8.

    Raises:
        CorpusError: it can't be read, or is no text.
    """
    return read_written(path, CorpusError)


def iterate_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Texts of files: plain text whole, JSON lines by their "text".

    Raises:
        CorpusError: a file can't be read, or a line has no "text".
    """
    for path in paths:
        if path.suffix == ".jsonl":
            yield from json_lines(path, '{"text"}', lambda body: text_in(body, "text", blank=True))
        else:
            yield read_text(path)


def read_examples(paths: Sequence[Path], *, images: bool) -> Iterator[str | Answered]:
    """Texts and answered questions to learn from: text files, and JSON lines of either form.

    Args:
        images: whether questions may be about images.

    Raises:
        CorpusError: a file can't be read, a line is of neither form, or an image is named that may not be.
    """
    for path in paths:
        if path.suffix != ".jsonl":
            yield read_text(path)
            continue

        def parse(body: dict[str, Any], path: Path = path) -> str | Answered:
            if "text" in body:
                return text_in(body, "text", blank=True)
            image = named_image(path, body)
            if image is not None and not images:
                raise ValueError("an image, but the model reads text only")
            return Answered(text_in(body, "question"), text_in(body, "answer"), image)

        yield from json_lines(path, '{"text"} or {"question", "answer", "image": path or absent}', parse)


def images_in(paths: Sequence[Path]) -> list[Path]:
    """The images that examples are about, each once.

    Raises:
        CorpusError: as `read_examples`.
    """
    examples = read_examples(paths, images=True)
    return sorted({one.image for one in examples if not isinstance(one, str) and one.image is not None})


def read_captions(path: Path, images: Sequence[Path], folders: Sequence[Path]) -> tuple[list[str], NDArray[np.int32]]:
    """Captions from JSON lines, {"image", "caption"}: the different ones, and the number of each image's, -1 for none.

    Args:
        images: paths of all images.
        folders: where they were found; "image" is a path below one of them.

    Raises:
        CorpusError: a line is of another form, or names an image that is not in the folders.
    """
    places = {str(image.relative_to(folder)): number for folder in folders if folder.is_dir()
              for number, image in enumerate(images) if image.is_relative_to(folder)}  # fmt: skip
    texts: dict[str, int] = {}
    numbers = np.full(len(images), -1, np.int32)

    def parse(body: dict[str, Any]) -> tuple[int, str]:
        image, caption = text_in(body, "image"), text_in(body, "caption", blank=True).strip()
        if image not in places:
            raise ValueError(f"{image} is not below a folder of --images")
        return places[image], caption

    for place, caption in json_lines(path, '{"image": path below its folder, "caption"}', parse):
        if caption:
            numbers[place] = texts.setdefault(caption, len(texts))
    return list(texts), numbers


def named_image(path: Path, body: dict[str, Any]) -> Path | None:
    """The image that a line names, relative to the file's folder; None where it names none.

    Raises:
        ValueError: its name is no text that a file can have.
    """
    if body.get("image") in (None, ""):
        return None
    name = text_in(body, "image")
    if "\0" in name:
        raise ValueError('"image" holds a zero byte')
    return path.parent / name


def text_in(body: dict[str, Any], name: str, *, blank: bool = False) -> str:
    """A member of a JSON object that is a text.

    Args:
        blank: whether it may have no words.

    Raises:
        KeyError, ValueError: it is missing, no text, or blank.
    """
    value = body[name]
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is no text')
    if not blank and not value.strip():
        raise ValueError(f'"{name}" is empty')
    return value


def read_corpus(paths: Sequence[Path]) -> Corpus:
    """Calibration data from files and folders; medge's own texts and pydicom's images where there are none.

    Raises:
        CorpusError: the paths hold neither texts nor images.
        ImageError: they hold images, and none can be read. Single ones are skipped and named in the images' `skipped`.
    """
    if not paths:
        return Corpus([*medical_texts(), *mixed_texts()], builtin_samples(), "medge's own texts, pydicom's own files")
    files = [p for path in paths for p in ([path] if path.is_file() else sorted(path.rglob("*")))]
    texts = list(iterate_texts([path for path in files if path.suffix.lower() in TEXT_SUFFIXES]))
    name = ", ".join(path.name for path in paths)
    pictures = list(find_images([p for p in paths if p.is_dir() or p.suffix.lower() not in TEXT_SUFFIXES]))
    images = read_images(pictures, name) if pictures else Samples([], None, (), (), name)
    if not texts and not len(images):
        raise CorpusError(f"{', '.join(map(str, paths))}: neither texts (.txt, .md, .jsonl) nor images in there")
    return Corpus(texts, images, name)


def text_prompts(
    tokenize: Callable[[str], list[int]],
    texts: Sequence[str],
    bos: int,
    *,
    size: int = CHUNK,
    least: int = SKIP * 2 + 1,
) -> list[list[int]]:
    """Texts joined and cut into prompts of `size` tokens; of the end, what has `least` of them."""
    return [[bos, *ids] for ids, _ in _pieces(tokenize, texts, size, least)]


def passage_prompts(
    tokenize: Callable[[str], list[int]], texts: Sequence[str], bos: int
) -> tuple[list[list[int]], list[list[int]]]:  # fmt: skip
    """`text_prompts`, and which passage each of their tokens but the first belongs to.

    A passage is a text, or as much of a long one as fills a prompt: what can count as independent of the rest.
    """
    pieces = list(_pieces(tokenize, texts, CHUNK, SKIP * 2 + 1))
    return [[bos, *ids] for ids, _ in pieces], [passages for _, passages in pieces]


def _pieces(
    tokenize: Callable[[str], list[int]], texts: Sequence[str], size: int, least: int
) -> Iterator[tuple[list[int], list[int]]]:  # fmt: skip
    """The joined tokens of texts in pieces of `size` - 1, each with its tokens' passages."""
    ids: list[int] = []
    passages: list[int] = []
    begun = 0
    for text in texts:
        found = tokenize(f"{text.strip()}\n\n")
        ids += found
        passages += [begun + place // (size - 1) for place in range(len(found))]
        begun += -(-len(found) // (size - 1))
    for start in range(0, len(ids), size - 1):
        if len(ids) - start >= least:
            yield ids[start : start + size - 1], passages[start : start + size - 1]
