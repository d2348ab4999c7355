"""`medge demo`: the main job on real images, with the stand-in in the place of the gated weights."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ...runtime.console.options import ForceOption, JsonOption
from ...runtime.console.terminal import out, print_json, progress, warn
from ...runtime.errors import MissingExtraError
from .gate_table import gate_table
from .options import FAILED_GATE

# The kinds of picture that medsiglip-mini was trained to tell apart (medsiglip/words.py), in wordings that it knows.
LABELS = {
    "chest x-ray": ["x-ray of the chest", "chest x-ray", "chest radiograph"],
    "hand x-ray": ["x-ray of the hand", "hand x-ray", "hand radiograph"],
    "abdomen CT": ["CT of the abdomen", "abdomen CT scan", "computed tomography of the abdomen"],
    "chest CT": ["CT of the chest", "chest CT scan", "computed tomography of the chest"],
    "head CT": ["CT of the head", "head CT scan", "computed tomography of the head"],
    "breast MRI": ["MRI of the breast", "breast MRI scan", "magnetic resonance image of the breast"],
    "head MRI": ["MRI of the head", "head MRI scan", "magnetic resonance image of the head"],
    "breast ultrasound": ["ultrasound of the breast", "breast ultrasound image", "sonogram of the breast"],
    "chest ultrasound": ["ultrasound of the chest", "chest ultrasound image", "sonogram of the chest"],
    "blood cells": ["microscopy of the blood", "blood microscopy", "microscope image of the blood"],
}
# (file, package, what it shows): inside pydicom, and in pydicom-data where that is installed.
PICTURES = (
    ("CT_small.dcm", "pydicom", "CT, DICOM"),
    ("MR_small.dcm", "pydicom", "MR, DICOM"),
    ("examples_ybr_color.dcm", "pydicom", "ultrasound of a heart, DICOM, JPEG (a part that the stand-in never saw)"),
    ("RG1_UNCR.dcm", "pydicom-data", "chest film, DICOM, MONOCHROME1"),
)


def demo(
    to: Annotated[Path, typer.Option("--out", help="Where to leave the bundle.")] = Path("demo-bundle"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export the stand-in at int8, gate it, and classify real DICOM and PNG images with the bundle.

    Needs no download: the stand-in's weights lie in the package, the images in pydicom and pydicom-data.

    Example: medge demo
    """
    from ...runtime.bundles.atomic import refuse_existing
    from ...runtime.bundles.claim import scratch_folder

    refuse_existing(to, force=force)
    from ...runtime.encoder.load import load
    from ..jobs.encoder import export_medsiglip
    from ..jobs.encoder_job import ExportJob
    from ..standin.write import write_medsiglip_mini

    with scratch_folder() as place, progress() as advance:
        checkpoint, labels = place / "medsiglip-mini", place / "labels.json"
        write_medsiglip_mini(checkpoint)
        labels.write_text(json.dumps(LABELS))
        bundle, reports = export_medsiglip(ExportJob(checkpoint, to, labels=labels, force=force), advance)
    report = reports["onnx"]
    if report.status != "passed":
        out.print(gate_table(report))
        raise typer.Exit(FAILED_GATE)
    encoder = load(to)
    rows: list[dict[str, Any]] = []
    for path, what in _pictures(to):
        best = encoder.classify(path)[0].ranked()[:2]
        rows.append({"image": path.name, "what": what, "labels": [asdict(score) for score in best]})
    if as_json:
        facts = {"bundle": bundle.manifest.name, "out": str(to), "report": str(to / "parity.html")}
        print_json({**facts, "parity": asdict(report.summary()), "results": rows})
        return
    out.print(gate_table(report))
    table = Table(title=f"Classified by {to} ({bundle.size() / 1e6:.1f} MB, int8, no torch)")
    for column in ("image", "what it is", "first", "softmax", "second", "softmax "):
        table.add_column(column)
    for row in rows:
        first, second = row["labels"]
        table.add_row(
            str(row["image"]), str(row["what"]), first["label"], f"{first['softmax']:.2f}", second["label"],
            f"{second['softmax']:.2f}",
        )  # fmt: skip
    out.print(table)
    out.print(f"Parity report: {to / 'parity.html'}")
    out.print(
        f"Not a medical device. The stand-in is a small model for trying the kit; it knows {len(LABELS)} kinds of image."
    )


def _pictures(folder: Path) -> list[tuple[Path, str]]:
    """The real images that are here, and a PNG made of the first of them."""
    from PIL import Image

    found = [(path, what) for name, package, what in PICTURES if (path := _find(name, package)) is not None]
    if not found:
        raise MissingExtraError("pydicom", "export")
    from ...runtime.pictures.images import read_image

    png = folder / "demo-ct.png"
    Image.fromarray(read_image(found[0][0])).save(png)
    return [*found, (png, "the CT again, as PNG")]


def _find(name: str, package: str) -> Path | None:
    from pydicom.data import get_testdata_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = get_testdata_file(name, download=False)
        except (OSError, ValueError):
            path = None
    if path is None:
        warn(f"{name} is not here: pip install {package}")
        return None
    return Path(str(path))
