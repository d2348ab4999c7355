"""Folders that `medge evaluate` is given, looked at before torch is imported: bundles, and encoders' checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.bundles.manifest import MANIFEST, KindName, sha256_json
from ...runtime.commands.evaluation.subject import BundleFolder, Candidate, Model, Subject
from ...runtime.console.image_run import through
from ...runtime.errors import MissingExtraError
from ...runtime.evaluation.pages.words import ORIGINAL
from ..families.gemma3 import refuse_language_model
from ..source.checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..families.encoder import EncoderReference

RECIPE = "fp32 in PyTorch"
INSTEAD = "export it with 'medge export medgemma --recipe f16' (or bf16) first, and evaluate that bundle"


@dataclass(frozen=True)
class CheckpointFolder(Candidate):
    """An encoder's checkpoint, in full precision.

    Attributes:
        checkpoint: opened, and no language model's.
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
        try:
            from ..families.table import family_of
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("medge"):
                raise
            raise MissingExtraError(error.name.split(".")[0], "export") from error
        return family_of(self.checkpoint)

    def _profile_of(self, family: type[EncoderReference]) -> str:
        return family.profile_of(self.wanted or (self.like if self.like in family.profiles else None))

    def _model(self, tokenizer: str, profile: str) -> Model:
        hashes = self.checkpoint.hashes
        identity = sha256_json([hashes, hashlib.sha256(tokenizer.encode()).hexdigest(), profile])
        weights = sum(path.stat().st_size for path in set(self.checkpoint.shards.values()))
        return Model(self.name, identity, ORIGINAL, {"vision": RECIPE, "text": RECIPE}, weights)


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
        CheckpointError: a checkpoint is damaged, or a language model's.
    """
    checkpoints = {one: Checkpoint.open(one) for one in folders if is_checkpoint(one)}
    for checkpoint in checkpoints.values():
        refuse_language_model(checkpoint, INSTEAD)
    bundles = {
        one: BundleFolder(one, threads, device, allow_failed_parity) for one in folders if one not in checkpoints
    }
    stamped = [bundle.manifest.preprocessing for bundle in bundles.values()]
    like = next((facts.profile for facts in stamped if facts is not None), None)
    return [
        bundles[one] if one in bundles else CheckpointFolder(one, threads, device, checkpoints[one], profile, like)
        for one in folders
    ]
