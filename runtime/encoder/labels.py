"""Label lists and label banks.

A label file is either plain text, one label a line, or JSON: {"label": ["prompt", "another prompt"], ...}. A label
bank holds one embedding per label: the mean, at unit length, of its prompts' unit-length embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..bundles.tensors import Declared, check_unit_length, read_tensors
from ..bundles.typed_json import parse
from ..errors import BundleError, LabelError, one_line
from ..json_text import holds_controls
from ..notebook import shorten
from ..written_text import read_written

# What a label without prompts of its own is asked with.
DEFAULT_TEMPLATES = ("{}", "an image of {}", "a medical image showing {}")

MOST_BYTES = 16 << 20  # of a file of labels
MOST_CHARACTERS = 1000  # of a label; a manifest takes no longer one

Prompts = Mapping[str, Sequence[str]]


def read_labels(path: Path) -> dict[str, list[str]]:
    """Read a label file: {label: prompts}.

    Raises:
        LabelError: missing, empty, or not of either form.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise LabelError(f"{path}: is no regular file; give a file of labels")
        if size > MOST_BYTES:
            raise LabelError(f"{path}: has {size} bytes, a file of labels at most {MOST_BYTES}")
    except OSError as error:
        raise LabelError(f"{path}: can't be read as text ({error.strerror or error})") from error
    text = read_written(path, LabelError)
    if path.suffix.lower() == ".json":
        try:
            body = parse(text.encode())
        except ValueError as error:
            raise LabelError(f'{path}: not JSON of {{"label": ["prompt", ...], ...}} ({error})') from error
        return as_prompts(body, str(path))
    return as_prompts([line.strip() for line in text.splitlines() if line.strip()], str(path))


def as_prompts(
    labels: str | Sequence[str] | Mapping[str, str | Sequence[str]], where: str = "labels"
) -> dict[str, list[str]]:
    """One label, several, or labels with their prompts, to {label: prompts}.

    Raises:
        LabelError: no label, a blank one, a repeated one, or a label whose prompts are not text.
    """
    if isinstance(labels, Mapping):
        pairs = [(name, [value] if isinstance(value, str) else value or ()) for name, value in labels.items()]
    else:
        pairs = [(name, ()) for name in ([labels] if isinstance(labels, str) else labels)]
    if not pairs:
        raise LabelError(f"{where}: the label list is empty")
    prompts: dict[str, list[str]] = {}
    for name, given in pairs:
        if not isinstance(name, str) or not name.strip():
            raise LabelError(f"{where}: a label is blank")
        if len(name) > MOST_CHARACTERS:
            raise LabelError(f"{where}: a label has {len(name)} characters, at most {MOST_CHARACTERS} are allowed")
        if holds_controls(name):
            raise LabelError(
                f"{where}: the label {name[:80]!r} holds line breaks or control characters; write it as plain text"
            )
        if name in prompts:
            raise LabelError(f"{where}: the label '{one_line(name, 80)}' is listed twice")
        texts = isinstance(given, Sequence) and all(isinstance(prompt, str) and prompt.strip() for prompt in given)
        if not texts:
            raise LabelError(f"{where}: the prompts of '{one_line(name, 80)}' must be non-empty texts")
        prompts[name] = list(given) or [template.format(name) for template in DEFAULT_TEMPLATES]
    return prompts


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors along the last axis to unit length; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class LabelBank:
    """Labels with their prompts and embeddings; `Encoder.bank` makes one, to be used for many images.

    Attributes:
        prompts: {label: prompts}.
        embeddings: (labels, D) float32, of unit length, in the order of `prompts`.

    Examples:
        >>> medge.load_encoder("bundle").bank(["a chest x-ray", "an abdomen CT"])
        <LabelBank: a chest x-ray, an abdomen CT>
    """

    prompts: dict[str, list[str]]
    embeddings: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"<LabelBank: {shorten(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return tuple(self.prompts)

    @classmethod
    def build(cls, prompts: Prompts, embed: Callable[[Sequence[str]], NDArray[np.float32]]) -> LabelBank:
        """Average the unit-length embeddings of each label's prompts, and bring the mean to unit length.

        Raises:
            LabelError: a mean is zero or not finite.

        Examples:
            >>> prompts = {"CT": ["an abdomen CT", "a chest CT"], "x-ray": ["a chest x-ray"]}
            >>> medge.LabelBank.build(prompts, medge.load_encoder("bundle").embed_texts)
            <LabelBank: CT, x-ray>
        """
        flat = [prompt for group in prompts.values() for prompt in group]
        ends = np.cumsum([len(group) for group in prompts.values()])[:-1]
        means = [part.mean(axis=0) for part in np.split(embed(flat), ends)]
        embeddings = unit_length(np.stack(means))
        try:
            check_unit_length(embeddings, "the embedding of label")
        except ValueError as error:
            raise LabelError(
                f"{error}: its prompts cancel one another, or the model computes no finite numbers"
            ) from error
        return cls({name: list(group) for name, group in prompts.items()}, embeddings)

    def save(self, path: Path) -> None:
        """Write it, as safetensors.

        Examples:
            >>> medge.load_encoder("bundle").bank(["a chest x-ray", "an abdomen CT"]).save(Path("saved.safetensors"))
            >>> medge.LabelBank.load(Path("saved.safetensors"))
            <LabelBank: a chest x-ray, an abdomen CT>
        """
        save_file({"embeddings": self.embeddings}, path, {"prompts": json.dumps(self.prompts, ensure_ascii=False)})

    @classmethod
    def load(cls, path: Path, size: int | None = None) -> LabelBank:
        """Read what `save` wrote.

        Args:
            path: the file.
            size: numbers that an embedding must have; any where None.

        Raises:
            BundleError: missing, damaged, or its embeddings are not one of unit length for each label.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> encoder.bank(["a chest x-ray", "an abdomen CT"]).save(Path("bank.safetensors"))
            >>> bank = medge.LabelBank.load(Path("bank.safetensors"), encoder.facts.embedding_size)
            >>> encoder.classify("film.dcm", bank)[0].best
            'an abdomen CT'
        """
        try:
            tensors, metadata = read_tensors(path, {"embeddings": Declared("F32", (None, size))})
            prompts = as_prompts(parse(metadata.get("prompts", "").encode()), "its labels")
            if len(prompts) != len(tensors["embeddings"]):
                raise ValueError(f"{len(prompts)} labels have {len(tensors['embeddings'])} embeddings")
            check_unit_length(tensors["embeddings"], "embedding")
        except (ValueError, LabelError) as error:
            raise BundleError(f"{path}: not a label bank ({error})") from error
        return cls(prompts, tensors["embeddings"])
