"""Embeddings of what is decoded already, by an encoder that the shelf has lent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...encoder.encoder import Encoder
from ...pictures.preprocess import Pixels


def embed_texts(encoder: Encoder, texts: list[str]) -> tuple[NDArray[np.float32], list[int]]:
    """Embeddings of texts, (N, D) float32 of unit length, and the places of those that were cut: `Encoder.embed_texts` would
    warn with their words, which belong into no log."""
    ids, cuts = encoder.tokenizer.encode(texts)
    rows = np.concatenate([encoder.embed_ids(ids[start : start + 32]) for start in range(0, len(ids), 32)])
    cut = {found.text for found in cuts}
    return rows, [place for place, text in enumerate(texts) if text in cut]


def embed_pixels(encoder: Encoder, image: Pixels) -> NDArray[np.float32]:
    """The embedding of a decoded image, (D,) float32 of unit length."""
    return encoder.embed_pixels(encoder.normalise(encoder.resize(image))[None])[0]
