"""How a file that holds more than one picture is looked at: which frame, which window."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ImageError

# (centre, width) in HU, as radiologists set them; the names that `View.of` takes.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (50, 400), "bone": (400, 1800), "brain": (40, 80), "lung": (-600, 1500), "mediastinum": (50, 350),
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """How a file that holds more than one picture is looked at.

    Attributes:
        frame: which frame of a multi-frame DICOM or TIFF, from 0; the middle one where None.
        window: (centre, width) for a grey DICOM, in its rescaled units (HU for CT); the file's own where None.

    Raises:
        ImageError: the window is none.

    Examples:
        >>> medge.View(frame=3, window=(40, 400)) == medge.View.of(3, "40,400")
        True
    """

    frame: int | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not (all(map(math.isfinite, self.window)) and self.window[1] > 0):
            centre, width = self.window
            raise ImageError(
                f"the window {centre:g},{width:g} can't be used: both must be finite numbers, and the width greater than 0"
            )

    @classmethod
    def of(cls, frame: int | None = None, window: str | None = None) -> View:
        """From what a user writes: a window is a name of `CT_WINDOWS`, or centre and width as "40,400".

        Raises:
            ImageError: no such window.

        Examples:
            >>> medge.View.of(window="40,400")
            View(frame=None, window=(40.0, 400.0))
            >>> medge.View.of(window="no such window")
            Traceback (most recent call last):
            medge.runtime.errors.ImageError: there is no window 'no such window'; ...
        """
        if window is None or window in CT_WINDOWS:
            return cls(frame, CT_WINDOWS[window] if window else None)
        try:
            centre, width = map(float, window.split(","))
        except ValueError as error:
            names = ", ".join(CT_WINDOWS)
            raise ImageError(
                f"there is no window {window!r}; write centre,width as in 40,400, or one of {names}"
            ) from error
        return cls(frame, (centre, width))


DEFAULT_VIEW = View()
