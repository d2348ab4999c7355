"""What an image-text encoder does whatever computes its towers: pictures are prepared and embedded, and embeddings are scored."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bundles.facts import EncoderFacts
from ..decisions import probability
from ..decisions.calibration import Decision
from ..errors import ImageError, LabelError
from ..pictures.images import ImageSource, describe, read_image
from ..pictures.preprocess import Normalisation, Pixels, get_profile
from ..pictures.view import DEFAULT_VIEW, View
from .classification import Classification
from .labels import LabelBank
from .tokenizer import Cut

T = TypeVar("T")


class Embedder(abc.ABC):
    """An image-text encoder: a bundle's is an `Encoder`.

    Attributes:
        facts: what is known of the model.
    """

    facts: EncoderFacts

    @property
    @abc.abstractmethod
    def profile(self) -> str:
        """The name of the preprocessing profile."""

    @property
    @abc.abstractmethod
    def normalisation(self) -> Normalisation:
        """Grey levels to numbers."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Names the embedding space: what an index or a probe made with this model must be used with."""

    @abc.abstractmethod
    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prepared inputs, (N, 3, side, side) float32, to unit-length embeddings, (N, D) float32."""

    @abc.abstractmethod
    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """One text or several to unit-length embeddings, (N, D) float32."""

    @abc.abstractmethod
    def cuts(self, texts: Sequence[str]) -> list[Cut]:
        """Which of these texts the text tower would cut, and where."""

    def prepare(self, source: ImageSource, view: View = DEFAULT_VIEW) -> NDArray[np.float32]:
        """An image to the model's input, (3, side, side) float32.

        Examples:
            >>> medge.load_encoder("bundle").prepare("film.dcm").dtype
            dtype('float32')
        """
        return self._read(source, view)[1]

    def _read(self, source: ImageSource, view: View) -> tuple[Pixels, NDArray[np.float32]]:
        """An image as it is decoded, (H, W, 3), and as the model's input, (3, side, side)."""
        picture = read_image(source, view)
        return picture, self.normalise(self.resize(picture))

    def resize(self, image: Pixels) -> NDArray[np.uint8]:
        """A decoded image, (H, W, 3) of 8 or 16 bits, to the model's size, (side, side, 3) uint8.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> encoder.resize(medge.image("film.dcm")).shape == (encoder.facts.image_size,) * 2 + (3,)
            True
        """
        return get_profile(self.profile).resize(image, self.facts.image_size)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(side, side, 3) uint8 to the model's input, (3, side, side) float32.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> encoder.normalise(np.zeros((4, 4, 3), np.uint8)).shape
            (3, 4, 4)
        """
        return self.normalisation(pixels)

    def stream_images(
        self, sources: Iterable[ImageSource], *, batch_size: int = 8, view: View = DEFAULT_VIEW
    ) -> Iterator[tuple[ImageSource, NDArray[np.float32] | ImageError]]:  # fmt: skip
        """Embed images as they come, batch by batch; one that can't be read stops nothing.

        Args:
            sources: any number, each as in `medge.image`.
            batch_size: images that go through the tower together, where its recipe allows that.
            view: which frame and which window of a file.

        Yields:
            (source, its unit-length embedding, (D,) float32, or the `ImageError` that says why it can't be read), in order.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> for source, found in encoder.stream_images(["film.dcm", "no-film.png"]):
            ...     print(source, found.shape if isinstance(found, np.ndarray) else "can't be read")
            film.dcm (192,)
            no-film.png can't be read
        """
        waiting: list[tuple[ImageSource, NDArray[np.float32] | ImageError]] = []

        def flush() -> Iterator[tuple[ImageSource, NDArray[np.float32] | ImageError]]:
            pixels = [item for _, item in waiting if not isinstance(item, ImageError)]
            embeddings = iter(self.embed_pixels(np.stack(pixels)) if pixels else ())
            for source, item in waiting:
                yield source, item if isinstance(item, ImageError) else next(embeddings)
            waiting.clear()

        for source in sources:
            waiting.append((source, or_why_not(source, partial(self.prepare, source, view))))
            if len(waiting) >= batch_size:
                yield from flush()
        yield from flush()

    def score(self, embeddings: NDArray[np.float32], bank: LabelBank) -> list[Classification]:
        """Score embeddings that are already there.

        Args:
            embeddings: of images, (N, D) float32, of unit length.
            bank: as `bank` makes it.

        Returns:
            a classification for each row.

        Raises:
            LabelError: the bank's embeddings are not as long as these, or one of all is not finite.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> bank, rows = encoder.bank(["a chest x-ray", "a head CT"]), encoder.embed_images(["film.dcm"])
            >>> len(encoder.score(rows, bank))
            1
        """
        if embeddings.shape[-1] != bank.embeddings.shape[-1]:
            sizes = f"{bank.embeddings.shape[-1]} numbers, an image's {embeddings.shape[-1]}"
            raise LabelError(f"a label's embedding has {sizes}: the labels were embedded with another bundle")
        cosine = embeddings @ bank.embeddings.T
        if not np.isfinite(cosine).all():
            raise LabelError("embeddings of images or labels are not finite numbers; embed them again")
        logits = self.logits(cosine)
        shares = softmax(logits) if len(bank.names) > 1 else [None] * len(logits)
        holds = sigmoid(logits) if self.facts.sigmoid else [None] * len(logits)
        decisions = self._decide(embeddings, logits, bank)
        return [Classification(bank.names, *row) for row in zip(cosine, shares, holds, decisions, strict=True)]

    def logits(self, cosine: NDArray[np.float32]) -> NDArray[np.float64]:
        """What probabilities are made of, from cosines of any shape.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> low, high = encoder.logits(np.float32([0.0, 0.1]))
            >>> bool(low < high)
            True
        """
        return cosine.astype(np.float64) * self.facts.logit_scale + self.facts.logit_bias

    def _decide(
        self, embeddings: NDArray[np.float32], logits: NDArray[np.float64], bank: LabelBank
    ) -> Sequence[Decision | None]:
        """What calibrated scores say, (N,); nothing where they are not calibrated."""
        return [None] * len(embeddings)


def or_why_not(source: ImageSource, read: Callable[[], T]) -> T | ImageError:
    """What `read` makes of an image, or the error that says why nothing can be made of it."""
    try:
        return read()
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError(f"{describe(source)}: not enough memory to decode it")


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    return probability.softmax(logits).astype(np.float32)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Element-wise logistic function."""
    return probability.sigmoid(logits).astype(np.float32)
