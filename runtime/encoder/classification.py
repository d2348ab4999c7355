"""What an image scores for labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..decisions.calibration import Decision
from ..notebook import shorten, table


@dataclass(frozen=True)
class Score:
    """What an image scores for one label.

    Attributes:
        label, cosine, softmax, sigmoid: as in `Classification`.

    Examples:
        >>> medge.Score("pneumonia", cosine=0.12, softmax=0.9, sigmoid=0.4).probability
        0.9
    """

    label: str
    cosine: float
    softmax: float | None
    sigmoid: float | None

    @property
    def probability(self) -> float | None:
        """That it is this label among the others; of a single label, that it holds, or None where the model can't say that."""
        return self.sigmoid if self.softmax is None else self.softmax


@dataclass(frozen=True)
class Classification:
    """Scores of one image, in the labels' order.

    Attributes:
        labels: their names.
        cosine: (L,) float32, the cosine of the image's and each label's embedding.
        softmax: (L,) float32, sums to one over the labels: which of these is it? None of a single label, which would be
            certain whatever the image shows.
        sigmoid: (L,) float32, independent for each: does this hold? None of a model that was not trained for that (CLIP).
        decision: what calibrated scores say; None of a bundle whose scores are not calibrated. For labels other than the bundle's
            own it says only whether the picture is unlike all.

    Examples:
        >>> found = medge.load_encoder("bundle").classify("film.dcm", ["abdomen CT", "chest x-ray"])[0]
        >>> round(float(found.softmax.sum()), 5)
        1.0
        >>> [score.label for score in found.ranked()][0] == found.best
        True
    """

    labels: tuple[str, ...]
    cosine: NDArray[np.float32]
    softmax: NDArray[np.float32] | None
    sigmoid: NDArray[np.float32] | None
    decision: Decision | None = None

    @property
    def best(self) -> str:
        """The label with the greatest cosine."""
        return self.labels[int(np.argmax(self.cosine))]

    def ranked(self) -> list[Score]:
        """Every label with its scores, most likely first.

        Examples:
            >>> [found] = medge.load_encoder("bundle").classify("film.dcm", ["a chest x-ray", "an abdomen CT"])
            >>> [score.label for score in found.ranked()]
            ['an abdomen CT', 'a chest x-ray']
        """
        none = [None] * len(self.labels)
        shares, holds = (none if values is None else values.tolist() for values in (self.softmax, self.sigmoid))
        rows = zip(self.labels, self.cosine.tolist(), shares, holds, strict=True)
        return sorted((Score(*row) for row in rows), key=lambda score: -score.cosine)

    def __repr__(self) -> str:
        scores = [f"{s.label} {s.cosine if s.probability is None else s.probability:.3f}" for s in self.ranked()]
        return f"<Classification: {shorten(scores)}>"

    def _repr_html_(self) -> str:
        rows = [
            (s.label, *("-" if value is None else f"{value:.3f}" for value in (s.softmax, s.sigmoid, s.cosine)))
            for s in self.ranked()
        ]
        return table(("label", "which of these (softmax)", "does it hold (sigmoid)", "cosine"), rows)
