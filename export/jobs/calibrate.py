"""Texts and images that a language model is calibrated on, and the importance matrix gathered from them."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from ...quant.gguf_file.importance import Importance, gather
from ...quant.gguf_file.inputs import CalibrationRun
from ...quant.gguf_file.moments import Moments
from ...quant.recipes.gguf import GOLDEN
from ...runtime.bundles.bundle import Bundle, BundleWriter
from ...runtime.bundles.facts import Artefact, Source, TowerFacts
from ...runtime.bundles.manifest import Manifest
from ...runtime.generator.conversation import user
from ...runtime.generator.engine import BATCH, Engine
from ...runtime.generator.generator import Generator
from ...runtime.generator.prompt import Item
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import generator_facts, generator_preprocessing
from ..parity.generator import QUESTION
from ..source.checkpoint import Checkpoint
from ..source.corpus import Corpus, text_prompts
from ..to_gguf.write import write_language, write_projector


def calibration_run(
    checkpoint: Checkpoint, corpus: Corpus, *, full: Path, scratch: Path, progress: Progress = no_progress
) -> CalibrationRun:  # fmt: skip
    """Prepare to run a checkpoint on a corpus, images through the full-precision tower.

    Args:
        full: the language model as full-precision GGUF.
        scratch: a folder for what is needed on the way.
        progress: called as work advances.
    """
    projector, seen = None, list[list[Item]]()
    if "vision_config" in checkpoint.config and len(corpus.images):
        projector = scratch / "mmproj-full.gguf"
        write_projector(checkpoint, projector, "f32", progress=progress)
        seen = _image_prompts(checkpoint, corpus, full, projector, scratch)

    def prompts(engine: Engine) -> list[list[Item]]:
        texts: list[list[Item]] = [list(prompt) for prompt in text_prompts(engine.tokenize, corpus.texts, 2)]
        return [*texts, *seen]

    return CalibrationRun(full, projector, prompts)


def calibrate(
    checkpoint: Checkpoint, corpus: Corpus, *, moments: Moments | None = None, scratch: Path, out: Path | None = None,
    force: bool = False, progress: Progress = no_progress,
) -> Importance:  # fmt: skip
    """Gather the importance matrix of a checkpoint on a corpus.

    Args:
        moments: of the checkpoint prepared to run on the corpus, where the caller has it; gathered by the way, as in `gather`.
        scratch: a folder for what is needed on the way.
        out, force: as in `gather`.
    """
    if moments is not None:
        run = moments.run
    else:
        full = scratch / "full.gguf"
        write_language(checkpoint, full, "bf16", progress)
        run = calibration_run(checkpoint, corpus, full=full, scratch=scratch, progress=progress)
    return gather(
        run,
        identity=repr(sorted(checkpoint.hashes.items())),
        out=out,
        force=force,
        sources=[corpus.source],
        moments=moments,
        progress=progress,
    )


def _image_prompts(
    checkpoint: Checkpoint, corpus: Corpus, full: Path, projector: Path, scratch: Path
) -> list[list[Item]]:  # fmt: skip
    """Each image with a question about it, by way of a bundle that stands in the scratch folder only meanwhile."""
    towers = {role: TowerFacts("bf16", f"{role}.gguf", "gguf", GOLDEN) for role in ("language", "projector")}
    draft = Manifest(
        kind="generator", name="full", model=generator_facts(checkpoint), target="any",
        source=Source("full", checkpoint.hashes, ""),
        preprocessing=generator_preprocessing(checkpoint), artefacts={"gguf": Artefact(towers)},
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        writer = BundleWriter(Path(name))
        for role, path in (("language", full), ("projector", projector)):
            writer.add(f"{role}.gguf", role).hardlink_to(path)
        bundle = Bundle(writer.folder, writer.finish(draft))
        with contextlib.closing(Generator(bundle, context=BATCH)) as generator:
            encoded = [generator.encode([user(image, QUESTION)]) for image in corpus.images.images]
    return [items for items in encoded if len(items) <= BATCH]
