"""Four threads on one encoder, index or probe: each gets what it would get alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medge
from medge.runtime.encoder.linear_probe import fit_probe
from medge.runtime.encoder.vector_index import VectorIndex, build_index
from medge.runtime.errors import IndexFileError

LABELS = ("chest x-ray", "abdomen CT")


def by_four(use: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(use, inputs))


def test_an_encoder(bundle: Path, few_images: Path) -> None:
    images = sorted(few_images.glob("*.dcm"))[:4]
    alone, encoder = medge.load_encoder(bundle), medge.load_encoder(bundle)

    def classified(one: medge.Encoder) -> Callable[[Path], Any]:
        return lambda image: one.classify(image, LABELS)[0].ranked()

    expected = [classified(alone)(image) for image in images] * 2
    assert by_four(classified(encoder), images * 2) == expected  # opened by all four at once, too
    texts = ["a chest x-ray", "an abdomen CT", "a head MRI"] * 4
    one_by_one = [alone.embed_texts(text) for text in texts]
    assert np.array_equal(by_four(encoder.embed_texts, texts), one_by_one)


def test_an_index(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    images, encoder, path = sorted(few_images.glob("*.dcm"))[:4], medge.load_encoder(bundle), tmp_path / "a.index"
    build_index(path, encoder, images[:3])
    queries = list(encoder.embed_images(images)) * 4
    with VectorIndex.open(path, encoder.fingerprint) as index:
        found = by_four(lambda query: index.search(query, 2), queries)
        assert found == [index.search(query, 2) for query in queries]
        with ThreadPoolExecutor(4) as threads:  # one adds while the others search
            added = threads.submit(index.add, encoder, images)
            hits = list(threads.map(lambda query: index.search(query, 2), queries))
        assert added.result().added == 1
        assert len(index) == 4
        assert all(len(one) == 2 for one in hits)
    assert repr(index) == "<VectorIndex a.index: closed>"
    with pytest.raises(IndexFileError, match="was closed; open it again"):
        by_four(lambda query: index.search(query, 2), queries)


def test_a_probe() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((40, 16)).astype(np.float32)
    embeddings[::2, 0] += 3
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    probe = fit_probe(embeddings, ["a", "b"] * 20, "f" * 64)
    rows = [embeddings[start : start + 4] for start in range(0, 40, 4)]
    assert np.array_equal(by_four(probe.predict, rows), [probe.predict(row) for row in rows])
