"""What is evaluated: a folder that is looked at first, and opened when its turn comes."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...bundles.bundle import Bundle
from ...bundles.manifest import MANIFEST, KindName, Manifest, sha256_file
from ...console.image_run import Through, through
from ...encoder.embedder import Embedder
from ...encoder.encoder import load
from ...errors import ParityWarning


@dataclass(frozen=True)
class Model:
    """What files of results tell of a model.

    Attributes:
        name: of its folder, or of what was made of it.
        identity: a hash of all that its answers depend on.
        parity: its verdict, or that there is none because it is the original.
        recipes: {tower: recipe}.
        bytes: of its weights.
    """

    name: str
    identity: str
    parity: str
    recipes: Mapping[str, str]
    bytes: int


def model_of(bundle: Bundle) -> Model:
    """What is told of a bundle."""
    manifest = bundle.manifest
    return Model(
        manifest.name, sha256_file(bundle.folder / MANIFEST), manifest.status,
        {tower: facts.recipe for tower, facts in manifest.towers.items()},
        sum(map(bundle.tower_bytes, manifest.towers.values())),
    )  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """An image-text encoder that is evaluated.

    Attributes:
        model: what is told of it.
        encoder: embeds pictures and texts.
        through: takes pictures through it, here or elsewhere: their embeddings, (D,) float32 of unit length.
    """

    model: Model
    encoder: Embedder
    through: Through[NDArray[np.float32]]


@dataclass(frozen=True)
class Candidate(abc.ABC):
    """A folder that can be evaluated, not opened yet; pickled, it is opened in another process.

    Attributes:
        folder: where it lies.
        threads: of its engine; its own choice where None.
        device: "auto", "cpu" or "cuda".
    """

    folder: Path
    threads: int | None
    device: str

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """By which its results are known."""

    @property
    @abc.abstractmethod
    def kind(self) -> KindName:
        """What it holds."""

    @property
    @abc.abstractmethod
    def gpus(self) -> int:
        """How many a process needs that opens it."""

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse what `open` would refuse, as far as that can be told soon."""

    @abc.abstractmethod
    def open(self) -> Subject:
        """The encoder that lies in the folder."""


@dataclass(frozen=True)
class BundleFolder(Candidate):
    """A bundle, of an encoder or of a language model.

    Attributes:
        allow_failed_parity: whether one may be used whose gate failed.

    Raises:
        BundleError: it can't be read, or (`ParityGateError`) its gate failed.
    """

    allow_failed_parity: bool

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def kind(self) -> KindName:
        return self.manifest.kind

    @property
    def gpus(self) -> int:
        return int(self.device == "cuda")

    def check(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParityWarning)  # told when it is loaded
            Bundle.open(self.folder, verify=False, allow_failed_parity=self.allow_failed_parity)

    def open(self) -> Subject:
        encoder = load(
            self.folder, allow_failed_parity=self.allow_failed_parity, threads=self.threads, device=self.device
        )
        return Subject(model_of(encoder.bundle), encoder, through(encoder))


# By which pictures are taken through a model that is opened, for the run whose folder this is, other than in this process.
Engine = Callable[[Candidate, Model, Path], Through[NDArray[np.float32]]]
