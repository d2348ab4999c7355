"""Whether the files of a language model's bundle belong to one model, and to its manifest."""

from __future__ import annotations

import numpy as np

from ..bundles.facts import GeneratorFacts, Preprocessing, TowerFacts
from ..device.gguf_architecture import image_tokens
from ..device.gguf_header import GGUFHeader
from ..device.onnx_outline import BATCH, FLOAT, Interface
from ..errors import BundleError
from ..pictures.preprocess import Normalisation
from .image_tower import TowerCall


def check_language(language: GGUFHeader, facts: GeneratorFacts) -> None:
    """The manifest, by which memory is planned, and the file must speak of one model."""
    told = {
        "block_count": facts.layers, "embedding_length": facts.width, "attention.head_count_kv": facts.kv_heads,
        "attention.key_length": facts.head_size, "attention.sliding_window": facts.window,
        "context_length": facts.context_length,
    }  # fmt: skip
    found = {name: language.get(name) for name in told}
    told["vocabulary"], found["vocabulary"] = facts.vocabulary, language.metadata["tokenizer.ggml.tokens"]
    if wrong := next((name for name, value in told.items() if found[name] != value), None):
        raise BundleError(
            f"{language.path}: its {wrong} is {found[wrong]}, the manifest says {told[wrong]}; copy or export the bundle again"
        )


def check_pair(language: GGUFHeader, projector: GGUFHeader, facts: GeneratorFacts, images: Preprocessing) -> None:
    """A projector of another model would be taken by llama.cpp's loader up to a crash, or speak to no one."""
    made, read = projector.get("vision.projection_dim"), language.get("embedding_length")
    if made != read:
        raise BundleError(
            f"{projector.path} is a projector of another model (it makes {made} numbers a token, {language.path.name} reads "
            f"{read})"
        )
    found = (projector.get("vision.image_size"), projector.get("vision.patch_size"), image_tokens(projector))
    told = (facts.image_size, facts.patch_size, facts.image_tokens)
    grey = np.array([projector.get("vision.image_mean"), projector.get("vision.image_std")])
    if found != told or not np.allclose(grey, [images.mean, images.std], atol=1e-6):
        raise BundleError(
            f"{projector.path} takes images otherwise than the manifest says (size, patch, tokens {found} instead of {told}, or "
            "another mean); copy or export the bundle again"
        )


def tower_call(facts: GeneratorFacts, tower: TowerFacts, images: Preprocessing) -> TowerCall:
    """How a bundle's ONNX tower is called."""
    if len(tower.inputs) != 1:
        raise BundleError(
            f"{tower.file} takes {len(tower.inputs)} inputs by its manifest; copy or export the bundle again"
        )
    [given], side = tower.inputs, facts.image_size
    interface = Interface(
        {given: (FLOAT, (BATCH, 3, side, side))}, {tower.output: (BATCH, facts.image_tokens, facts.width)}, tower.opset
    )
    return TowerCall(given, tower.output, Normalisation(images.mean, images.std), interface)
