"""The page in a real browser: the same pixels and scores as the Python runtime, offline, and clear words when it can't."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from tolerances import WEB_SCORES

import medge
from medge.runtime.bundles.gates import tell
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.golden.phantom import SHAPES, phantom, phantom_16
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.preprocess import PROFILES, Normalisation, preprocess, to_8_bit

PROMPTS = {"abdomen CT": ["CT of the abdomen"], "2": ["a second label"], "1 [odd], {label}": ["MRI of the head"]}


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm",
    }  # fmt: skip

    def log_message(self, format: str, *args: Any) -> None:
        """A test's output is no place for a server's log."""


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on loopback: its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def web_bundles(
    checkpoint: Path, few_images: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.export.pages.web_page import INSTALL, VENDOR, default_libraries

    libraries = default_libraries()
    if not all((libraries / "node_modules" / name).is_file() for name in VENDOR):
        pytest.skip(f"the page's libraries are not installed: {INSTALL.format(folder=libraries)}")
    labels = tmp_path_factory.mktemp("labels") / "labels.json"
    labels.write_text(json.dumps(PROMPTS))
    made: dict[str, Path] = {}

    def make(recipe: str) -> Path:
        if recipe not in made:
            out = tmp_path_factory.mktemp("web") / recipe
            job = ExportJob(
                checkpoint, out, recipe, target="web", calibration=few_images, labels=labels, with_text=False
            )
            export_medsiglip(job, full=request.getfixturevalue("full_precision"))
            made[recipe] = out
        return made[recipe]

    return make


def open_page(browser: Any, address: str) -> Any:
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    return page


def ready(page: Any) -> None:
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")


def scores(page: Any, file: Path) -> dict[str, dict[str, float]]:
    """Give the page a file, and read the table that it shows."""
    page.set_input_files("#file", file)
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    rows = page.eval_on_selector_all("#scores tr", "rows => rows.map(row => ({...row.dataset}))")
    page.evaluate("document.getElementById('status').textContent = ''")
    return {row["label"]: {key: float(row[key]) for key in ("cosine", "softmax", "sigmoid")} for row in rows}


def test_scores_equal_the_runtime_and_survive_the_network(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], few_images: Path, tmp_path: Path
) -> None:
    Image.fromarray(phantom()).save(tmp_path / "phantom.png")
    files = [few_images / "CT_small.dcm", tmp_path / "phantom.png"]
    for recipe, bound in WEB_SCORES.items():
        bundle = web_bundles(recipe)
        encoder = medge.load_encoder(bundle, device="cpu")
        page = open_page(browser, serve(bundle))
        outside: list[str] = []
        page.on("request", lambda request, outside=outside: outside.append(request.url))
        ready(page)
        for offline in (False, True):
            if offline:
                page.wait_for_function("document.documentElement.dataset.offline === 'ready'")
                page.context.set_offline(True)
                page.reload()
                ready(page)
            for file in files:
                expected = encoder.classify(read_image(file))[0]
                found = scores(page, file)
                assert set(found) == set(expected.labels)
                assert max(found, key=lambda label: found[label]["cosine"]) == expected.best
                for index, label in enumerate(expected.labels):
                    assert found[label]["softmax"] == pytest.approx(float(expected.softmax[index]), abs=bound)
                    assert found[label]["sigmoid"] == pytest.approx(float(expected.sigmoid[index]), abs=bound)
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
    page.set_input_files("#file", few_images / "CT_small.dcm")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    cells = page.eval_on_selector_all("#scores td", "cells => cells.map(cell => cell.textContent)")
    assert cells[:2] == [name, "–"]
    assert cells[2].endswith("%")
    page.context.close()


@pytest.fixture(scope="module")
def page(browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path]) -> Iterator[Any]:
    opened = open_page(browser, serve(web_bundles("int8")))
    ready(opened)
    yield opened
    opened.context.close()


RESIZE = """async ([data, width, height, profile, side, mean, std]) => {
  const { resize, normalisePixels } = await import('./app/pixels.js');
  const image = { width, height, data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) };
  return Array.from(normalisePixels(resize(image, profile, side), { mean, std }));
}"""


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("size", SHAPES)
def test_pixels_equal_python_to_the_bit(page: Any, profile: str, size: tuple[int, int]) -> None:
    image = phantom(*size)
    data = base64.b64encode(image.tobytes()).decode()
    normalise = Normalisation((0.5, 0.25, 0.125), (0.5, 0.75, 2.0))
    asked = [data, size[1], size[0], profile, 112, list(normalise.mean), list(normalise.std)]
    found = np.array(page.evaluate(RESIZE, asked), np.float32)
    np.testing.assert_array_equal(found.reshape(3, 112, 112), preprocess(image, profile, 112, normalise))


DECODE = """async ([data]) => {
  const { decodeImage } = await import('./app/decode.js');
  const image = await decodeImage(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
  return { ...image, data: Array.from(image.data) };
}"""


def test_16_bit_pictures_are_what_the_browser_makes_of_them_within_a_grey_level(page: Any, tmp_path: Path) -> None:
    """A page gets eight bits of every picture from the browser; Python reads all sixteen."""
    deep = phantom_16(65, 40)[..., 0]
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").dtype == np.uint16
    found = page.evaluate(DECODE, [base64.b64encode((tmp_path / "deep.png").read_bytes()).decode()])
    image = np.array(found["data"], np.uint8).reshape(65, 40, 3)
    expected = to_8_bit(read_image(tmp_path / "deep.png"))
    assert int(np.abs(image.astype(int) - expected.astype(int)).max()) <= 1


def test_a_profile_that_the_page_does_not_know_is_refused(page: Any) -> None:
    asked = (
        "([profile]) => import('./app/pixels.js').then(({ resize }) => resize({}, profile, 112)).catch(e => e.message)"
    )
    assert page.evaluate(asked, ["hasty"]) == "This page does not know the preprocessing profile “hasty”."


DICOM = """async ([data]) => {
  const { readDicom } = await import('./app/dicom.js');
  const { decodeImage } = await import('./app/decode.js');
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  try {
    const image = await readDicom(bytes, decodeImage);
    // As text: Playwright takes minutes for an array of nine million numbers.
    let text = '';
    for (let at = 0; at < image.data.length; at += 32768) text += String.fromCharCode(...image.data.subarray(at, at + 32768));
    return { width: image.width, height: image.height, data: btoa(text) };
  } catch (error) {
    return { error: error.message };
  }
}"""


def dicom(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"pydicom's {name} is not installed: pip install pydicom-data")
    return Path(str(path))


@pytest.mark.parametrize(
    ("name", "levels"),
    [("CT_small.dcm", 0), ("MR_small.dcm", 0), ("MR_small_implicit.dcm", 0), ("SC_rgb.dcm", 0), ("RG3_UNCI.dcm", 0),
     ("examples_overlay.dcm", 0), ("SC_rgb_jpeg_dcmtk.dcm", 3), ("JPGExtended.dcm", None), ("MR_small_RLE.dcm", None),
     ("JPEG2000.dcm", None), ("rtplan.dcm", None), ("CT_small.dcm+cut", None)],
)  # fmt: skip
def test_dicom_as_python_reads_it_or_refused(page: Any, name: str, levels: int | None) -> None:
    """`levels`: grey levels by which two JPEG decoders may differ; None where the page must refuse."""
    path = dicom(name.removesuffix("+cut"))
    data = path.read_bytes()
    if name.endswith("+cut"):
        data = data[: len(data) // 2]
    found = page.evaluate(DICOM, [base64.b64encode(data).decode()])
    if levels is None:
        words = {"JPGExtended.dcm": "JPEG of 12 bits", "MR_small_RLE.dcm": "compressed as RLE", "rtplan.dcm": "holds no image",
                 "JPEG2000.dcm": "compressed as JPEG 2000 (transfer syntax 1.2.840.10008.1.2.4.9",
                 "CT_small.dcm+cut": "cut short"}  # fmt: skip
        assert words[name] in found["error"]
        return
    assert "error" not in found, found["error"]
    image = np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 3)
    assert int(np.abs(image.astype(int) - read_image(path).astype(int)).max()) <= levels


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


def test_a_file_that_is_no_image(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_function("document.getElementById('status').classList.contains('error')")
    assert "no image that the browser can read" in page.text_content("#status")
    assert page.is_hidden("#result")


def test_the_page_needs_labels_and_its_libraries(checkpoint: Path, labels_file: Path, tmp_path: Path) -> None:
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.runtime.errors import MedgeError

    with pytest.raises(MedgeError, match="bake some in with --labels"):
        export_medsiglip(ExportJob(checkpoint, tmp_path / "x", target="web"))
    with pytest.raises(MedgeError, match=r"lacks onnxruntime-web/.*; get it with: npm install"):
        export_medsiglip(
            ExportJob(checkpoint, tmp_path / "x", target="web", labels=labels_file, web_libraries=tmp_path)
        )
