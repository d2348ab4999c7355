"""The tiny model's full-precision files, and what it is calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from medge.runtime.generator.engine import Engine
    from medge.runtime.generator.prompt import Item


@pytest.fixture(scope="session")
def full(tiny_gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny model's full-precision files: (language model, projector)."""
    from medge.export.families.gemma3 import open_gemma
    from medge.export.to_gguf.write import write_language, write_projector

    place = tmp_path_factory.mktemp("full")
    checkpoint = open_gemma(tiny_gemma)
    write_language(checkpoint, place / "full.gguf", "f32")
    write_projector(checkpoint, place / "mm.gguf", "f32")
    return place / "full.gguf", place / "mm.gguf"


@pytest.fixture(scope="session")
def prompts() -> Callable[[Engine], list[list[Item]]]:
    """Prompts of some texts and one image, given the engine to tokenize with."""
    from medge.export.source.corpus import text_prompts
    from medge.quant.texts.prompts import medical_texts
    from medge.runtime.generator.prompt import Picture

    def make(engine: Engine) -> list[list[Item]]:
        picture = Picture.of(np.random.default_rng(0).integers(0, 256, (56, 56, 3)).astype(np.uint8), 4)
        texts = [list(prompt) for prompt in text_prompts(engine.tokenize, medical_texts()[:9], 2)]
        return [*texts, [2, 5, 6, picture, 7, 8]]

    return make
