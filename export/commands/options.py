"""Options that several commands which make or measure bundles have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ...runtime.device.cpu import TARGETS
from ...runtime.errors import RecipeError
from ...runtime.pictures.preprocess import PROFILES

Choice = TypeVar("Choice", bound=str)

FAILED_GATE = 4  # exit code of a bundle that was written and failed its parity gate

CORPUS = "Texts (.txt, .md, .jsonl), images, or folders of them."

CheckpointOption = Annotated[Path, typer.Option(help="The checkpoint folder (config.json and safetensors).")]
BundleOption = Annotated[Path, typer.Option("--out", help="The bundle folder to make.")]
MergeOption = Annotated[
    int | None,
    typer.Option(
        help="Similar patches to merge in each block of the vision tower, in ONNX or in CoreML's fp16 and w8: faster, "
        "less exact.",
        show_default="by recipe",
    ),
]
TargetOption = Annotated[
    str, typer.Option(help=f"CPU of towers in ONNX: auto, {', '.join(TARGETS)}; web adds a page to an encoder.")
]
TargetSizeOption = Annotated[
    str | None,
    typer.Option(
        help="Size of each CoreML tower, or of the language model's file, e.g. 240MB, 2.4GB; bits are then chosen by layer."
    ),
]
_PREPROCESSING = f"Preprocessing: {', '.join(PROFILES)}."
ProfileOption = Annotated[str, typer.Option(help=_PREPROCESSING)]
UsualProfileOption = Annotated[
    str | None, typer.Option("--profile", help=_PREPROCESSING, show_default="eval-tf for MedSigLIP, clip-crop for CLIP")
]
ParityImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of images to measure on.", show_default="pydicom's own files")
]
LabelledOption = Annotated[bool, typer.Option("--labelled", help="--images has one sub-folder per label.")]
ThumbnailsOption = Annotated[
    bool,
    typer.Option(
        "--thumbnails",
        help="Put small copies of an encoder's worst and changed images into parity.html. Such a page can show patients.",
    ),
]
ParityTextsOption = Annotated[
    list[Path] | None,
    typer.Option("--texts", help="Texts to measure a language model on; repeat it.", show_default="medge's own"),
]
SkipParityOption = Annotated[
    bool, typer.Option("--skip-parity", help="Don't measure; the bundle then needs --allow-failed-parity.")
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Ray's processes.")]
TaskOption = Annotated[
    list[Path] | None,
    typer.Option(
        help='Questions: JSON lines of {"question", "options", "answer", "image"}, or the files of PubMedQA, MedQA or '
        "VQA-RAD; repeat it."
    ),
]


def one_of(value: str, choices: tuple[Choice, ...], option: str) -> Choice:
    """The choice that a value names.

    Raises:
        RecipeError: none of them.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise RecipeError(f"{option} {value}: choose from {', '.join(choices)}")
