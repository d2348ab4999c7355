"""A checkpoint's towers in full precision, made once for every bundle and measurement that needs them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ...quant.texts.prompts import calibration_texts
from ...runtime.bundles.claim import scratch_folder
from ..source.samples import Samples
from .encoder import EncoderReference

T = TypeVar("T")


class Remembered(Iterable[T]):
    """What an iterator gives, computed when somebody first comes to it, and kept for those who ask again."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items, self._kept = items, list[T]()

    def __iter__(self) -> Iterator[T]:
        for place in itertools.count():
            if place == len(self._kept):
                try:
                    self._kept.append(next(self._items))
                except StopIteration:
                    return
            yield self._kept[place]


class FullPrecision:
    """The PyTorch model with what formats derive from it: exported graphs, converted programs, calibration inputs.

    Nothing derived changes with the recipe, so a run that makes several bundles derives it once. Use it as a context manager:
    at its end the scratch folder goes.
    """

    def __init__(self, reference: EncoderReference) -> None:
        self.reference = reference
        self.checkpoint = reference.checkpoint
        self._kept: dict[Hashable, Any] = {}
        self._at_end = contextlib.ExitStack()

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once for each key."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(T, self._kept[key])

    def calibration_inputs(self, tower: str, samples: Samples, profile: str) -> list[NDArray[Any]]:
        """Inputs that the recipes look at, one a batch."""
        if tower == "text":
            return self.kept("texts", self._text_inputs)
        facts, normalise = self.reference.facts, self.reference.normalisation
        # The samples are kept, too, so that no others get their identity.
        key = ("images", id(samples), profile)
        return self.kept(key, lambda: (samples, samples.for_calibration(profile, facts, normalise)))[1]

    def _text_inputs(self) -> list[NDArray[np.int64]]:
        ids = self.reference.text_ids(calibration_texts())
        return [ids[index : index + 1] for index in range(len(ids))]

    @cached_property
    def scratch(self) -> Path:
        """A folder for derived files."""
        return self._at_end.enter_context(scratch_folder())

    def close(self) -> None:
        """Remove the scratch folder and forget what was derived."""
        self._kept.clear()
        self.__dict__.pop("scratch", None)
        self._at_end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
