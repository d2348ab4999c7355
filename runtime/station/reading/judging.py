"""`classify`: pictures against the labels of the station's encoder, and their embeddings for the clinic's own index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...decisions.calibration import UNLIKE
from ...encoder.classification import Classification
from ...errors import ImageError, StationError, one_line
from ...pictures.view import View
from ..models.catalogue import Catalogue, Entry
from ..models.embedding import embed_pixels
from ..models.shelf import Shelf
from ..station import Station
from ..store import audit, embeddings
from ..work.worker import Outcome, Task
from .choice import Frame, choose_of
from .pictures import picture_of

WHO = "station"  # in the audit log, and as the author of drafts


def told(found: Classification) -> dict[str, Any]:
    """A classification for JSON: labels, likeliest first, what calibrated scores say, and whether the picture is unlike all."""
    decision = found.decision
    return {
        "labels": [{**asdict(score), "probability": score.probability} for score in found.ranked()],
        "decision": None if decision is None else asdict(decision),
        "note": UNLIKE if decision is not None and decision.unlike else None,
    }


class Judge:
    """Judges series and studies.

    Args:
        station: which holds them.
        catalogue: with the encoder.
        shelf: which lends it.
        embedded: told after each picture that an encoder has embedded.
    """

    def __init__(
        self, station: Station, catalogue: Catalogue, shelf: Shelf, embedded: Callable[[], None] = lambda: None
    ) -> None:
        self._station, self._catalogue, self._shelf, self._embedded = station, catalogue, shelf, embedded

    def classify(self, task: Task) -> Outcome:
        """The handler of `classify`; the job's payload is {"series": UID}, or {} for all of its study.

        Raises:
            StationError: there is no study, or no encoder.
            ImageError: none of the pictures can be read.
        """
        study, series = task.job.study, (task.job.payload or {}).get("series")
        if study is None:
            raise StationError("a job to classify belongs to a study")
        entry = self._catalogue.get((task.job.payload or {}).get("model"), "encoder")
        choices = choose_of(self._station, study, series)
        frames = [frame for choice in choices for frame in choice.frames]
        with self._shelf.borrow(entry) as encoder:
            bank = encoder.label_bank
            calibrated = bank is not None and encoder.calibrated(bank)
        found: list[dict[str, Any]] = []
        for done, frame in enumerate(frames):
            task.check()
            if done:  # that it has begun, the job's state says
                task.progress("pictures", done, len(frames))
            found.append({"instance": frame.instance.uid, "frame": frame.number, **self._judged(entry, frame)})
        task.progress("pictures", len(frames), len(frames))
        errors = [one["error"] for one in found if "error" in one]
        if errors and len(errors) == len(found):
            raise ImageError(f"none of {len(found)} pictures can be read; the first: {errors[0]}")
        detail = {"bundle": entry.id, "job": task.job.id, "pictures": len(found)}
        content = {
            "model": entry.id, "parity": entry.parity, "recipes": entry.recipes, "calibrated": calibrated,
            "maps": entry.maps, "labels": [] if bank is None else list(bank.names),
            "series": [choice.as_dict() for choice in choices],
            "note": "" if bank else "the bundle has no labels of its own: pictures were embedded for the search, not scored",
            "instances": found,
        }  # fmt: skip
        return Outcome(content, also=lambda connection: audit.note(connection, WHO, "classified", study, detail))

    def _judged(self, entry: Entry, frame: Frame) -> dict[str, Any]:
        try:
            row = self.embedding(entry, frame)
        except ImageError as error:
            return {"error": one_line(error)}
        with self._shelf.borrow(entry) as encoder:
            if encoder.label_bank is None:
                return {"labels": [], "decision": None, "note": None}
            [scored] = encoder.score(row[None], encoder.label_bank)
        return told(scored)

    def embedding(self, entry: Entry, frame: Frame) -> NDArray[np.float32]:
        """A frame's embedding, (D,) float32 of unit length: from the index, or made and put there.

        Raises:
            ImageError: it can't be decoded.
        """
        with self._shelf.borrow(entry) as encoder:
            space = encoder.fingerprint
        with self._station.database.read() as connection:
            known = embeddings.known(connection, frame.instance.uid, space)
        if frame.number in known:
            return known[frame.number]
        pixels = picture_of(self._station, frame.instance, View(frame.number))
        with self._shelf.borrow(entry) as encoder:
            row = embed_pixels(encoder, pixels)
        self._embedded()
        with self._station.database.write(durable=False) as connection:  # what a power cut takes is made again
            embeddings.remember(connection, frame.instance.uid, frame.number, space, row)
        return row
