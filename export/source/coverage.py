"""Whether images that something is chosen on are of the kinds of those that it is for.

What is seen is the model's own view: an image is unlike the others when it lies farther from them than they lie from one another.
Where the images that it is for have labels, those of each label are judged by themselves, too: among all, a missing kind is soon
few enough to be taken for chance. benchmarks/coverage.py measures how often that tells kinds apart.

A label's words are not asked which kinds there are: many labels are findings, and that no image shows a rare one says nothing of
kinds.
"""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import RecipeError
from .samples import Samples, spread

# The distance to the tenth: slices of one series, or copies, lie close together and say nothing of others.
NEIGHBOUR = 10
KNOWN = 0.99  # of the images themselves that lie near one another, by definition
# Of images of the same kinds, how many may seem unlike: by definition one in a hundred, and some more, since the others'
# distances are themselves a sample.
OUTSIDE = 0.1
CHANCE = 0.025  # of refusing images of the same kinds, at most
MOST_LOOKED_AT, MOST_WITH_LABELS = 64, 128  # images to judge on: more cost time and say no more


def to_look_at(given: Samples) -> Samples:
    """As many images of those that are judged as need be seen: spread evenly over all, or over each label."""
    if given.truth is None:
        return given.only(spread(len(given), MOST_LOOKED_AT))
    of_each = [np.flatnonzero(given.truth == label) for label in range(len(given.labels))]
    most = max(MOST_WITH_LABELS // len(of_each), 1)
    picks = np.concatenate([found[spread(len(found), most)] for found in of_each])
    return replace(given.only(picks.tolist()), truth=given.truth[picks])


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


def beyond_chance(found: int, count: int, groups: int = 1) -> bool:
    """Whether more images seem unlike than do among the same kinds: an exact binomial test, since a label may have three images.

    Args:
        found, count: so many of so many.
        groups: how many are tested; by chance none of them shall be refused (Bonferroni).
    """
    at_least = sum(comb(count, k) * OUTSIDE**k * (1 - OUTSIDE) ** (count - k) for k in range(found, count + 1))
    return at_least < CHANCE / groups


def check_covered(
    chosen: NDArray[np.float32], judged: NDArray[np.float32], samples: Samples, given: Samples, what: str
) -> None:
    """Refuse to choose on images of other kinds than those that the bundle will be judged on.

    Args:
        chosen, judged: embeddings of both, (N, D) and (M, D) of unit length, in full precision.
        samples: what to call the chosen.
        given: the judged, as `to_look_at` gives them.
        what: what is chosen.

    Raises:
        RecipeError: more of the judged, or of those of a label, than chance explains are unlike the chosen.
    """
    found = unlike(chosen, judged)
    groups = {given.source: found}
    if given.truth is not None:
        parts = {f"{given.source}/{label}": found[given.truth == n] for n, label in enumerate(given.labels)}
        groups |= {name: part for name, part in parts.items() if len(part)}
    missing = [name for name, part in groups.items() if beyond_chance(int(part.sum()), len(part), len(groups))]
    if missing:
        labels = [name for name in missing if name != given.source]  # they say more than the whole
        named = [f"{groups[name].sum()} of {len(groups[name])} images of {name}" for name in labels or missing]
        raise RecipeError(
            f"{what} is chosen on {samples.source}, but {' and '.join(named)} are unlike all in there: give images of the "
            "same kinds with --calibration, or set it yourself with --merge"
        )
