"""Options and arguments that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[Path, typer.Argument(help="The bundle folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]
AllowFailed = Annotated[
    bool, typer.Option("--allow-failed-parity", help="Use a bundle whose gate failed or was never measured.")
]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        envvar="MEDGE_TRUST", help="The device's trust folder: who must have signed a bundle.", show_default="none"
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Threads of the engine.", show_default="its own choice")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write each result as it comes: .csv, .jsonl or .parquet. Interrupted, the same command goes on."
    ),
]
MarginOption = Annotated[
    float | None,
    typer.Option(
        min=0.0, show_default=False,
        help="The loss of the main figure that you can bear, such as 0.02: the smallest run that loses no more is named.",
    ),
]  # fmt: skip
IMAGES = "Images, or folders of images (PNG, JPEG, TIFF, DICOM)."
ImagesArgument = Annotated[list[Path], typer.Argument(help=IMAGES)]
OptionalImagesArgument = Annotated[list[Path] | None, typer.Argument(help=IMAGES)]
LabelsOption = Annotated[
    Path | None, typer.Option(help="A label file: lines, or JSON {label: \\[prompts]}.", show_default=False)
]
