"""`medge serve` as a process, with real bundles: it says where it listens, answers, and ends when it is told."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import medge
from PIL import Image
from station_process import station

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

import medge as facade


@pytest.fixture(scope="module")
def bundles(bundle: Path, tiny_reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("station") / "bundles"
    shutil.copytree(bundle, folder / "eyes")
    shutil.copytree(tiny_reader, folder / "reader")
    return folder


def test_it_answers_as_the_bundles_do_and_ends_at_sigterm(bundles: Path, few_images: Path) -> None:
    film = few_images / "CT_small.dcm"
    url = f"data:application/dicom;base64,{base64.b64encode(film.read_bytes()).decode()}"
    encoder = facade.load_encoder(bundles / "eyes", threads=1)
    with station(bundles, "--threads", "1", "--context", "512", "--allow-failed-parity") as running:
        assert [one["id"] for one in running.told["models"]] == ["eyes", "reader"]
        found = running.get("/v1/embeddings", {"model": "eyes", "input": [url, "a chest x-ray"]})
        alone = [encoder.embed_images(film)[0], encoder.embed_texts("a chest x-ray")[0]]
        np.testing.assert_allclose([one["embedding"] for one in found["data"]], alone, atol=1e-6)
        [result] = running.get("/v1/classify", {"images": [url]})["results"]
        [score] = encoder.classify(film)
        assert [one["label"] for one in result["labels"]] == [one.label for one in score.ranked()]
        content = url.partition(",")[2]
        [told] = running.get("/predict", {"instances": [{"image": {"input_bytes": content}}]})["predictions"]
        np.testing.assert_allclose(told["embedding"], alone[0], atol=1e-6)
        assert told["model_temperature"] == encoder.facts.logit_scale
        question = {
            "role": "user",
            "content": [{"type": "text", "text": "Why?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
        schema = {"type": "object", "properties": {"seen": {"enum": ["yes", "no"]}}, "required": ["seen"]}
        form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
        answer = running.get(
            "/v1/chat/completions", {"model": "reader", "messages": [question], "response_format": form}
        )
        assert json.loads(answer["choices"][0]["message"]["content"])["seen"] in ("yes", "no")
        assert running.get("/readyz")["loaded"] == ["eyes", "reader"]
        code, said = running.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert "POST /v1/chat/completions 200" in said
    assert said.splitlines()[-1] == "medge: stopped"
    assert "Traceback" not in said


def test_it_holds_studies_judges_and_reports_on_them(bundles: Path, few_images: Path, tmp_path: Path) -> None:
    film = few_images / "CT_small.dcm"
    words = ("--store", str(tmp_path / "store"), "--threads", "1", "--context", "512", "--allow-failed-parity")
    with station(bundles, *words) as running:
        [got] = running.upload(("film.dcm", film.read_bytes()))["received"]
        assert got["new"]
        path = f"/v1/studies/{got['study']}"
        found = running.wait(path, lambda one: one["state"] == "done")
        [result] = found["results"]
        [score] = facade.load_encoder(bundles / "eyes", threads=1).classify(film)
        [judged] = result["content"]["instances"]
        assert [one["label"] for one in judged["labels"]] == [one.label for one in score.ranked()]
        np.testing.assert_allclose(
            [one["cosine"] for one in judged["labels"]], [one.cosine for one in score.ranked()], atol=1e-6
        )
        shown = running.bytes(f"/v1/instances/{got['instance']}/map")
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(shown))),
            facade.load_encoder(bundles / "eyes", threads=1).map(film).overlay(),
        )
        running.get(f"{path}/jobs", {"kind": "report", "clinical": "Cough."})
        report = running.wait(f"{path}/report", lambda one: one["state"] == "draft")
        assert report["text"].startswith("Findings\n")
        assert report["model"] == "reader"
        assert "is running already" in medge("serve", "--bundles", bundles, *words, code=1).stderr
        code, said = running.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert got["study"] not in said  # a log names no study
    with station(bundles, *words) as running:
        assert running.get(path)["report"] == "draft"
        assert running.get("/v1/search", {"text": "a CT"})["found"][0]["study"] == got["study"]


def test_a_bundle_that_failed_parity_is_left_out_and_ctrl_c_ends_it(bundles: Path) -> None:
    with station(bundles) as running:
        assert [one["id"] for one in running.told["models"]] == ["eyes"]
        assert list(running.told["refused"]) == ["reader"]
        code, said = running.end(signal.SIGINT)
    assert code == 130
    assert "left out: reader: parity" in said


def test_what_cannot_be_served_is_refused_in_words(bundles: Path, tmp_path: Path) -> None:
    for words, sentence in (
        (("--host", "0.0.0.0"), "the station answers only this machine"),
        (("--host", "clinic"), "is no IP address"),
        (("--encoder", "ears"), "no encoder of that name; it has: eyes"),
        (("--keep-days", "9"), "give its folder with --store"),
    ):
        assert sentence in medge("serve", "--bundles", bundles, *words, code=1).stderr
    assert "holds no bundle that can be served" in medge("serve", "--bundles", tmp_path, code=1).stderr


def test_the_station_needs_neither_torch_nor_what_makes_bundles() -> None:
    code = (
        "import json, sys, medge.runtime.station.server, medge.runtime.station.api.app, medge.runtime.station.models.opening\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "uvicorn" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "onnx", "coremltools", "matplotlib", "sklearn", "gguf"})
