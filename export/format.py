"""What a format of encoder bundles must offer. A new format is a folder with a `FORMAT`, and its line in `jobs/formats.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ..quant.recipes.recipe import Recipe
from ..runtime.bundles.bundle import Bundle, BundleWriter
from ..runtime.bundles.facts import TowerFacts
from ..runtime.device.cpu import Target
from ..runtime.encoder.encoder import Encoder
from ..runtime.progress import Progress
from .families.full_precision import FullPrecision
from .source.checkpoint import Checkpoint
from .source.samples import Samples

Array = NDArray[Any]


class StageSource(Protocol):
    """Computes {stage: (N, ...)} of a tower for a few inputs, in full precision and as the bundle does.

    `timed`: whether the encoder's time says anything of the device's.
    """

    @property
    def timed(self) -> bool: ...

    def full(self, tower: str, inputs: Array) -> dict[str, Array]: ...

    def small(self, tower: str, inputs: Array) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Making:
    """What a format gets to make a bundle's towers of.

    Attributes:
        full: the checkpoint's towers in full precision.
        writer: of the half-made bundle.
        target: the CPU whose kernels decide the 8-bit format.
        inputs: {tower: calibration inputs}, one a batch.
        images: to choose on; none of them is judged on.
        given: the user's own images to judge on, whose kinds those to choose on must cover; None where one set was halved.
        profile: the preprocessing of images.
        merge: similar image tokens to merge in each block; None for what the recipe says.
        maps: whether the vision tower shall also say what each patch gives to an embedding.
        metadata: what a file says of itself: source, profile, labels, logit scale and bias.
        options: the format's own; its type is the format's affair.
        progress: called as work advances.
    """

    full: FullPrecision
    writer: BundleWriter
    target: Target
    inputs: Mapping[str, list[NDArray[Any]]]
    images: Samples
    given: Samples | None
    profile: str
    merge: int | None
    maps: bool
    metadata: Mapping[str, str]
    options: Any
    progress: Progress


@dataclass(frozen=True)
class Projecting:
    """What a language model's vision tower with its projector is made of.

    Attributes:
        checkpoint: a multimodal Gemma 3.
        writer: of the half-made bundle.
        target: the CPU whose kernels decide the 8-bit format of an ONNX tower.
        images: to calibrate and to choose on; none of them is judged on.
        given: as in `Making`.
        merge: patches that each block merges; None for what the recipe says.
        label: the beginning of a GGUF's name.
        progress: called as work advances.
    """

    checkpoint: Checkpoint
    writer: BundleWriter
    target: Target
    images: Samples
    given: Samples | None
    merge: int | None
    label: str
    progress: Progress


@dataclass(frozen=True)
class Format:
    """One format of encoder bundles.

    Attributes:
        name: as `--format` and the manifest say it.
        table: its recipes.
        make: writes the towers into the bundle.
        open: an encoder that runs them here.
        engine: what runs such an encoder here, for the report.
        stages: what computes its towers block by block; arguments are the encoder and the full-precision towers.
        complete: writes what belongs beside the towers, once they run.
        folder: of the parity report inside the bundle; "" for the bundle's own folder.
    """

    name: str
    table: Mapping[str, Recipe]
    make: Callable[[Making, Mapping[str, Any]], dict[str, TowerFacts]]
    open: Callable[[Bundle], Encoder]
    engine: Callable[[Any], dict[str, str]]
    stages: Callable[[Any, FullPrecision], StageSource]
    complete: Callable[[BundleWriter, Any], None]
    folder: str = ""

    def recipes_of(self, names: Mapping[str, str]) -> dict[str, Recipe]:
        """{tower: name of a recipe}, as a manifest holds them, to {tower: recipe}."""
        return {tower: self.table[name] for tower, name in names.items()}
