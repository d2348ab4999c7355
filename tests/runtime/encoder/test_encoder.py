"""The facade: one input and many, all kinds of sources, scores, errors that leave the others done."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import command_line
import numpy as np
import pytest
from PIL import Image
from tolerances import BATCH_INVARIANCE, FP32_ROUNDING, FP32_SUMS

import medge
from medge.runtime.encoder.embedder import sigmoid, softmax
from medge.runtime.encoder.encoder import Encoder, TextCutWarning
from medge.runtime.errors import BundleError, ImageError, LabelError, RecipeError
from medge.runtime.pictures.images import find_images, read_image


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return medge.load(bundle)


def test_paths_pil_images_and_arrays_agree(encoder: Encoder, few_images: Path) -> None:
    path = few_images / "CT_small.dcm"
    array = read_image(path)
    content = path.read_bytes()
    embeddings = encoder.embed_images([path, str(path), Image.fromarray(array), array, content, io.BytesIO(content)])
    assert embeddings.shape == (6, encoder.manifest.encoder.embedding_size)
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings[1:], embeddings[:1].repeat(5, 0))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=FP32_ROUNDING)


@pytest.mark.parametrize("recipe", sorted(BATCH_INVARIANCE))
def test_a_batch_gives_what_single_inputs_give(
    make_bundle: Callable[[str], Path], few_images: Path, recipe: str
) -> None:
    encoder = medge.load(make_bundle(recipe), allow_failed_parity=True)
    images = list(find_images([few_images]))
    together = encoder.embed_images(images, batch_size=len(images))
    alone = np.concatenate([encoder.embed_images(image) for image in images])
    assert np.abs(together - alone).max() <= BATCH_INVARIANCE[recipe]
    texts = ["chest x-ray", "CT of the abdomen", "a photograph"]
    assert (
        np.abs(encoder.embed_texts(texts) - np.concatenate([encoder.embed_texts(t) for t in texts])).max()
        <= (BATCH_INVARIANCE[recipe])
    )


def test_classify_scores(encoder: Encoder, few_images: Path) -> None:
    result = encoder.classify(
        few_images / "CT_small.dcm", {"abdomen": ["CT of the abdomen"], "hand": "x-ray of the hand"}
    )[0]
    assert result.labels == ("abdomen", "hand")
    assert result.softmax.sum() == pytest.approx(1, abs=FP32_ROUNDING)
    logits = result.cosine * encoder.manifest.encoder.logit_scale + encoder.manifest.encoder.logit_bias
    np.testing.assert_allclose(result.sigmoid, 1 / (1 + np.exp(-logits)), rtol=FP32_SUMS)
    assert result.best == result.ranked()[0].label


def test_a_single_label_is_not_certain(encoder: Encoder, few_images: Path) -> None:
    """Softmax over one label would be 1 whatever the image shows."""
    [result] = encoder.classify(few_images / "CT_small.dcm", "pneumonia")
    assert result.labels == ("pneumonia",)
    assert result.softmax is None
    [score] = result.ranked()
    assert score.softmax is None
    assert score.sigmoid < 0.5
    [two] = encoder.classify(few_images / "CT_small.dcm", ["pneumonia", "hand x-ray"])
    assert score.cosine == pytest.approx(float(two.cosine[0]), abs=FP32_ROUNDING)


def test_baked_labels_need_no_text_tower(encoder: Encoder, few_images: Path) -> None:
    result = medge.load(encoder.bundle.folder).classify(few_images / "CT_small.dcm")[0]
    assert result.labels == encoder.manifest.labels


def test_a_bad_image_among_good_ones(encoder: Encoder, few_images: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    good = few_images / "CT_small.dcm"
    results = list(encoder.stream_images([good, bad, good], batch_size=2))
    assert isinstance(results[1][1], ImageError)
    assert "bad.png" in str(results[1][1])
    np.testing.assert_array_equal(results[0][1], results[2][1])
    with pytest.raises(ImageError, match=r"bad\.png"):
        encoder.embed_images([good, bad])


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    assert encoder.embed_images([]).shape == (0, encoder.manifest.encoder.embedding_size)
    assert encoder.embed_texts([]).shape == (0, encoder.manifest.encoder.embedding_size)


def test_a_long_text_says_what_was_cut(encoder: Encoder) -> None:
    text = "pneumonia " * 80 + "ENDING"
    with pytest.warns(TextCutWarning, match="lost 'pneumonia.* ending'"):
        long = encoder.embed_texts(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.embed_texts("pneumonia")
    assert long.shape == (1, encoder.manifest.encoder.embedding_size)


@pytest.mark.parametrize("labels", [[], {}, [" "], ["a", "a"], {"a": [""]}])
def test_label_lists_that_make_no_sense(encoder: Encoder, few_images: Path, labels: object) -> None:
    with pytest.raises(LabelError):
        encoder.classify(few_images / "CT_small.dcm", labels)  # type: ignore[arg-type]


def test_a_device_that_is_not_there(bundle: Path, few_images: Path) -> None:
    with pytest.raises(RecipeError, match="device 'tpu' is not available"):
        medge.load_encoder(bundle, device="tpu").embed_images(few_images / "CT_small.dcm")


def test_a_broken_graph_is_named(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "b"))
    next((copy / "onnx").glob("vision*")).write_bytes(b"junk")
    from medge.runtime.bundles.bundle import Bundle
    from medge.runtime.bundles.manifest import Manifest

    with pytest.raises(BundleError, match="is no ONNX file of medge"):
        _ = Encoder(Bundle(copy, Manifest.read(copy))).vision


def test_softmax_and_sigmoid_do_not_overflow() -> None:
    logits = np.array([[1e4, -1e4, 0.0]])
    assert softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert sigmoid(logits).tolist() == [[1.0, 0.0, 0.5]]


@pytest.mark.parametrize("threads", [0, -4])
def test_fewer_than_one_thread_is_refused(bundle: Path, threads: int) -> None:
    with pytest.raises(RecipeError, match=f"{threads} threads can compute nothing"):
        medge.load(bundle, threads=threads)
    done = command_line.medge("classify", bundle, "x.png", "--threads", threads, code=2)
    assert "Invalid value for '--threads'" in done.stderr
