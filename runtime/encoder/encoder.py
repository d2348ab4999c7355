"""The encoder: a MedSigLIP bundle that embeds images and texts and classifies."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.bundle import Bundle
from ..bundles.facts import file_role
from ..decisions.calibration import ROLE, Decision, ScoreCalibration
from ..device.cpu import check_threads
from ..device.onnx_outline import BATCH, FLOAT, INT64, Interface, Shape
from ..device.onnx_session import OrtSession, Session
from ..errors import BundleError, ImageError, LabelError
from ..notebook import fact_table, shorten
from ..pictures.endings import names_an_image
from ..pictures.images import ImageSource, as_sources
from ..pictures.preprocess import Normalisation, get_profile
from ..pictures.view import DEFAULT_VIEW, View
from ..progress import Progress, no_progress
from .classification import Classification
from .embedder import Embedder, or_why_not
from .labels import LabelBank, as_prompts, unit_length
from .maps import PatchMap, covered, patch_map
from .tokenizer import Cut, Tokenizer

MOST_LENGTH = 1e18  # of an embedding before it is brought to unit length: its square is still a float32

Labels = str | Sequence[str] | Mapping[str, str | Sequence[str]] | LabelBank


class TextCutWarning(UserWarning):
    """A text was longer than the text tower reads; the message says what was cut."""


class Encoder(Embedder):
    """Zero-shot classification and embeddings from a bundle, here from its ONNX files; `load_encoder` opens one.

    Loading opens no engine, the first image or text does. A process may be forked before that, and each of the two then uses
    the encoder; after it a forked child must not, since the engine's threads are not in it: load in the child, or start
    processes by "spawn".

    Args:
        bundle: an opened bundle.
        threads: threads of the engine; its own choice where None.
        device: "auto", "cpu" or "cuda".
        fast: some per cent faster, for more memory.
        sleeping: threads that wait for one another leave their cores to others, for a server that does other work, too.

    Raises:
        RecipeError: fewer than one thread.

    Examples:
        >>> encoder = medge.load_encoder("bundle")
        >>> encoder.manifest.status, encoder.facts.embedding_size
        ('passed', 192)
    """

    format = "onnx"
    absent = (
        "holds CoreML packages only, for Macs, iPhones and iPads; "
        "for this machine export with --format onnx, or onnx,coreml"
    )

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, device: str = "auto", fast: bool = False, sleeping: bool = False
    ) -> None:  # fmt: skip
        check_threads(threads)
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.facts = bundle.manifest.encoder  # refuses a language model's bundle
        if self.format not in self.manifest.artefacts:
            raise BundleError(f"{bundle.folder} {self.absent}")
        self.towers = self.manifest.artefacts[self.format].towers
        get_profile(self.manifest.profile)  # an unknown one is refused now
        self._threads, self._device, self._fast, self._sleeping = threads, device, fast, sleeping

    def __repr__(self) -> str:
        recipes = ", ".join(f"{tower} {facts.recipe}" for tower, facts in self.towers.items())
        labels = f", labels {shorten(self.manifest.labels)}" if self.manifest.labels else ""
        side, parity = self.facts.image_size, self.manifest.verdict
        return f"<Encoder {self.manifest.name}: {recipes}, {side} x {side} pixels, parity {parity}{labels}>"

    def _repr_html_(self) -> str:
        rows = [(f"{tower} tower", one.recipe) for tower, one in self.towers.items()]
        rows.append(("image", f"{self.facts.image_size} x {self.facts.image_size} pixels, {self.manifest.profile}"))
        rows.append(("labels", shorten(self.manifest.labels, 12) or "none of its own"))
        return fact_table(f"Encoder {self.manifest.name}", [*rows, ("parity", self.manifest.verdict)])

    @cached_property
    def vision(self) -> Session:
        return self._open("vision")

    @cached_property
    def text(self) -> Session:
        return self._open("text")

    def _open(self, tower: str) -> Session:
        role = file_role(self.format, tower)
        path = self.bundle.path(role)
        if path is None:
            hint = "; it was exported with --without-text: use its baked labels" if tower == "text" else ""
            raise BundleError(f"{self.bundle.folder} has no {tower} tower{hint}")
        session = self._open_file(tower, path)
        for opened in (role, f"{role}.data"):
            self.bundle.path(opened)  # refuses what was put there in the meantime
        return session

    def _open_file(self, tower: str, path: Path) -> Session:
        return OrtSession(
            path,
            interface=self._interface(tower),
            threads=self._threads,
            device=self._device,
            fast=self._fast,
            sleeping=self._sleeping,
        )

    def _interface(self, tower: str) -> Interface:
        """How a tower's graph is called, as the manifest says it."""
        facts, side = self.towers[tower], self.facts.image_size
        taken = (FLOAT, (BATCH, 3, side, side)) if tower == "vision" else (INT64, (BATCH, self.facts.tokenizer.length))
        given: dict[str, Shape] = {facts.output: (BATCH, self.facts.embedding_size)}
        if facts.map_output:
            given[facts.map_output] = (BATCH, self._cells**2 + 1, self.facts.embedding_size)
        return Interface(dict.fromkeys(facts.inputs, taken), given, facts.opset, facts.batch_invariant)

    @property
    def _cells(self) -> int:
        """Patches on a side of what the model sees."""
        return self.facts.image_size // self.facts.patch_size

    @cached_property
    def tokenizer(self) -> Tokenizer:
        path = self.bundle.path("tokenizer")
        if path is None:
            raise BundleError(f"{self.bundle.folder} has no tokenizer")
        return Tokenizer(path, self.facts.tokenizer, self.facts.vocabulary)

    @cached_property
    def label_bank(self) -> LabelBank | None:
        """The bank baked into the bundle, or None."""
        path = self.bundle.path("labels")
        if path is None:
            return None
        bank = LabelBank.load(path, self.facts.embedding_size)
        if bank.names != self.manifest.labels:
            raise BundleError(f"{path} has other labels than the manifest; copy or export the bundle again")
        return bank

    @cached_property
    def calibration(self) -> ScoreCalibration | None:
        """How the bundle's scores are calibrated, or None.

        Raises:
            BundleError: it is damaged, or was fitted to the scores of another bundle.
        """
        path = self.bundle.path(ROLE)
        if path is None:
            return None
        found = ScoreCalibration.load(path, self.facts.embedding_size)
        facts, labels = found.facts, self.manifest.file("labels")
        if facts.fingerprint != self.fingerprint or labels is None or facts.labels_sha256 != labels.sha256:
            raise BundleError(
                f"{path} was fitted to other scores than this bundle's: its thresholds would be wrong here; "
                "run 'medge calibrate-scores' on this bundle"
            )
        return found

    @property
    def profile(self) -> str:
        """The name of the preprocessing profile that is stamped into the bundle."""
        return self.manifest.profile

    @property
    def normalisation(self) -> Normalisation:
        """Grey levels to numbers, as the bundle has it."""
        facts = self.manifest.preprocessing
        assert facts is not None  # every encoder sees
        return Normalisation(facts.mean, facts.std)

    @property
    def fingerprint(self) -> str:
        """Names the embedding space: what an index or a probe made with this bundle must be used with."""
        vision = self.manifest.file(file_role(self.format, "vision"))
        return f"{vision.sha256 if vision else ''}/{self.manifest.profile}"

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prepared inputs, (N, 3, side, side) float32, to unit-length embeddings, (N, D) float32.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> encoder.embed_pixels(encoder.prepare("film.dcm")[None]).shape
            (1, 192)
        """
        return self._run("vision", pixels)

    def embed_ids(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids, (N, length) int64, to unit-length embeddings, (N, D) float32.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> ids, cuts = encoder.tokenizer.encode(["a chest x-ray", "an abdomen CT"])
            >>> encoder.embed_ids(ids).shape
            (2, 192)
        """
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
        return self._unit(tower, np.concatenate(parts))

    def _unit(self, tower: str, pooled: NDArray[Any]) -> NDArray[np.float32]:
        """What a tower gives, (N, D), at unit length."""
        values = pooled.astype(np.float32)
        # A row of zeros has no direction; of values that overflow when they are squared, nothing but zeros would be left.
        lengths = np.linalg.norm(values.astype(np.float64), axis=-1)
        if not ((lengths > 1e-12) & (lengths < MOST_LENGTH)).all():
            raise BundleError(
                f"{self.bundle.folder}: its {tower} tower ({self.towers[tower].recipe}) computes no finite numbers here; "
                "use another recipe, and check this machine with 'medge verify'"
            )
        return unit_length(values)

    def _session(self, tower: str) -> Session:
        return self.vision if tower == "vision" else self.text

    def _input(self, name: str, batch: NDArray[Any]) -> NDArray[Any]:
        """What a graph's input of this name reads: the batch, or which of its tokens are text."""
        return self.tokenizer.mask(batch) if name == "attention_mask" else batch

    def check_maps(self) -> None:
        """Check that the bundle can make maps.

        Raises:
            BundleError: it was exported without --maps.

        Examples:
            >>> medge.load_encoder("bundle").check_maps()
        """
        if not self.towers["vision"].map_output:
            raise BundleError(f"{self.bundle.folder} can't make maps; export it again with --maps")

    def stream_maps(
        self, sources: Iterable[ImageSource], labels: Labels | None = None, *, view: View = DEFAULT_VIEW
    ) -> Iterator[tuple[ImageSource, PatchMap | ImageError]]:
        """Map images as they come, one by one; one that can't be read stops nothing.

        Args:
            sources: any number, each as in `medge.image`.
            labels: one text, several, {label: prompts}, a bank, or None for the labels baked into the bundle.
            view: which frame and which window of a file.

        Yields:
            (source, its map, or the `ImageError` that says why it can't be read), in order.

        Raises:
            BundleError: the bundle was exported without --maps.
            LabelError: no label, a blank one or the same one twice.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> for source, found in encoder.stream_maps(["film.dcm"], ["an abdomen CT", "a chest x-ray"]):
            ...     print(source, found.best)
            film.dcm an abdomen CT
        """
        self.check_maps()
        bank, side = self.bank(labels), self.facts.image_size
        profile, share = get_profile(self.manifest.profile), self._cells * self.facts.patch_size / side
        for source in sources:
            read = or_why_not(source, partial(self._read, source, view))
            if isinstance(read, ImageError):
                yield source, read
                continue
            picture, prepared = read
            embedding, contributions = self._contributions(prepared)
            height, width = picture.shape[:2]
            area = covered(profile.area(height, width, side), share)
            yield source, patch_map(contributions, embedding, bank, self._cells, area, picture)

    def _contributions(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of a prepared image, its embedding, (D,), and what its patches give to it, (patches + 1, D)."""
        facts = self.towers["vision"]
        given = {name: self._input(name, pixels[None]) for name in facts.inputs}
        pooled, contributions = self.vision.run([facts.output, facts.map_output], given)
        if not np.isfinite(contributions).all():
            raise BundleError(f"{self.bundle.folder}: its maps are no finite numbers here; use another recipe")
        return self._unit("vision", pooled)[0], contributions[0]

    def map(self, image: ImageSource, labels: Labels | None = None, *, view: View = DEFAULT_VIEW) -> PatchMap:
        """Show which patches of an image speak for a label.

        Args:
            image: as in `medge.image`.
            labels: one text, for what speaks for it, whatever else it could be; several, or {label: prompts}, or a bank, for what
                speaks for each rather than for the others; None for the labels baked into the bundle.
            view: which frame and which window of a file.

        Raises:
            BundleError: the bundle was exported without --maps.
            ImageError: the image can't be read.
            LabelError: no label, a blank one or the same one twice.

        Examples:
            >>> found = medge.load_encoder("bundle").map("film.dcm", ["an abdomen CT", "a chest x-ray"])
            >>> found.labels, len(found.grids)
            (('an abdomen CT', 'a chest x-ray'), 2)
        """
        [(_, found)] = self.stream_maps([image], labels, view=view)
        if isinstance(found, ImageError):
            raise found
        return found

    def embed_images(
        self, images: ImageSource | Sequence[ImageSource], *, batch_size: int = 8, view: View = DEFAULT_VIEW,
        progress: Progress = no_progress,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Embed images.

        Args:
            images: one or several, each as in `medge.image`.
            batch_size: images that go through the tower together, where its recipe allows that.
            view: which frame and which window of a file.
            progress: called as `progress("images", done, total)` after each.

        Returns:
            (N, D) float32, of unit length, in order.

        Raises:
            ImageError: an image can't be read. Use `stream_images` to go on with the others.

        Examples:
            >>> medge.load_encoder("bundle").embed_images(["film.dcm", np.zeros((64, 64), np.uint8)]).shape
            (2, 192)
        """
        rows: list[NDArray[np.float32]] = []
        sources = as_sources(images)
        for _, item in self.stream_images(sources, batch_size=batch_size, view=view):
            if isinstance(item, ImageError):
                raise item
            rows.append(item)
            progress("images", len(rows), len(sources))
        return np.stack(rows) if rows else np.empty((0, self.facts.embedding_size), np.float32)

    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts. Warns (`TextCutWarning`) when a text is too long for the tower.

        Args:
            texts: one or several.
            batch_size: texts that go through the tower together, where its recipe allows that.

        Returns:
            (N, D) float32, of unit length, in order.

        Raises:
            LabelError: a text is the name of an image.

        Examples:
            >>> medge.load_encoder("bundle").embed_texts(["a chest x-ray", "an abdomen CT"]).shape
            (2, 192)
        """
        texts = [texts] if isinstance(texts, str) else texts
        if named := next(filter(names_an_image, texts), None):
            raise LabelError(f"{named!r} names an image, but is given as a text; embed it as an image")
        ids, cuts = self.tokenizer.encode(texts)
        for cut in cuts:
            warnings.warn(str(cut), TextCutWarning, stacklevel=2)
        parts = [self.embed_ids(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, self.facts.embedding_size), np.float32)

    def bank(self, labels: Labels | None = None) -> LabelBank:
        """Embed labels once, for many images.

        Args:
            labels: one text, several, {label: prompts}, a bank, or None for the labels baked into the bundle.

        Raises:
            BundleError: the bundle has no baked labels.
            LabelError: no label, a blank one or the same one twice.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> bank = encoder.bank({"CT": ["an abdomen CT", "a chest CT"], "x-ray": "a chest x-ray"})
            >>> bank.names, bank.embeddings.shape
            (('CT', 'x-ray'), (2, 192))
        """
        if labels is None:
            if self.label_bank is None:
                raise BundleError(f"{self.bundle.folder} has no baked labels: pass labels, or export it with --labels")
            return self.label_bank
        return labels if isinstance(labels, LabelBank) else LabelBank.build(as_prompts(labels), self.embed_texts)

    def classify(
        self, images: ImageSource | Sequence[ImageSource], labels: Labels | None = None, *, batch_size: int = 8,
        view: View = DEFAULT_VIEW, progress: Progress = no_progress,
    ) -> list[Classification]:  # fmt: skip
        """Score images against labels.

        Args:
            images: one or several, each as in `medge.image`.
            labels: one text, several, {label: prompts}, a bank, or None for the labels baked into the bundle.
            batch_size: images that go through the tower together, where its recipe allows that.
            view: which frame and which window of a file.
            progress: called as `progress("images", done, total)` after each image.

        Returns:
            a classification for each image, in order.

        Raises:
            ImageError: an image can't be read. Use `stream_images` and `score` to go on with the others.
            LabelError: no label, a blank one or the same one twice.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> [found] = encoder.classify("film.dcm", ["an abdomen CT", "a chest x-ray"])
            >>> found.best
            'an abdomen CT'
            >>> [single] = encoder.classify("film.dcm", "an abdomen CT")  # of one label: does it hold?
            >>> single.softmax is None
            True
        """
        bank = self.bank(labels)
        return self.score(self.embed_images(images, batch_size=batch_size, view=view, progress=progress), bank)

    def _decide(
        self, embeddings: NDArray[np.float32], logits: NDArray[np.float64], bank: LabelBank
    ) -> Sequence[Decision | None]:
        """What calibrated scores say; of labels that were not calibrated, only whether a picture is unlike all."""
        if self.calibration is None:
            return [None] * len(embeddings)
        return self.calibration.decide(embeddings, logits if self.calibrated(bank) else None)

    def calibrated(self, bank: LabelBank) -> bool:
        """Whether the scores for these labels are calibrated: those of the bundle's own labels can be.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> encoder.calibrated(encoder.bank(["a chest x-ray"]))
            False
        """
        own = self.label_bank
        # In their order, too: thresholds and logits are matched by place.
        same = own is not None and (bank is own or list(bank.prompts.items()) == list(own.prompts.items()))
        return self.calibration is not None and same

    def cuts(self, texts: Sequence[str]) -> list[Cut]:
        """Which of these texts the text tower would cut, and where.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> len(encoder.cuts(["a chest x-ray", "findings " * 90]))
            1
        """
        return self.tokenizer.encode(texts)[1]
