"""A checkpoint's language model in full precision, made once for every bundle that is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ...quant.gguf_file.importance import Importance
from ...quant.gguf_file.moments import Moments
from ...quant.gguf_file.sensitivity import Sensitivity
from ...runtime.progress import Progress, no_progress
from ..families.cut_vocabulary import tokens_of
from ..families.generator_reference import GeneratorReference
from ..parity.divergence import CachedLogits
from ..source.checkpoint import Checkpoint
from ..source.corpus import Corpus, read_corpus
from ..to_gguf.write import write_language
from .calibrate import calibrate, calibration_run


class FullLanguage:
    """What quantization and measurement need of a checkpoint, each made when it is first asked for.

    Args:
        checkpoint: the model.
        scratch: a folder for derived files; the caller removes it.
        calibration: files that the model is calibrated on; medge's own texts and pydicom's images where there are none.
        matrix: an importance matrix made before; none is gathered then.
        logits: the reference's logits, where the caller has them.
        shared: several bundles are measured, so that logits are kept in `scratch`: a megabyte for each token of the texts.
        progress: called as work advances.
    """

    def __init__(
        self, checkpoint: Checkpoint, scratch: Path, *, calibration: Sequence[Path] = (), matrix: Path | None = None,
        logits: CachedLogits | None = None, shared: bool = False, progress: Progress = no_progress,
    ) -> None:  # fmt: skip
        self.checkpoint, self.scratch, self.progress = checkpoint, scratch, progress
        self._calibration, self._matrix, self._logits, self._shared = calibration, matrix, logits, shared

    @cached_property
    def corpus(self) -> Corpus:
        """Texts and images to calibrate on."""
        return read_corpus(self._calibration)

    @cached_property
    def file(self) -> Path:
        """The language model as bf16 GGUF."""
        path = self.scratch / "full.gguf"
        write_language(self.checkpoint, path, "bf16", self.progress)
        return path

    @cached_property
    def importance(self) -> Importance:
        """The importance matrix: read, or gathered on the corpus."""
        if self._matrix is not None:
            return Importance.load(self._matrix)
        return calibrate(
            self.checkpoint, self.corpus, moments=self.moments, scratch=self.scratch, progress=self.progress
        )

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """What each type would cost each tensor, for recipes that choose types by layer."""
        return Sensitivity(
            self.file, self.importance, self.corpus.texts, self.scratch, moments=self.moments if self.compensates else None,
            progress=self.progress,
        )  # fmt: skip

    @property
    def compensates(self) -> bool:
        """Whether rounding is compensated: a matrix that comes without its data says nothing of how inputs go together, and
        medge's own texts are not the user's."""
        return self._matrix is None or bool(self._calibration)

    @cached_property
    def moments(self) -> Moments:
        """What the model's matrices are given on the corpus; kept for the recipes that follow."""
        run = calibration_run(
            self.checkpoint, self.corpus, full=self.file, scratch=self.scratch, progress=self.progress
        )
        folder = self.scratch / "moments"
        folder.mkdir()
        return Moments(run, folder)

    @cached_property
    def logits(self) -> CachedLogits:
        """The PyTorch model, and its logits."""
        if self._logits is not None:
            return self._logits
        folder = self.scratch / "logits" if self._shared else None
        if folder is not None:
            folder.mkdir(exist_ok=True)
        return CachedLogits(GeneratorReference(self.checkpoint.folder, tokens_of(self.checkpoint)), folder)

    def forget_reference(self) -> None:
        """Free the PyTorch model of `logits`, which is opened again when it is needed; logits on the disk stay."""
        self.__dict__.pop("logits", None)
