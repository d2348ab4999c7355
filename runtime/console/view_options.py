"""How files are looked at: the options that every command with images shares, declared once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..pictures.view import View

FrameOption = Annotated[
    int | None, typer.Option(min=0, help="Frame of a multi-frame file, from 0.", show_default="the middle")
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        metavar="CENTRE,WIDTH",
        help="Window for grey DICOM, e.g. 40,400; or abdomen, bone, brain, lung, mediastinum.",
        show_default="the file's own",
    ),
]


def view_of(frame: int | None, window: str | None) -> View:
    """The view that the two options ask for.

    Raises:
        ImageError: no such window.
    """
    from ..pictures.view import View

    return View.of(frame, window)
