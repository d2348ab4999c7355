"""Scores on the page are the Python runtime's, with and without a network, and its decisions are, too."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from encoder_page import agrees, give, open_page, ready, scores, with_and_without_network
from PIL import Image
from tolerances import WEB_SCORES

import medge
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.gates import tell
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.decisions.calibration import ScoreCalibration
from medge.runtime.decisions.density import Density
from medge.runtime.decisions.facts import Kind, OperatingPoint, ScoreFacts, Wanted
from medge.runtime.encoder.score_calibration import put_scores
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.images import read_image


def test_scores_equal_the_runtime_and_survive_the_network(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], few_images: Path, tmp_path: Path
) -> None:
    Image.fromarray(phantom()).save(tmp_path / "phantom.png")
    files = [few_images / "CT_small.dcm", few_images / "693_J2KI.dcm", tmp_path / "phantom.png"]
    for recipe, bound in WEB_SCORES.items():
        bundle = web_bundles(recipe)
        encoder = medge.load_encoder(bundle, device="cpu")
        page = open_page(browser, serve(bundle))
        outside: list[str] = []
        page.on("request", lambda request, outside=outside: outside.append(request.url))
        for _ in with_and_without_network(page):
            for file in files:
                assert agrees(scores(page, file), encoder.classify(read_image(file))[0], bound)
        assert all(url.startswith(("http://127.0.0.1", "blob:")) for url in outside)
        page.context.close()


def test_a_single_label_is_not_certain_and_a_warning_is_told(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], few_images: Path, tmp_path: Path
) -> None:
    source = web_bundles(next(iter(WEB_SCORES)))
    folder = Path(shutil.copytree(source, tmp_path / "single"))
    manifest, place = Manifest.read(folder), folder / "labels.safetensors"
    bank = medge.LabelBank.load(place)
    name = bank.names[0]
    medge.LabelBank({name: bank.prompts[name]}, bank.embeddings[:1]).save(place)
    entry = next(file for file in manifest.files if file.path == place.name)
    changed = replace(entry, bytes=place.stat().st_size, sha256=hashlib.sha256(place.read_bytes()).hexdigest())
    onnx = manifest.artefacts["onnx"]
    assert onnx.parity is not None
    first, *others = onnx.parity.gates
    gates = (replace(first, warning="it lost <b>something</b>"), *others)
    warned = replace(onnx, parity=replace(onnx.parity, gates=gates, warnings=tell(gates)))
    manifest = replace(
        manifest.with_artefact("onnx", warned), labels=(name,),
        files=tuple(changed if file is entry else file for file in manifest.files),
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    page = open_page(browser, serve(folder))
    ready(page)
    assert "it lost <b>something</b>" in page.inner_text("#warning")
    give(page, few_images / "CT_small.dcm")
    assert "passed, with a warning: it lost <b>something</b>" in page.inner_text(".result .facts")
    cells = page.eval_on_selector_all(".result td", "cells => cells.map(cell => cell.textContent)")
    assert cells[:2] == [name, "–"]
    assert cells[2].endswith("%")
    page.context.close()


def test_calibrated_scores_are_decided_as_in_python_and_others_thresholds_are_refused(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], few_images: Path, tmp_path: Path
) -> None:
    files = [few_images / "CT_small.dcm", few_images / "693_J2KI.dcm"]
    folder = Path(shutil.copytree(web_bundles("int8"), tmp_path / "calibrated"))
    encoder = medge.load_encoder(folder, device="cpu")
    calibration = around(encoder, *files)
    put_scores(Bundle.open(folder), calibration)
    encoder = medge.load_encoder(folder, device="cpu")
    opened = open_page(browser, serve(folder))
    for _ in with_and_without_network(opened):
        known, strange = (encoder.classify(read_image(file))[0].decision for file in files)
        assert known is not None
        assert strange is not None
        give(opened, files[0])
        said = opened.locator(".result tbody tr").evaluate_all(
            "rows => rows.map(row => [row.dataset.label, row.dataset.said])"
        )
        assert dict(said) == {finding.label: finding.says for finding in known.findings}
        assert "present" in dict(said).values()
        assert strange.unlike
        give(opened, files[1])
        assert "unlike anything this bundle was calibrated on" in opened.inner_text(".result h2")
        assert opened.locator(".result tbody tr").count() == 0
    opened.context.close()

    others = replace(calibration, facts=replace(calibration.facts, fingerprint="another/eval-tf"))
    put_scores(Bundle.open(folder), others)
    opened = open_page(browser, serve(folder))
    opened.wait_for_function("document.getElementById('status').classList.contains('error')")
    assert "was fitted to other scores than this bundle’s" in opened.text_content("#status")
    opened.context.close()


def around(encoder: medge.Encoder, image: Path, strange: Path) -> ScoreCalibration:
    """A calibration whose one centre is an image, and whose limit is half the way to another one."""
    embeddings = encoder.embed_images([image, strange])
    size = embeddings.shape[1]
    limit = float(np.linalg.norm(embeddings[0] - embeddings[1])) / 2
    labels = encoder.manifest.file("labels")
    assert labels is not None
    names = encoder.manifest.labels
    cut = 1 / len(names)
    kind = Kind("", 1, (1.0,) * len(names), (0.0,) * len(names), (OperatingPoint(cut, cut, 1, 1),) * len(names), cut)
    facts = ScoreFacts(
        "one label", names, (kind,), (0,), limit, Wanted(), encoder.fingerprint, labels.sha256, "one image", 1, 0
    )
    return ScoreCalibration(facts, Density(np.eye(size, dtype=np.float32), embeddings[:1]))
