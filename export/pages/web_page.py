"""Put the page of runtime/web, and the libraries that it runs on, into a bundle: a folder that any web server can serve."""

from __future__ import annotations

import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ...runtime.bundles.bundle import BundleWriter
from ...runtime.errors import MedgeError, RecipeError

# npm packages, at the versions that the page was tested with, and the files of theirs that it loads.
PACKAGES = {
    "onnxruntime-web": "1.30.0",
    "dicom-parser": "1.8.21",
    "@cornerstonejs/codec-openjpeg": "1.3.6",
    "@cornerstonejs/codec-charls": "1.2.7",
}
VENDOR = (
    "onnxruntime-web/dist/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "dicom-parser/dist/dicomParser.min.js",
    "dicom-parser/LICENSE",
    "@cornerstonejs/codec-openjpeg/dist/openjpegwasm_decode.js",
    "@cornerstonejs/codec-openjpeg/dist/openjpegwasm_decode.wasm",
    "@cornerstonejs/codec-charls/dist/charlswasm_decode.js",
    "@cornerstonejs/codec-charls/dist/charlswasm_decode.wasm",
    "@cornerstonejs/codec-charls/LICENSE",
)
INSTALL = "npm install --ignore-scripts --prefix {folder} " + " ".join(f"{name}@{v}" for name, v in PACKAGES.items())


def default_libraries() -> Path:
    """Where the libraries are looked for unless told otherwise."""
    return Path.home() / ".cache" / "medge" / "web"


def check_web(libraries: Path, *, has_labels: bool) -> None:
    """Fail before anything is computed.

    Args:
        libraries: the folder that has `node_modules`.

    Raises:
        RecipeError: no labels to classify by.
        MedgeError: the libraries are not there.
    """
    if not has_labels:
        raise RecipeError("the page classifies by the labels in its bundle: bake some in with --labels FILE")
    missing = [name for name in VENDOR if not (libraries / "node_modules" / name).is_file()]
    if missing:
        raise MedgeError(f"{libraries} lacks {missing[0]}; get it with: {INSTALL.format(folder=libraries)}")


def write_page(writer: BundleWriter, libraries: Path) -> None:
    """Add the page and its libraries to a half-made bundle."""
    for path, source in _files(resources.files("medge.runtime") / "web"):
        writer.add(path, "web.page").write_bytes(source.read_bytes())
    for name in VENDOR:
        target = name.rsplit("/", 1)[-1] if name.endswith(("js", "wasm")) else name.strip("@").replace("/", "-")
        shutil.copyfile(libraries / "node_modules" / name, writer.add(f"app/vendor/{target}", "web.vendor"))


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.is_dir():
            found += _files(item, f"{prefix}{item.name}/")
        else:
            found.append((f"{prefix}{item.name}", item))
    return found
