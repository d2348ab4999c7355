"""The encoder: a MedSigLIP bundle that embeds images and texts and classifies."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.bundle import Bundle
from ..device.cpu import check_threads
from ..device.onnx_session import OrtSession, Session
from ..errors import BundleError, ImageError
from ..pictures.images import ImageSource, as_sources, describe, read_image
from ..pictures.preprocess import Normalisation, Pixels, get_profile
from ..pictures.view import DEFAULT_VIEW, View
from .labels import LabelBank, as_prompts, unit_length
from .tokenizer import Cut, Tokenizer

Labels = str | Sequence[str] | Mapping[str, str | Sequence[str]] | LabelBank


class TextCutWarning(UserWarning):
    """A text was longer than the text tower reads; the message says what was cut."""


@dataclass(frozen=True)
class Score:
    """What an image scores for one label; as in `Classification`."""

    label: str
    cosine: float
    softmax: float | None
    sigmoid: float | None

    @property
    def probability(self) -> float | None:
        """That it is this label among the others; of a single label, that it holds, or None where the model can't say that."""
        return self.sigmoid if self.softmax is None else self.softmax


@dataclass(frozen=True)
class Classification:
    """Scores of one image, in the labels' order.

    Attributes:
        labels: their names.
        cosine: (L,) float32, the cosine of the image's and each label's embedding.
        softmax: (L,) float32, sums to one over the labels: which of these is it? None of a single label, which would be
            certain whatever the image shows.
        sigmoid: (L,) float32, independent for each: does this hold? None of a model that was not trained for that (CLIP).
    """

    labels: tuple[str, ...]
    cosine: NDArray[np.float32]
    softmax: NDArray[np.float32] | None
    sigmoid: NDArray[np.float32] | None

    @property
    def best(self) -> str:
        return self.labels[int(np.argmax(self.cosine))]

    def ranked(self) -> list[Score]:
        """Every label with its scores, most likely first."""
        none = [None] * len(self.labels)
        shares, holds = (none if values is None else values.tolist() for values in (self.softmax, self.sigmoid))
        rows = zip(self.labels, self.cosine.tolist(), shares, holds, strict=True)
        return sorted((Score(*row) for row in rows), key=lambda score: -score.cosine)


class Encoder:
    """Zero-shot classification and embeddings from a bundle.

        encoder = medge.load("bundle")
        encoder.classify("film.dcm", ["normal chest x-ray", "pneumonia"])

    Loading opens no engine, the first image or text does. A process may be forked before that, and each of the two then uses
    the encoder; after it a forked child must not, since the engine's threads are not in it: load in the child, or start
    processes by "spawn".

    Args:
        bundle: an opened bundle.
        threads: threads of the engine; its own choice where None.
        device: "auto", "cpu" or "cuda".
        fast: some per cent faster, for more memory.

    Raises:
        RecipeError: fewer than one thread.
    """

    format = "onnx"
    absent = (
        "holds CoreML packages only, for Macs, iPhones and iPads; "
        "for this machine export with --format onnx, or onnx,coreml"
    )

    def __init__(self, bundle: Bundle, *, threads: int | None = None, device: str = "auto", fast: bool = False) -> None:
        check_threads(threads)
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.facts = bundle.manifest.encoder  # refuses a language model's bundle
        if self.format not in self.manifest.artefacts:
            raise BundleError(f"{bundle.folder} {self.absent}")
        self.towers = self.manifest.artefacts[self.format].towers
        self._options = {"threads": threads, "device": device, "fast": fast}

    @cached_property
    def vision(self) -> Session:
        return self._open("vision")

    @cached_property
    def text(self) -> Session:
        return self._open("text")

    def _open(self, tower: str) -> Session:
        path = self.bundle.path(tower)
        if path is None:
            hint = "; it was exported with --without-text: use its baked labels" if tower == "text" else ""
            raise BundleError(f"{self.bundle.folder} has no {tower} tower{hint}")
        session = OrtSession(path, **self._options)  # type: ignore[arg-type]
        for role in (tower, f"{tower}.data"):
            self.bundle.path(role)  # refuses what was put there in the meantime
        return session

    @cached_property
    def tokenizer(self) -> Tokenizer:
        path = self.bundle.path("tokenizer")
        if path is None:
            raise BundleError(f"{self.bundle.folder} has no tokenizer")
        return Tokenizer(path, self.facts.tokenizer)

    @cached_property
    def label_bank(self) -> LabelBank | None:
        """The bank baked into the bundle, or None."""
        path = self.bundle.path("labels")
        return LabelBank.load(path) if path else None

    @property
    def fingerprint(self) -> str:
        """Names the embedding space: what an index or a probe made with this bundle must be used with."""
        vision = self.manifest.file("vision")
        return f"{vision.sha256 if vision else ''}/{self.manifest.profile}"

    def prepare(self, source: ImageSource, view: View = DEFAULT_VIEW) -> NDArray[np.float32]:
        """An image to the model's input, (3, side, side) float32."""
        return self.normalise(self.resize(read_image(source, view)))

    def resize(self, image: Pixels) -> NDArray[np.uint8]:
        """A decoded image, (H, W, 3) of 8 or 16 bits, to the model's size, (side, side, 3) uint8."""
        return get_profile(self.manifest.profile).resize(image, self.facts.image_size)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(side, side, 3) uint8 to the model's input, (3, side, side) float32."""
        facts = self.manifest.preprocessing
        assert facts is not None  # every encoder sees
        return Normalisation(facts.mean, facts.std)(pixels)

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prepared inputs, (N, 3, side, side) float32, to unit-length embeddings, (N, D) float32."""
        return self._run("vision", pixels)

    def embed_ids(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids, (N, length) int64, to unit-length embeddings, (N, D) float32."""
        return self._run("text", ids)

    def _run(self, tower: str, inputs: NDArray[np.float32] | NDArray[np.int64]) -> NDArray[np.float32]:
        session, facts = self._session(tower), self.towers[tower]
        # Dynamic int8 takes one scale for the whole batch: alone, an image's result depends on nothing but itself.
        step = max(len(inputs) if facts.batch_invariant else 1, 1)
        parts = []
        for start in range(0, len(inputs), step):
            batch = inputs[start : start + step]
            given = {name: self._input(name, batch) for name in facts.inputs}
            parts.append(session.run([facts.output], given)[0])
        if not parts:
            return np.empty((0, self.facts.embedding_size), np.float32)
        return unit_length(np.concatenate(parts).astype(np.float32))

    def _session(self, tower: str) -> Session:
        return self.vision if tower == "vision" else self.text

    def _input(self, name: str, batch: NDArray[Any]) -> NDArray[Any]:
        """What a graph's input of this name reads: the batch, or which of its tokens are text."""
        return self.tokenizer.mask(batch) if name == "attention_mask" else batch

    def stream_images(
        self, sources: Iterable[ImageSource], *, batch_size: int = 8, view: View = DEFAULT_VIEW
    ) -> Iterator[tuple[ImageSource, NDArray[np.float32] | ImageError]]:  # fmt: skip
        """Yield each source with its embedding, (D,), or with the reason why it can't be read; never stops early."""
        waiting: list[tuple[ImageSource, NDArray[np.float32] | ImageError]] = []

        def flush() -> Iterator[tuple[ImageSource, NDArray[np.float32] | ImageError]]:
            pixels = [item for _, item in waiting if not isinstance(item, ImageError)]
            embeddings = iter(self.embed_pixels(np.stack(pixels)) if pixels else ())
            for source, item in waiting:
                yield source, item if isinstance(item, ImageError) else next(embeddings)
            waiting.clear()

        for source in sources:
            try:
                waiting.append((source, self.prepare(source, view)))
            except ImageError as error:
                waiting.append((source, error))
            except MemoryError:
                waiting.append((source, ImageError(f"{describe(source)}: not enough memory to decode it")))
            if len(waiting) >= batch_size:
                yield from flush()
        yield from flush()

    def embed_images(
        self, images: ImageSource | Sequence[ImageSource], *, batch_size: int = 8, view: View = DEFAULT_VIEW
    ) -> NDArray[np.float32]:  # fmt: skip
        """Unit-length embeddings, (N, D) float32, of paths, PIL images or arrays.

        Raises:
            ImageError: an image can't be read. Use `stream_images` to go on with the others.
        """
        rows: list[NDArray[np.float32]] = []
        for _, item in self.stream_images(as_sources(images), batch_size=batch_size, view=view):
            if isinstance(item, ImageError):
                raise item
            rows.append(item)
        return np.stack(rows) if rows else np.empty((0, self.facts.embedding_size), np.float32)

    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D) float32. Warns (`TextCutWarning`) when a text is too long for the tower."""
        ids, cuts = self.tokenizer.encode([texts] if isinstance(texts, str) else texts)
        for cut in cuts:
            warnings.warn(str(cut), TextCutWarning, stacklevel=2)
        parts = [self.embed_ids(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, self.facts.embedding_size), np.float32)

    def bank(self, labels: Labels | None = None) -> LabelBank:
        """The bank of these labels; without labels, the one baked into the bundle."""
        if labels is None:
            if self.label_bank is None:
                raise BundleError(f"{self.bundle.folder} has no baked labels: pass labels, or export it with --labels")
            return self.label_bank
        return labels if isinstance(labels, LabelBank) else LabelBank.build(as_prompts(labels), self.embed_texts)

    def classify(
        self, images: ImageSource | Sequence[ImageSource], labels: Labels | None = None, *, batch_size: int = 8,
        view: View = DEFAULT_VIEW,
    ) -> list[Classification]:  # fmt: skip
        """Score images against labels.

            medge.load_encoder("bundle").classify(["a.dcm", "b.png"], ["normal chest x-ray", "pneumonia"])[0].best

        Args:
            images: one or several, each as in `medge.image`.
            labels: one text, several, {label: prompts}, a bank, or None for the labels baked into the bundle.
            batch_size: images that go through the tower together, where its recipe allows that.
            view: which frame and which window of a file.

        Returns:
            a classification for each image, in order.

        Raises:
            ImageError: an image can't be read. Use `stream_images` and `score` to go on with the others.
            LabelError: no label, a blank one or the same one twice.
        """
        bank = self.bank(labels)
        return self.score(self.embed_images(images, batch_size=batch_size, view=view), bank)

    def score(self, embeddings: NDArray[np.float32], bank: LabelBank) -> list[Classification]:
        """Scores of image embeddings, (N, D), against a bank."""
        cosine = embeddings @ bank.embeddings.T
        logits = cosine.astype(np.float64) * self.facts.logit_scale + self.facts.logit_bias
        shares = softmax(logits) if len(bank.names) > 1 else [None] * len(logits)
        holds = sigmoid(logits) if self.facts.sigmoid else [None] * len(logits)
        return [
            Classification(bank.names, row, share, sig) for row, share, sig in zip(cosine, shares, holds, strict=True)
        ]

    def cuts(self, texts: Sequence[str]) -> list[Cut]:
        """Which of these texts the text tower would cut, and where."""
        return self.tokenizer.encode(texts)[1]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Element-wise logistic function."""
    return (1 / (1 + np.exp(-np.clip(logits, -700, 700)))).astype(np.float32)


def load(
    folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, threads: int | None = None,
    device: str = "auto", fast: bool = False,
) -> Encoder:  # fmt: skip
    """Open a bundle for use.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        threads: threads of the engine; its own choice where None.
        device: "auto", "cpu" or "cuda".
        fast: some per cent faster, for more memory.

    Raises:
        BundleError: missing, half-written, changed, too new, or (`ParityGateError`) too far from the original.
    """
    bundle = Bundle.open(folder, verify=verify, allow_failed_parity=allow_failed_parity)
    return Encoder(bundle, threads=threads, device=device, fast=fast)
