"""What `medge export medgemma` is asked for; apart, so that its help needs neither torch nor gguf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GeneratorJob:
    """What `medge export medgemma` is asked for.

    Attributes:
        checkpoint, out: folders.
        recipe: "q4_k_m", or "language=q4_k_m,projector=f16".
        merge: similar patches that each block of the vision tower merges; by recipe where None.
        target: the CPU whose kernels decide an ONNX tower's 8-bit format.
        calibration: text files, JSON lines, images or folders of them; built-in ones where empty.
        importance: a matrix made before, in the place of calibration.
        without_importance: quantize without any, as fast as can be and less exact.
        target_size: bytes of the language model's file; types are then chosen by layer.
        texts, images, tasks: what parity is measured on.
        skip_parity: write the bundle unmeasured; the runtime then refuses it.
        force: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    recipe: str = "q4_k_m"
    merge: int | None = None
    target: str = "auto"
    calibration: tuple[Path, ...] = ()
    importance: Path | None = None
    without_importance: bool = False
    target_size: int | None = None
    texts: tuple[Path, ...] = ()
    images: Path | None = None
    tasks: tuple[Path, ...] = ()
    skip_parity: bool = False
    force: bool = False
