"""Run the CoreML packages of a bundle behind the encoder's `Session`: by our evaluator, or by CoreML itself on a Mac."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.bundle import Bundle
from ...runtime.device.onnx_session import Session, Tensors
from ...runtime.encoder.encoder import Encoder
from .mil.evaluator import Program
from .quietly import coremltools
from .write import as_input, model_inputs


class EvaluatorSession:
    """A package computed by `mil.evaluator`, one input at a time; takes what the ONNX towers take."""

    def __init__(self, path: Path) -> None:
        self.program = Program(path)

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[NDArray[Any]]:
        runs = [self.program.run(outputs, item) for item in model_inputs(self.program, list(inputs.values()))]
        return [np.concatenate(values) for values in zip(*runs, strict=True)]


class CoreMLSession:
    """A package run by CoreML. On macOS only; written without one at hand, see README, "Limits"."""

    def __init__(self, path: Path) -> None:
        model = coremltools().models.MLModel(str(path))
        self._model = model
        description = model.get_spec().description.input[0]
        self._name = description.name
        self._is_image = description.type.WhichOneof("Type") == "imageType"

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[NDArray[Any]]:
        from PIL import Image

        (batch,) = inputs.values()
        found: list[Mapping[str, Any]] = []
        for index in range(len(batch)):
            one = as_input(batch[index : index + 1], image=self._is_image)
            value: Any = Image.fromarray(one[0].transpose(1, 2, 0).astype(np.uint8)) if self._is_image else one
            found.append(self._model.predict({self._name: value}))
        return [np.concatenate([np.asarray(row[name]) for row in found]) for name in outputs]


class PackageEncoder(Encoder):
    """An encoder whose towers are a bundle's CoreML packages.

    Args:
        bundle: any bundle with packages.
        native: run by CoreML; where None, on a Mac.
    """

    format = "coreml"
    absent = "holds no CoreML packages; export it with --format coreml"

    def __init__(self, bundle: Bundle, *, native: bool | None = None) -> None:
        super().__init__(bundle, device="cpu")
        self.native = sys.platform == "darwin" if native is None else native

    def program(self, tower: str) -> Program:
        """A tower's package for our evaluator; the one that runs already where it is what runs."""
        session = self.vision if tower == "vision" else self.text
        return session.program if isinstance(session, EvaluatorSession) else Program(self._path(tower))

    def _open(self, tower: str) -> Session:
        return CoreMLSession(self._path(tower)) if self.native else EvaluatorSession(self._path(tower))

    def _path(self, tower: str) -> Path:
        return self.bundle.folder / self.towers[tower].file
