"""The page in a real browser: the same pixels and scores as the Python runtime, offline, and clear words when it can't."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
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
from medge.runtime.golden.phantom import SHAPES, phantom, phantom_16
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.preprocess import PROFILES, Normalisation, preprocess, to_8_bit
from medge.runtime.pictures.view import CT_WINDOWS, DEFAULT_VIEW, View

PROMPTS = {"abdomen CT": ["CT of the abdomen"], "2": ["a second label"], "1 [odd], {label}": ["MRI of the head"]}


@pytest.fixture(scope="module")
def web_bundles(
    short: Path, few_images: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
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
            job = ExportJob(short, out, recipe, target="web", calibration=few_images, labels=labels, with_text=False)
            export_medsiglip(job, full=request.getfixturevalue("short_full"))
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


def with_and_without_network(page: Any) -> Iterator[None]:
    """The page when it is ready, then again without a network, from what it has kept."""
    ready(page)
    yield
    page.wait_for_function("document.documentElement.dataset.offline === 'ready'")
    page.context.set_offline(True)
    page.reload()
    ready(page)
    yield


def scores(page: Any, file: Path) -> dict[str, dict[str, float]]:
    """Give the page a file, and read the table that it shows."""
    give(page, file)
    return table(page.locator(".result"))


def give(page: Any, *files: Path) -> str:
    """Give the page files, and wait for all of their results: what it says at the end."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.set_input_files("#file", files)
    return done(page)


def done(page: Any) -> str:
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    return str(page.text_content("#status"))


def table(result: Any) -> dict[str, dict[str, float]]:
    rows = result.locator("tbody tr").evaluate_all("rows => rows.map(row => ({...row.dataset}))")
    return {row["label"]: {key: float(row[key]) for key in ("cosine", "softmax", "sigmoid")} for row in rows}


def agrees(found: dict[str, dict[str, float]], expected: medge.Classification, bound: float) -> bool:
    assert set(found) == set(expected.labels)
    assert max(found, key=lambda label: found[label]["cosine"]) == expected.best
    softmax, sigmoid = ([found[label][kind] for label in expected.labels] for kind in ("softmax", "sigmoid"))
    return np.allclose(softmax, expected.softmax, 0, bound) and np.allclose(sigmoid, expected.sigmoid, 0, bound)


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


DICOM = """async ([data, frame, window]) => {
  const { DicomPicture } = await import('./app/dicom/dicom.js');
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  try {
    const { image } = await new DicomPicture(bytes).show({ frame, window: window && { centre: window[0], width: window[1] } });
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


def changed_dicom(name: str, folder: Path) -> Path:
    """One of pydicom's files, damaged or altered as the word after its + says."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate, get_frame

    name, _, how = name.partition("+")
    source, path = dicom(name), folder / f"changed-{name}"
    if not how:
        return source
    if how == "cut":
        path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        return path
    dataset = dcmread(source)
    if how == "row":
        dataset.Rows -= 1
    elif how == "ybr":
        dataset.PhotometricInterpretation = "YBR_FULL"
    else:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)
    return path


def shown(page: Any, path: Path, view: View = DEFAULT_VIEW) -> NDArray[np.uint8] | str:
    """What the page shows of a DICOM file, or the sentence that refuses it."""
    found = page.evaluate(DICOM, [base64.b64encode(path.read_bytes()).decode(), view.frame, view.window])
    if "error" in found:
        return str(found["error"])
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 3)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("CT_small.dcm", 0), ("MR_small.dcm", 0), ("MR_small_implicit.dcm", 0), ("SC_rgb.dcm", 0), ("RG3_UNCI.dcm", 0),
     ("examples_overlay.dcm", 0), ("SC_ybr_full_uncompressed.dcm", 0), ("SC_rgb_jpeg_dcmtk.dcm", 3),
     ("MR_small_RLE.dcm", 0), ("SC_rgb_rle.dcm", 0), ("SC_rgb_rle_16bit_2frame.dcm", 0), ("SC_rgb_rle.dcm+ybr", 0),
     ("JPEG2000.dcm", 0), ("MR_small_jp2klossless.dcm", 0), ("693_J2KI.dcm", 0), ("J2K_pixelrep_mismatch.dcm", 0),
     ("GDCMJ2K_TextGBR.dcm", 0), ("SC_rgb_gdcm_KY.dcm", 0), ("examples_jpeg2k.dcm", 0),
     ("MR_small_jpeg_ls_lossless.dcm", 0), ("JPEGLSNearLossless_08.dcm", 0), ("JPEGLSNearLossless_16.dcm", 0),
     ("SC_rgb_jls_lossy_line.dcm", 0), ("SC_rgb_jls_lossy_sample.dcm", 0)],
)  # fmt: skip
def test_dicom_as_python_reads_it(page: Any, tmp_path: Path, name: str, levels: int) -> None:
    """`levels`: grey levels by which two JPEG decoders may differ."""
    path = changed_dicom(name, tmp_path)
    image = shown(page, path)
    assert not isinstance(image, str), image
    assert int(np.abs(image.astype(int) - read_image(path).astype(int)).max()) <= levels


@pytest.mark.parametrize(
    ("name", "view"),
    [("CT_small.dcm", View(window=CT_WINDOWS["abdomen"])), ("CT_small.dcm", View(window=(-600.5, 1))),
     ("MR_small_RLE.dcm", View(window=(800, 1500.25))), ("693_J2KI.dcm", View(window=(50, 400))),
     ("SC_rgb_rle_2frame.dcm", View(frame=0)), ("SC_rgb_rle_2frame.dcm", View(frame=1))],
)  # fmt: skip
def test_windows_and_frames_are_those_of_the_command_line(page: Any, name: str, view: View) -> None:
    path = dicom(name)
    np.testing.assert_array_equal(shown(page, path, view), read_image(path, view))


@pytest.mark.parametrize(
    ("name", "words"),
    [("JPGExtended.dcm", "JPEG of 12 bits"), ("rtplan.dcm", "holds no image"), ("rtdose_rle.dcm", "is an RT dose grid"),
     ("CT_small.dcm+cut", "cut short"), ("emri_small_jpeg_2k_lossless_too_short.dcm", "cut short"),
     ("MR_small_RLE.dcm+short", "cut short: an RLE segment"),
     ("JPEG2000.dcm+row", "says 256 × 1023 pixels, and its compressed frame 256 × 1024"),
     ("MR_small_jpeg_ls_lossless.dcm+short", "frame of this DICOM file is cut off"),
     ("JPEG2000.dcm+short", "The JPEG 2000 pixels of this DICOM file are damaged")],
)  # fmt: skip
def test_dicom_that_the_page_refuses(page: Any, tmp_path: Path, name: str, words: str) -> None:
    assert words in str(shown(page, changed_dicom(name, tmp_path)))


def test_without_a_decoder_it_says_so(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(web_bundles("int8"), tmp_path / "bare", ignore=shutil.ignore_patterns("*wasm_decode*"))
    opened = open_page(browser, serve(folder))
    for name, kind in (("JPEG2000.dcm", "JPEG 2000"), ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS")):
        assert f"The decoder of {kind} is not in this bundle" in str(shown(opened, dicom(name)))
    opened.context.close()


def test_several_files_their_view_and_their_print(
    page: Any, web_bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    """As a CD has them, without endings; one that can't be read costs its own result and no other."""
    ct, multi, notes = (tmp_path / name for name in ("IM0001", "IM0003", "IM0002"))
    shutil.copyfile(dicom("CT_small.dcm"), ct)
    shutil.copyfile(dicom("SC_rgb_rle_2frame.dcm"), multi)
    notes.write_text("no image")
    encoder, bound = medge.load_encoder(web_bundles("int8"), device="cpu"), WEB_SCORES["int8"]
    assert give(page, ct, notes, multi) == "Done: 2 of 3 files; 1 could not be read."
    first, second, third = (page.locator(".result").nth(index) for index in range(3))
    assert "no image that the browser can read" in second.locator(".problem").inner_text()
    assert second.locator(".scores").is_hidden()
    assert agrees(table(first), encoder.classify(read_image(ct))[0], bound)
    assert agrees(table(third), encoder.classify(read_image(multi))[0], bound)

    # The original, at its full size, beside the square.
    assert first.locator(".original .words").inner_text().startswith("128 × 128 pixels, window centre ")
    assert first.locator(".original img").evaluate("image => image.naturalWidth") == 128
    assert first.locator("canvas").evaluate("canvas => canvas.width") == encoder.manifest.encoder.image_size
    first.locator(".viewer").press("1")
    assert first.locator("output").inner_text() == "100 %"
    first.get_by_label("Zoom in").click()
    assert first.locator(".original img").evaluate("image => image.getBoundingClientRect().width") == pytest.approx(192)

    # Another window and another frame are other scores.
    chosen = choose(page, first.get_by_label("Window"), "lung")
    assert "window centre -600, width 1500" in chosen
    assert agrees(table(first), encoder.classify(read_image(ct, View.of(window="lung")))[0], bound)
    assert "width 2064 (all values)" in choose(page, first.get_by_label("Window"), "range")
    assert agrees(table(first), encoder.classify(read_image(ct, View(window=(136, 2064))))[0], bound)
    first.get_by_label("Centre").fill("40")
    first.get_by_label("Width", exact=True).fill("0")  # while the scores of the new centre are computed
    first.get_by_label("Width", exact=True).blur()
    done(page)
    assert "greater than 0" in first.get_by_label("Width", exact=True).evaluate("field => field.validationMessage")

    # On paper: a page for each that could be read, or one alone, with what it is and without controls.
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 2
    page.emulate_media(media="print")
    assert first.locator(".facts").inner_text().startswith(f"{encoder.manifest.name}, ")
    assert "Parity with the original model: passed" in first.locator(".facts").inner_text()
    assert first.locator(".paper").is_visible()
    assert not any(page.locator(hidden).first.is_visible() for hidden in ("#drop", ".tools", ".view", "button"))
    page.emulate_media(media="null")  # as it was: "screen" would hold for the PDF as well
    page.evaluate("window.print = () => {}")
    first.get_by_role("button", name="Print this result").click()
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_a_folder_is_dropped(page: Any, tmp_path: Path) -> None:
    (tmp_path / "CD" / "DICOM").mkdir(parents=True)
    for number in (10, 9):
        shutil.copyfile(dicom("CT_small.dcm"), tmp_path / "CD" / "DICOM" / f"IM{number}")
    page.evaluate("document.getElementById('status').textContent = ''")
    devtools = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(tmp_path / "CD")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 60, "y": 60, "data": dragged})
    assert done(page) == "Done: 2 of 2 files."
    names = [words.partition(":")[0] for words in page.locator(".result h2").all_inner_texts()]
    assert names == ["CD/DICOM/IM9", "CD/DICOM/IM10"]


def choose(page: Any, field: Any, option: str) -> str:
    """Choose from a list, wait for the scores: what the caption says then."""
    page.evaluate("document.getElementById('status').textContent = ''")
    field.select_option(option)
    done(page)
    return str(page.locator(".original .words").first.inner_text())


def test_windows_have_the_command_line_s_names(page: Any) -> None:
    found = page.evaluate("import('./app/view_form.js').then(({ CT_WINDOWS }) => CT_WINDOWS)")
    assert {name: tuple(values) for name, values in found.items()} == CT_WINDOWS


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
    assert page.is_hidden(".result .scores")


def test_the_page_needs_labels_and_its_libraries(shallow: Path, labels_file: Path, tmp_path: Path) -> None:
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.runtime.errors import MedgeError

    with pytest.raises(MedgeError, match="bake some in with --labels"):
        export_medsiglip(ExportJob(shallow, tmp_path / "x", target="web"))
    with pytest.raises(MedgeError, match=r"lacks onnxruntime-web/.*; get it with: npm install"):
        export_medsiglip(ExportJob(shallow, tmp_path / "x", target="web", labels=labels_file, web_libraries=tmp_path))
