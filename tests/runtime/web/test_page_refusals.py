"""What the page says when it can't work, and what is refused before there is a page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from encoder_page import open_page

from medge.runtime.bundles.manifest import Manifest


def test_what_it_says_when_it_can_not(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = web_bundles("int8")
    context = browser.new_context()
    context.add_init_script("WebAssembly.validate = () => false")
    page = context.new_page()
    page.goto(serve(bundle))
    page.wait_for_function("document.getElementById('status').classList.contains('error')")
    assert "lacks WebAssembly SIMD" in page.text_content("#status")
    context.close()

    def says(folder: Path, words: str) -> None:
        opened = open_page(browser, serve(folder))
        opened.wait_for_function("document.getElementById('status').classList.contains('error')")
        assert words in opened.text_content("#status")
        assert opened.is_hidden("#drop")
        opened.context.close()

    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    model = damaged / "onnx/vision_model_quantized.onnx"
    content = bytearray(model.read_bytes())
    content[-9] ^= 1
    model.write_bytes(content)
    says(damaged, "was changed or damaged. Copy the bundle again")
    model.write_bytes(content[:-100])
    says(damaged, "is cut short")
    model.unlink()
    says(damaged, "can’t be loaded (404)")
    manifest = (bundle / "manifest.json").read_text(encoding="utf-8")
    (damaged / "manifest.json").write_text(manifest.replace("eval-tf", "hf-bicubic"), encoding="utf-8")
    says(damaged, "manifest.json was changed or damaged")
    facts = Manifest.read(bundle)
    onnx = facts.artefacts["onnx"]
    assert onnx.parity is not None
    failed = facts.with_artefact("onnx", replace(onnx, parity=replace(onnx.parity, status="failed")))
    for changed, words in (
        (failed, "parity with the original model is failed"),
        (replace(facts, format_version=1), "is older than the page. Export the bundle again"),
        (replace(facts, format_version=3), "is newer than the page"),
        (replace(facts, artefacts={}), "holds nothing that a browser runs"),
    ):
        (damaged / "manifest.json").write_text(changed.to_json(), encoding="utf-8")
        says(damaged, words)
    (damaged / "manifest.json").unlink()
    says(damaged, "The bundle can’t be loaded")


def test_the_page_needs_labels_and_its_libraries(shallow: Path, labels_file: Path, tmp_path: Path) -> None:
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.runtime.errors import MedgeError

    with pytest.raises(MedgeError, match="bake some in with --labels"):
        export_medsiglip(ExportJob(shallow, tmp_path / "x", target="web"))
    with pytest.raises(MedgeError, match=r"lacks onnxruntime-web/.*; get it with: npm install"):
        export_medsiglip(ExportJob(shallow, tmp_path / "x", target="web", labels=labels_file, web_libraries=tmp_path))
