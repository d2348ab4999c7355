"""Folders that `medge evaluate` is given, looked at before torch is imported: bundles and checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.manifest import MANIFEST, KindName, sha256_file, sha256_json
from ...runtime.commands.evaluation.subject import (
    BundleFolder,
    Candidate,
    LanguageModel,
    Model,
    Subject,
    single_tokens,
)
from ...runtime.console.generator_options import stopping_in_a_line
from ...runtime.console.image_run import through
from ...runtime.errors import RecipeError, TaskError, naming_extra
from ...runtime.evaluation.pages.words import ORIGINAL
from ...runtime.generator.conversation import Answer, Sampling, Turn
from ...runtime.generator.planner import Opening
from ..families.gemma3 import MODEL_TYPES, text_config
from ..source.checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..families.encoder import EncoderReference
    from ..families.generator_chat import GeneratorChat

RECIPE = "fp32 in PyTorch"
LONGEST = 8192  # positions of a language model's context where nobody says: as bundles have, where memory allows
# Beside config and weights, what a language model's answers depend on.
OF_PROMPTS = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
    "processor_config.json", "preprocessor_config.json", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class CheckpointFolder(Candidate):
    """An encoder's checkpoint, in full precision.

    Attributes:
        checkpoint: opened, an image-text encoder's.
        wanted: the preprocessing profile; where None, `like`, or the usual one of a family that does not know `like`.
        like: the profile of the bundle that it is compared with, or None.

    Raises:
        CheckpointError: it is of no known family.
        RecipeError: its family was not made for the profile that is wanted.
        MissingExtraError: `medge[export]` is not installed.
    """

    checkpoint: Checkpoint
    wanted: str | None
    like: str | None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def kind(self) -> KindName:
        return "encoder"

    @property
    def gpus(self) -> int:
        from .checkpoint_encoder import pick_device

        return int(pick_device(self.device) == "cuda")

    def check(self) -> None:
        self._profile_of(self._family())

    def open(self) -> Subject:
        family = self._family()
        from .checkpoint_encoder import CheckpointEncoder

        profile = self._profile_of(family)
        encoder = CheckpointEncoder(family(self.checkpoint), profile, threads=self.threads, device=self.device)
        return Subject(self._model(encoder.reference.device_tokenizer, profile), encoder, through(encoder))

    def _family(self) -> type[EncoderReference]:
        with naming_extra("export"):
            from ..families.table import family_of

        return family_of(self.checkpoint)

    def _profile_of(self, family: type[EncoderReference]) -> str:
        return family.profile_of(self.wanted or (self.like if self.like in family.profiles else None))

    def _model(self, tokenizer: str, profile: str) -> Model:
        hashes = self.checkpoint.hashes
        identity = sha256_json([hashes, hashlib.sha256(tokenizer.encode()).hexdigest(), profile])
        parts = {"vision": RECIPE, "text": RECIPE}
        return Model(self.name, identity, ORIGINAL, parts, self.checkpoint.weights_bytes)


@dataclass(frozen=True)
class LanguageCheckpointFolder(Candidate):
    """A language model's checkpoint, in full precision.

    Attributes:
        checkpoint: opened, a MedGemma.

    Raises:
        CheckpointError: it can't be read.
        MissingExtraError: `medge[export]` is not installed.
        RecipeError: the device isn't there.
    """

    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def kind(self) -> KindName:
        return "generator"

    @property
    def gpus(self) -> int:
        return 0  # language models are not run by Ray

    def check(self) -> None:
        with naming_extra("export"):
            from .checkpoint_encoder import pick_device

        pick_device(self.device)

    def unfit(self, method: str) -> str:
        if method != "record":
            return ""
        return (
            f"{self.folder}: answers over records are forced into JSON by llama.cpp, which runs no checkpoint: export it with "
            "'medge export medgemma --recipe f16' (or bf16) first, and evaluate that bundle"
        )

    @contextmanager
    def language(self, opening: Opening) -> Iterator[LanguageModel]:
        with naming_extra("export"):
            from ..families.generator_chat import GeneratorChat
            from ..families.generator_reference import GeneratorReference
            from .checkpoint_encoder import full_precision_on

        device = full_precision_on(self.device, self.threads)
        longest = text_config(self.checkpoint)["max_position_embeddings"]
        chat = GeneratorChat(GeneratorReference(self.folder), min(opening.context or LONGEST, longest), device)
        with stopping_in_a_line():
            yield _CheckpointModel(chat, self._told())

    def _told(self) -> Model:
        files = {name: sha256_file(path) for name in OF_PROMPTS if (path := self.folder / name).is_file()}
        parts = ("language", "projector") if "vision_config" in self.checkpoint.config else ("language",)
        identity = sha256_json([self.checkpoint.hashes, files])
        return Model(self.name, identity, ORIGINAL, dict.fromkeys(parts, RECIPE), self.checkpoint.weights_bytes)


@dataclass(frozen=True)
class _CheckpointModel:
    """A checkpoint's model, as questions need one."""

    speaker: GeneratorChat
    told: Model

    @property
    def records(self) -> NoReturn:
        raise TaskError(f"{self.told.name} is a checkpoint, whose answers can't be forced into JSON")

    def chat(self, turns: Sequence[Turn], sampling: Sampling) -> Answer:
        return self.speaker.chat(turns, sampling)

    def tokens_of(self, letters: Sequence[str]) -> list[int]:
        return single_tokens(self.speaker.letters(letters), self.told.name)

    def next_logits(self, turns: Sequence[Turn]) -> NDArray[np.float32]:
        return self.speaker.next_logits(turns)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is laid out as Hugging Face does it; a bundle has a `config.json` as well."""
    return (folder / "config.json").is_file() and not (folder / MANIFEST).exists()


def candidates(
    folders: Sequence[Path], *, threads: int | None, device: str, allow_failed_parity: bool, profile: str | None
) -> list[Candidate]:
    """What lies in these folders; a checkpoint is given images as the bundle beside it is.

    Args:
        folders: of bundles and checkpoints.
        threads: of their engines; their own choice where None.
        device: "auto", "cpu" or "cuda".
        allow_failed_parity: whether a bundle may be used whose gate failed.
        profile: the preprocessing of checkpoints; where None, the bundle's, or the usual one.

    Raises:
        BundleError: a bundle's manifest can't be read.
        CheckpointError: a checkpoint is damaged.
        RecipeError: there is a profile, and a checkpoint is a language model's.
    """
    checkpoints = {one: Checkpoint.open(one) for one in folders if is_checkpoint(one)}
    speakers = {
        folder: LanguageCheckpointFolder(folder, threads, device, checkpoint)
        for folder, checkpoint in checkpoints.items() if checkpoint.config.get("model_type") in MODEL_TYPES
    }  # fmt: skip
    if speakers and profile is not None:
        raise RecipeError(
            f"{next(iter(speakers))} is a language model, which has one preprocessing: leave --profile out"
        )
    bundles = {
        one: BundleFolder(one, threads, device, allow_failed_parity) for one in folders if one not in checkpoints
    }
    stamped = [bundle.manifest.preprocessing for bundle in bundles.values()]
    like = next((facts.profile for facts in stamped if facts is not None), None)
    return [
        bundles.get(one) or speakers.get(one) or CheckpointFolder(one, threads, device, checkpoints[one], profile, like)
        for one in folders
    ]
