"""Which frames of a study its models look at, and which were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..station import Station
from ..store.records import Instance, Series
from .intake import has_picture

# Series whose instances are slices of one body: neighbours look alike, so that some stand for all.
STACKS = frozenset({"CT", "MR", "PT", "NM"})
MOST_SLICES = 9  # of a stack, and of a multi-frame object
MOST_PICTURES = 64  # of a series that is none
MOST_SHOWN = 4  # of a study, to a language model


@dataclass(frozen=True)
class Frame:
    """A frame that is looked at.

    Attributes:
        instance: the object.
        number: of the frame, from 0.
    """

    instance: Instance
    number: int


@dataclass(frozen=True)
class Choice:
    """What is looked at of a series.

    Attributes:
        series: the series.
        frames: in the order of the instances' numbers.
        of: how many frames its pictures have.
    """

    series: Series
    frames: tuple[Frame, ...]
    of: int

    @property
    def note(self) -> str:
        """What was left out; "" where nothing was."""
        shown = len(self.frames)
        return (
            "" if shown == self.of else f"{shown} of {self.of} frames were looked at, sampled evenly by their numbers"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"uid": self.series.uid, "frames": len(self.frames), "of": self.of, "note": self.note}


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` places: the middles of equal parts, since a stack's ends show little."""
    shown = min(count, most)
    return [int((place + 0.5) * count / shown) for place in range(shown)]


def choose(series: Series, instances: Sequence[Instance]) -> Choice:
    """What is looked at of a series.

    Args:
        series: the series.
        instances: all of it, by number.
    """
    pictures = [one for one in instances if has_picture(one)]
    total = sum(one.frames for one in pictures)
    if series.modality in STACKS:
        ends = np.cumsum([one.frames for one in pictures])
        found = []
        for place in evenly(total, MOST_SLICES):
            at = int(np.searchsorted(ends, place, side="right"))
            found.append(Frame(pictures[at], place - int(ends[at]) + pictures[at].frames))
        return Choice(series, tuple(found), total)
    frames = [Frame(one, number) for one in pictures for number in evenly(one.frames, MOST_SLICES)]
    return Choice(series, tuple(frames[place] for place in evenly(len(frames), MOST_PICTURES)), total)


def choose_of(station: Station, study: str, series: str | None) -> list[Choice]:
    """What is looked at of a study, or of one of its series; series without pictures are left out.

    Args:
        station: which holds it.
        study: the study's UID.
        series: a series's UID; all of the study's where None.
    """
    found = [choose(one, station.instances(one.uid)) for one in station.series(study) if series in (None, one.uid)]
    return [choice for choice in found if choice.frames]


def key_frames(choices: Sequence[Choice]) -> list[Frame]:
    """The few frames of a study that a language model is shown: evenly of each series in turn."""
    each = max(1, MOST_SHOWN // max(len(choices), 1))
    frames = [choice.frames[place] for choice in choices for place in evenly(len(choice.frames), each)]
    return [frames[place] for place in evenly(len(frames), MOST_SHOWN)]
