"""Embeddings, labels and Google's /predict, with an encoder of arithmetic."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from station_fakes import FakeEncoder, catalogue, shelf

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from fastapi.testclient import TestClient

from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.view import View
from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service, embed_pixels

ENCODER = FakeEncoder()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Service(catalogue(), shelf(encoder=ENCODER))), base_url="http://localhost") as opened:
        yield opened


def png() -> bytes:
    """Its left half is red, its right half blue."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10, 0], pixels[:, 10:, 2] = 250, 250
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def expected(content: bytes, view: View | None = None) -> list[float]:
    return embed_pixels(ENCODER, read_image(content, view or View())).tolist()


URL = f"data:image/png;base64,{encoded(png())}"


def post(client: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    found = client.post(path, json=body)
    assert found.status_code == status, found.text
    return found.json()


def test_texts_and_images_in_their_order(client: TestClient) -> None:
    texts = ["a chest x-ray", "x" * 80]
    found = post(client, "/v1/embeddings", model="eyes", input=[texts[0], URL, texts[1]])
    rows = ENCODER.embed_ids(ENCODER.tokenizer.encode(texts)[0])
    assert [one["index"] for one in found["data"]] == [0, 1, 2]
    np.testing.assert_allclose(
        [one["embedding"] for one in found["data"]], [rows[0], expected(png()), rows[1]], rtol=1e-6
    )
    assert found["cut"] == [2]  # and no warning that would name the text
    assert found["usage"] == {"prompt_tokens": 128, "total_tokens": 128}


def test_base64_holds_the_same_numbers(client: TestClient) -> None:
    [plain], [packed] = (
        post(client, "/v1/embeddings", model="eyes", input=URL, encoding_format=form)["data"]
        for form in ("float", "base64")
    )
    assert np.frombuffer(base64.b64decode(packed["embedding"]), "<f4").tolist() == pytest.approx(plain["embedding"])


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"input": []}, 400, "an input is empty"),
        ({"input": ["a", " "]}, 400, "an input is empty"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": "a", "dimensions": 2}, 400, "this model makes 3 numbers"),
        ({"input": "a", "model": "reader"}, 404, "no encoder of that name"),
        ({"input": "data:image/png;base64,!!"}, 400, "no base64"),
        ({"input": ["a"] * 2049}, 400, "at most 2048 texts"),
    ],
)
def test_embeddings_that_are_refused(client: TestClient, given: dict[str, Any], status: int, words: str) -> None:
    assert words in post(client, "/v1/embeddings", status, **({"model": "eyes"} | given))["error"]["message"]


def test_classify_scores_labels_and_tells_what_cannot_be_read(client: TestClient) -> None:
    found = post(client, "/v1/classify", images=[URL, encoded(b"no image"), encoded(png())], labels=["red", "blue"])
    assert (found["model"], found["parity"], found["calibrated"]) == ("eyes", "passed", False)
    first, second, third = found["results"]
    assert first["labels"] == third["labels"]
    assert sum(label["softmax"] for label in first["labels"]) == pytest.approx(1)
    assert second["labels"] is None
    assert second["error"]["code"] == "invalid_image"
    [score] = ENCODER.score(np.array([expected(png())], np.float32), ENCODER.bank(["red", "blue"]))
    assert first["labels"][0]["cosine"] == pytest.approx(score.ranked()[0].cosine)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labels": []}, "the label list is empty"),
        ({"labels": ["a", "a"]}, "listed twice"),
        ({"labels": None}, "has no baked labels"),
        ({"labels": ["a"], "window": "liver"}, "there is no window 'liver'"),
        ({"labels": ["a"], "window": "40,nan"}, "the window 40,nan can't be used"),
        ({"labels": ["a"], "images": []}, "images"),
    ],
)
def test_classify_refuses_in_words(client: TestClient, given: dict[str, Any], words: str) -> None:
    assert words in post(client, "/v1/classify", 400, **({"images": [URL]} | given))["error"]["message"]


def test_predict_answers_as_googles_service(client: TestClient, pydicom_files: Path) -> None:
    film = (pydicom_files / "CT_small.dcm").read_bytes()
    window = {"center": 40, "width": 400}
    patch = {"x_origin": 10, "y_origin": 0, "width": 5, "height": 6}
    found = post(
        client, "/predict",
        instances=[
            {"text": "a chest x-ray"},
            {"image": {"input_bytes": encoded(png())}},
            {"image": {"input_bytes": encoded(film), "radiology_dicom_window_level": window}},
            {"image": {"input_bytes": encoded(film), "extensions": {"radiology_dicom_window_level": window}}},
            {"image": {"input_bytes": encoded(png()), "patch_coordinates_list": [patch, {"x_origin": 1, "y_origin": 2}]}},
        ],
    )["predictions"]  # fmt: skip
    text, image, seen, extended, patches = found
    common = {"model_temperature": 10.0, "model_bias": -1.0}
    assert text.keys() == {"embedding", "input_type", *common}
    assert image == {"embedding": pytest.approx(expected(png())), "input_type": "image", **common}
    assert seen["embedding"] == pytest.approx(expected(film, View(window=(40, 400))))
    assert seen["embedding"] != pytest.approx(expected(film, View(window=(400, 100))))
    assert extended == seen
    blue = embed_pixels(ENCODER, read_image(png())[0:6, 10:15]).tolist()
    assert patches["patch_embeddings"][0] == {"embedding": pytest.approx(blue), "patch_coordinate": patch}
    assert patches["patch_embeddings"][1]["patch_coordinate"] == {
        "x_origin": 1, "y_origin": 2, "width": 8, "height": 8,
    }  # fmt: skip
    assert "embedding" not in patches


@pytest.mark.parametrize(
    ("instance", "code"),
    [
        (7, "INVALID_REQUEST_FIELD_ERROR"),
        ({}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"text": "a", "image": {"input_bytes": "aaaa"}}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"text": 3}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"image": {}}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"image": {"input_bytes": "?"}}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"image": {"input_bytes": encoded(b"hello")}}, "IMAGE_ERROR"),
        ({"image": {"gcs_uri": "gs://bucket/film.dcm"}}, "INVALID_REQUEST_FIELD_ERROR"),
        ({"image": {"dicomweb_uri": "https://pacs/studies/1/series/2/instances/3"}}, "UNAPPROVED_DICOM_STORE_ERROR"),
        ({"image": {"input_bytes": encoded(png()), "extensions": {"radiology_dicom_window_level": 3}}},
         "INVALID_REQUEST_FIELD_ERROR"),
        ({"image": {"input_bytes": encoded(png()), "patch_coordinates_list": [{"x_origin": 19, "y_origin": 0}]}},
         "IMAGE_ERROR"),
        ({"image": {"input_bytes": encoded(png()), "patch_coordinates_list": [{"x_origin": 0, "y_origin": 0}] * 3001}},
         "TOO_MANY_PATCHES_ERROR"),
    ],
)  # fmt: skip
def test_a_bad_instance_is_an_error_of_its_own(client: TestClient, instance: Any, code: str) -> None:
    first, second = post(client, "/predict", instances=[instance, {"text": "fine"}])["predictions"]
    assert first.keys() == {"error"}
    assert first["error"]["code"] == code
    assert first["error"]["description"]
    if code != "TOO_MANY_PATCHES_ERROR":  # which uses up what the request may ask for
        assert len(second["embedding"]) == 3


@pytest.mark.parametrize("body", [{}, {"instances": 3}, {"instances": {"text": "a"}}])
def test_a_request_without_instances_is_refused_as_there(client: TestClient, body: dict[str, Any]) -> None:
    assert post(client, "/predict", 400, **body) == {"error": "INVALID_REQUEST_FIELD_ERROR"}
