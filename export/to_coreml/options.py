"""How CoreML packages are called and for which systems they are made; importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageOptions:
    """How a package is called and for which systems it is made.

    Attributes:
        ios: deployment target, 17 or 18.
        image_input: the vision tower takes a picture of its size, (H, W) RGB bytes, instead of normalised numbers.
        batches: sizes that are allowed; images come one at a time.
        target_size: bytes of a tower's weights; bits are then chosen by layer (palettes only).
        merge: similar patches to merge in each block of the vision tower.
    """

    ios: int = 18
    image_input: bool = True
    batches: tuple[int, ...] = (1,)
    target_size: int | None = None
    merge: int = 0
