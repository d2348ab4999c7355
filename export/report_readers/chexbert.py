"""CheXbert as it is published, from a folder: looked at before torch is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.bundles.manifest import sha256_file, sha256_json
from ...runtime.errors import naming_extra
from ...runtime.evaluation.readings.chexbert import columns_of
from ...runtime.evaluation.readings.reading import Numbers
from .folder import check_files

if TYPE_CHECKING:
    from .chexbert_model import CheXbertModel

WEIGHTS = "chexbert.pth"
CONFIG, VOCABULARY = "bert-base-uncased/config.json", "bert-base-uncased/vocab.txt"


@dataclass(frozen=True)
class CheXbertFolder:
    """A folder with `chexbert.pth`, as its authors hand it out, and `bert-base-uncased` with that model's config and vocabulary.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def name(self) -> str:
        return "chexbert"

    @cached_property
    def identity(self) -> str:
        return sha256_json([sha256_file(self.folder / name) for name in (WEIGHTS, CONFIG, VOCABULARY)])

    def check(self) -> None:
        """Refuse a folder that can't be used.

        Raises:
            CheckpointError: a file is missing, damaged, or another model's.
            MissingExtraError: `medge[export]` is not installed.
        """
        check_files(
            self.folder,
            (WEIGHTS, CONFIG, VOCABULARY),
            f"{WEIGHTS} and bert-base-uncased",
            f"CheXbert needs {WEIGHTS} and the files config.json and vocab.txt of bert-base-uncased, and medge downloads none "
            "of them",
        )
        self._load()

    def open(self) -> Callable[[str, str], Numbers]:
        model = self._load()
        return lambda said, right: columns_of(model.labels(right), model.labels(said))

    def _load(self) -> CheXbertModel:
        with naming_extra("export"):
            from .chexbert_model import CheXbertModel
        return CheXbertModel(self.folder / WEIGHTS, self.folder / CONFIG, self.folder / VOCABULARY)
