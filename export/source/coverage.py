"""Whether images that something is chosen on are of the kinds of those that it is for.

What is seen is the model's own view: an image is unlike the others when it lies farther from them than they lie from one another.
benchmarks/coverage.py measures how often that tells kinds apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.errors import RecipeError
from .samples import Samples

# The distance to the tenth: slices of one series, or copies, lie close together and say nothing of others.
NEIGHBOUR = 10
KNOWN = 0.99  # of the images themselves that lie near one another, by definition
# Of images of the same kinds, how many may seem unlike: by definition one in a hundred, and some more, since the others'
# distances are themselves a sample.
OUTSIDE = 0.1
MOST_LOOKED_AT = 64  # images to judge on: more cost time and say no more


def unlike(chosen: NDArray[np.float32], judged: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which images lie farther from the others than these lie from one another.

    Args:
        chosen: embeddings of the others, (N, D) of unit length, N > 1.
        judged: embeddings, (M, D) of unit length.

    Returns:
        (M,) bools.
    """
    place = min(NEIGHBOUR, len(chosen) - 1)
    among = np.sort(1 - chosen @ chosen.T, axis=1)[:, place]  # the first is the image itself
    beyond = np.sort(1 - judged @ chosen.T, axis=1)[:, place - 1]
    return np.asarray(beyond > np.quantile(among, KNOWN))


def check_covered(
    chosen: NDArray[np.float32], judged: NDArray[np.float32], samples: Samples, given: Samples, what: str
) -> None:
    """Refuse to choose on images of other kinds than those that the bundle will be judged on.

    Args:
        chosen, judged: embeddings of both, (N, D) and (M, D) of unit length, in full precision.
        samples, given: what to call them.
        what: what is chosen.

    Raises:
        RecipeError: more of the judged than chance explains are unlike the chosen.
    """
    found = int(unlike(chosen, judged).sum())
    if metrics.wilson(found, len(judged))[0] > OUTSIDE:
        raise RecipeError(
            f"{what} is chosen on {samples.source}, but {found} of {len(judged)} images of {given.source} are unlike all in "
            "there: give images of the same kinds with --calibration, or set it yourself with --merge"
        )
