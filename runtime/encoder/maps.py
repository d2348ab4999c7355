"""Which patches of a picture speak for a label.

A bundle that was exported with --maps says of each patch what it gives to the picture's embedding: rows that add up to the
embedding, with one more for the head's biases (`export/families/contributions.py` shows why this is exact). A row times a label's
embedding is what the patch adds to the label's cosine. So a map's values, with what stands in no patch, add up to what they
explain:

- of one label, its cosine: what speaks for it, whatever else it could be;
- of several, its cosine less the mean of the others': what speaks for it rather than for them.

That is arithmetic of this model, no segmentation and no proof: before they are pooled, tokens have exchanged what they know, and
a patch can speak for a label by a mark or a border that has nothing to do with disease.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelError, one_line
from ..pictures.overlay import overlay, spread
from ..pictures.preprocess import Area, Pixels, to_8_bit
from .labels import LabelBank


@dataclass(frozen=True)
class PatchMap:
    """Which patches of a picture speak for which label.

    Attributes:
        labels: their names.
        cosine: (L,) float32, of the picture's and each label's embedding.
        grids: (L, rows, columns) float32, what each patch adds: to the label's cosine, or, of several labels, to its cosine less
            the mean of the others'. Negative values speak against it.
        rest: (L,) float32, what no patch adds; `grids[i].sum() + rest[i]` is what is explained, up to what the recipe rounds.
        embedding: of the picture, (D,) float32, of unit length.
        area: where the grids lie, in the picture's pixels.
        picture: as it was read, (H, W, 3).

    Examples:
        >>> found = medge.load_encoder("bundle").map("film.dcm", ["an abdomen CT", "a chest x-ray"])
        >>> found.best, found.at_size().shape, found.overlay().dtype
        ('an abdomen CT', (128, 128), dtype('uint8'))
    """

    labels: tuple[str, ...]
    cosine: NDArray[np.float32]
    grids: NDArray[np.float32]
    rest: NDArray[np.float32]
    embedding: NDArray[np.float32] = field(repr=False)
    area: Area
    picture: Pixels = field(repr=False)

    def __repr__(self) -> str:
        rows, columns = self.grids.shape[1:]
        return f"<PatchMap: {rows} x {columns} patches, best {self.best}>"

    @property
    def best(self) -> str:
        """The label with the greatest cosine."""
        return self.labels[int(np.argmax(self.cosine))]

    def grid(self, label: str | None = None) -> NDArray[np.float32]:
        """What each patch adds for a label, (rows, columns); for the best one where None.

        Raises:
            LabelError: it is none of the map's labels.

        Examples:
            >>> found = medge.load_encoder("bundle").map("film.dcm", ["an abdomen CT", "a chest x-ray"])
            >>> np.array_equal(found.grid(), found.grid("an abdomen CT"))  # of the best label
            True
        """
        wanted = self.best if label is None else label
        if wanted not in self.labels:
            raise LabelError(f"the map has no label '{one_line(wanted, 80)}'; it has {', '.join(self.labels)}")
        found: NDArray[np.float32] = self.grids[self.labels.index(wanted)]
        return found

    def at_size(self, label: str | None = None) -> NDArray[np.float32]:
        """The same for every pixel of the picture, each patch as one block: (H, W), NaN where the model did not look.

        Raises:
            LabelError: it is none of the map's labels.

        Examples:
            >>> found = medge.load_encoder("bundle").map("film.dcm", ["an abdomen CT", "a chest x-ray"])
            >>> found.at_size("a chest x-ray").shape == found.picture.shape[:2]
            True
        """
        height, width = self.picture.shape[:2]
        return spread(self.grid(label), self.area, (height, width))

    def overlay(self, label: str | None = None) -> NDArray[np.uint8]:
        """The picture in grey with orange where a patch speaks for the label, blue where against, and a scale: (h, w, 3).

        Raises:
            LabelError: it is none of the map's labels.

        Examples:
            >>> found = medge.load_encoder("bundle").map("film.dcm", ["an abdomen CT", "a chest x-ray"])
            >>> found.overlay().shape[2], found.overlay().dtype
            (3, dtype('uint8'))
        """
        return overlay(to_8_bit(self.picture), self.grid(label), self.area)


def patch_map(
    contributions: NDArray[np.float32], embedding: NDArray[np.float32], bank: LabelBank, cells: int, area: Area,
    picture: Pixels,
) -> PatchMap:  # fmt: skip
    """A map from what a bundle's vision tower gives.

    Args:
        contributions: (cells * cells + 1, D), patches row by row, and last what stands in none.
        embedding: of the picture, (D,), of unit length.
        bank: the labels.
        cells: patches on a side.
        area: where they lie, in the picture's pixels.
        picture: (H, W, 3).
    """
    texts = bank.embeddings
    others = len(texts) - 1
    against = (texts.sum(axis=0) - texts) / others if others else np.zeros_like(texts)
    values = (texts - against) @ contributions.T
    grids = values[:, :-1].reshape(-1, cells, cells)
    return PatchMap(bank.names, texts @ embedding, grids, values[:, -1], embedding, area, picture)


def covered(area: Area, share: float) -> Area:
    """The part of an area that whole patches cover, from its upper left corner: `share` of each side."""
    return Area(area.top, area.left, area.height * share, area.width * share)
