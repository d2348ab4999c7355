"""What every family of image-text encoders has in common. A family is a subclass of `EncoderReference` in a file of its own.

Its line stands in `table.py`; nothing outside `families/` knows one family from another.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...runtime.bundles.facts import EncoderFacts, Preprocessing
from ...runtime.bundles.origin import Origin
from ...runtime.errors import CheckpointError, RecipeError
from ...runtime.pictures.preprocess import Normalisation
from ..source.checkpoint import Checkpoint

PATCH, POOLED = "patch embedding", "pooled"
BATCH = 16


def block_name(index: int) -> str:
    """The name of the stage after encoder block `index`, from 0."""
    return f"block {index}"


def at_once(facts: EncoderFacts) -> int:
    """Images that go through PyTorch at once: a tower of a thousand tokens needs gigabytes for a batch of sixteen."""
    return max(1, min(BATCH, BATCH * 64 // (facts.image_size // facts.patch_size) ** 2))


@dataclass(frozen=True)
class Signature:
    """What goes into a tower and what comes out, by the names that transformers.js loads.

    The last output is what the bundle's runtime reads; embeddings are not yet of unit length.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Stages:
    """What one tower computes for a batch: {stage: (N, ...) float32} and the unit-length embedding (N, D)."""

    stages: dict[str, NDArray[np.float32]]
    embedding: NDArray[np.float32]


class EncoderReference(abc.ABC):
    """The full-precision PyTorch model that everything is measured against, with its intermediate stages.

    Attributes:
        family: its name in the table and in manifests.
        model_types: what `config.json` says of such a checkpoint.
        profiles: the preprocessing profiles that its publishers use, the usual one first.
        signatures: {tower: how it is called}, for "vision" and "text".
        refused: {what: why}, for what can't be done with the family: a format, a target ("web"), "merging", "maps",
            "distillation", or an engine that `medge bench` compares with. The reason is a clause that follows the family's name.
        device_tokenizer: the text of the `tokenizer.json` that a bundle gets.
        model: in fp32, evaluation mode, attention written out (exact and exportable).

    Raises:
        CheckpointError: the checkpoint lacks something, or is of another shape.
    """

    family: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    profiles: ClassVar[tuple[str, ...]]
    signatures: ClassVar[Mapping[str, Signature]]
    refused: ClassVar[Mapping[str, str]] = {}

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.device_tokenizer = self.read_tokenizer()  # first: it fails before anything large is read
        self.model: Any = self.load()
        self._known: dict[bytes, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """Of the checkpoint's folder."""
        return self.checkpoint.folder.name

    def made_today(self) -> Origin:
        """What a report says of the checkpoint."""
        return self.checkpoint.made_today()

    @classmethod
    def allow(cls, what: str) -> None:
        """Check that something can be done with this family.

        Raises:
            RecipeError: it is among `refused`.
        """
        if what in cls.refused:
            raise RecipeError(f"{what}: {cls.family} {cls.refused[what]}")

    @classmethod
    def profile_of(cls, wanted: str | None) -> str:
        """The preprocessing profile that is wanted; None for the usual one.

        Raises:
            RecipeError: the family's publishers don't use it, so the model would see images that it was not made for.
        """
        if wanted is not None and wanted not in cls.profiles:
            raise RecipeError(
                f"profile {wanted!r}: {cls.family} was not made for it; choose from {', '.join(cls.profiles)}"
            )
        return wanted or cls.profiles[0]

    @abc.abstractmethod
    def load(self) -> Any:
        """The model; `load_model` does most of it."""

    @abc.abstractmethod
    def read_tokenizer(self) -> str:
        """The text of the `tokenizer.json` that a bundle gets."""

    @abc.abstractmethod
    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids by transformers' own tokenizer classes: (N, length) int64."""

    @abc.abstractmethod
    def tower(self, name: str) -> Any:
        """The "vision" or the "text" tower as formats export it: a module with `config`, `embeddings` and `encoder.layers`.

        What it returns has an attribute for each output of its signature.
        """

    @abc.abstractmethod
    def features(self, tower: str, inputs: torch.Tensor) -> torch.Tensor:
        """Embeddings, (N, D), not yet of unit length, by transformers' own code."""

    @cached_property
    @abc.abstractmethod
    def facts(self) -> EncoderFacts:
        """What the manifest says of the model."""

    @property
    @abc.abstractmethod
    def normalisation(self) -> Normalisation:
        """Grey levels to numbers."""

    @abc.abstractmethod
    def processor_config(self, profile: str) -> dict[str, Any]:
        """`preprocessor_config.json` for a profile."""

    def preprocessing(self, profile: str) -> Preprocessing:
        """What the manifest says of images."""
        return Preprocessing(profile, self.normalisation.mean, self.normalisation.std)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D)."""
        ids = self.text_ids(texts)
        return np.concatenate([self.text_embeddings(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH)])

    def image_embeddings(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D), of prepared images; each image is computed once in the life of this object."""
        return self._remembered(pixels, self.images)

    def text_embeddings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D), of token ids; each text is computed once in the life of this object."""
        return self._remembered(ids, self.texts)

    def _remembered(self, rows: NDArray[Any], run: Callable[[NDArray[Any]], Stages]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(row.tobytes()).digest() for row in rows]
        new = [index for index, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= zip((keys[index] for index in new), run(rows[new]).embedding, strict=True)
        return np.stack([self._known[key] for key in keys])

    def images(self, pixels: NDArray[np.float32]) -> Stages:
        """Inputs of (N, 3, side, side) float32."""
        return self.stages("vision", pixels)

    def texts(self, ids: NDArray[np.int64]) -> Stages:
        """Token ids of (N, length) int64."""
        return self.stages("text", ids)

    @torch.no_grad()
    def stages(self, tower: str, inputs: NDArray[Any]) -> Stages:
        """What a tower computes for a batch of its inputs."""
        found: dict[str, NDArray[np.float32]] = {}
        part = self.tower(tower)
        hooks = [part.embeddings.register_forward_hook(lambda _m, _i, out: found.update({PATCH: out.numpy()}))]
        for index, block in enumerate(part.encoder.layers):

            def keep(
                _m: object, _i: object, out: tuple[torch.Tensor] | torch.Tensor, name: str = block_name(index)
            ) -> None:
                found[name] = (out[0] if isinstance(out, tuple) else out).numpy()

            hooks.append(block.register_forward_hook(keep))
        try:
            pooled = self.features(tower, torch.from_numpy(inputs))
        finally:
            for hook in hooks:
                hook.remove()
        found[POOLED] = pooled.numpy()
        return Stages(found, F.normalize(pooled, dim=-1).numpy())


def load_model(checkpoint: Checkpoint, config_class: Any, model_class: Any, what: str) -> Any:
    """A checkpoint with a vision and a text model as transformers' class, in fp32.

    Args:
        checkpoint: config and weights.
        config_class, model_class: transformers' own.
        what: the family's name, for messages.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    try:
        config = config_class(**checkpoint.config)
        config._attn_implementation = "eager"
        with torch.device("meta"):
            model = model_class(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: not a {what} configuration ({error})") from error
    names = [name for name in checkpoint.in_file_order() if not name.endswith("position_ids")]
    state = {name: checkpoint.tensor(name).float() for name in names}
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if missing := sorted(set(expected) - set(state) - {n for n in expected if n.endswith("position_ids")}):
        raise CheckpointError(f"{checkpoint.folder}: the weights lack {missing[0]!r} and {len(missing) - 1} more")
    if unknown := sorted(set(state) - set(expected)):
        raise CheckpointError(f"{checkpoint.folder}: {unknown[0]!r} belongs to no part of the model")
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            found, wanted = tuple(tensor.shape), tuple(expected[name])
            raise CheckpointError(f"{checkpoint.folder}: {name!r} has shape {found}, the configuration says {wanted}")
    model.load_state_dict(state, strict=False, assign=True)
    for part in (model.vision_model, model.text_model):  # buffers that no checkpoint stores stay on "meta" otherwise
        embeddings = part.embeddings
        embeddings.register_buffer(
            "position_ids", torch.arange(embeddings.position_embedding.num_embeddings)[None], persistent=False
        )
    return model.eval().requires_grad_(False)
