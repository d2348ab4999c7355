"""Texts and images that a language model is calibrated on, and the importance matrix gathered from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...quant.gguf_file.importance import Importance, gather
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


def calibration_prompts(
    corpus: Corpus, encode: Callable[[Any], list[Item]] | None
) -> Callable[[Engine], list[list[Item]]]:
    """Prompts of a corpus for `gather`: texts cut to size, and each image with a question about it."""

    def prompts(engine: Engine) -> list[list[Item]]:
        made: list[list[Item]] = [list(prompt) for prompt in text_prompts(engine.tokenize, corpus.texts, 2)]
        if encode is not None:
            made += [items for image in corpus.images.images if len(items := encode(image)) <= BATCH]
        return made

    return prompts


def calibrate(
    checkpoint: Checkpoint, corpus: Corpus, *, full: Path | None = None, scratch: Path, out: Path | None = None,
    force: bool = False, progress: Progress = no_progress,
) -> Importance:  # fmt: skip
    """Gather the importance matrix of a checkpoint on a corpus, images through the full-precision tower.

    Args:
        full: the language model as full-precision GGUF, where the caller has it.
        scratch: a folder for what is needed on the way.
        out, force: as in `gather`.
    """
    if full is None:
        full = scratch / "full.gguf"
        write_language(checkpoint, full, "bf16", progress)
    projector, encode = None, None
    if "vision_config" in checkpoint.config and len(corpus.images):
        projector = scratch / "mmproj-full.gguf"
        write_projector(checkpoint, projector, "f32", progress=progress)
        encode = _prompt_encoder(checkpoint, full, projector, scratch)
    return gather(
        full,
        projector,
        calibration_prompts(corpus, encode),
        identity=repr(sorted(checkpoint.hashes.items())),
        out=out,
        force=force,
        sources=[corpus.source],
        progress=progress,
    )


def _prompt_encoder(checkpoint: Checkpoint, full: Path, projector: Path, scratch: Path) -> Callable[[Any], list[Item]]:
    """Images to prompts by way of a bundle that stands in the scratch folder only while calibrating."""
    folder = scratch / "full"
    folder.mkdir(exist_ok=True)
    writer = BundleWriter(folder)
    for role, path in (("language", full), ("projector", projector)):
        writer.add(f"{role}.gguf", role).hardlink_to(path)
    towers = {role: TowerFacts("bf16", f"{role}.gguf", "gguf", GOLDEN) for role in ("language", "projector")}
    draft = Manifest(
        kind="generator", name="full", model=generator_facts(checkpoint), target="any",
        source=Source("full", checkpoint.hashes, ""),
        preprocessing=generator_preprocessing(checkpoint), artefacts={"gguf": Artefact(towers)},
    )  # fmt: skip
    bundle = Bundle(folder, writer.finish(draft))

    def encode(image: Any) -> list[Item]:
        return generator.encode([user(image, QUESTION)])

    generator = Generator(bundle, context=BATCH)
    return encode
