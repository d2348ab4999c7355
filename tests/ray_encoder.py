"""An encoder for Ray's processes: it embeds a picture as its grey level and that level's square, and dies where it is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medge.runtime.bundles.manifest import KindName
from medge.runtime.commands.evaluation.subject import Candidate, Model, Subject
from medge.runtime.console.image_run import Input
from medge.runtime.encoder.embedder import Embedder
from medge.runtime.errors import ImageError
from medge.runtime.pictures.view import View

UNREADABLE = 5
PATIENCE = 15.0  # seconds


def inputs(count: int) -> list[Input]:
    """Pictures of grey levels from 0 on."""
    return [Input(str(level), f"picture {level}", partial(np.full, (2, 2), level, np.uint8)) for level in range(count)]


@dataclass(frozen=True)
class Dying(Candidate):
    """Kills its process when it first comes to level `once`, and always at `always`; notes what it embeds in `folder`.

    At `always` it waits for `others` shards on the disk, so that Ray does not give up before all others are done.
    """

    once: int = -1
    always: int = -1
    others: int = 0

    @property
    def name(self) -> str:
        return "dying"

    @property
    def kind(self) -> KindName:
        return "encoder"

    @property
    def gpus(self) -> int:
        return 0

    def check(self) -> None:
        """There is nothing to refuse."""

    def open(self) -> Subject:
        facts = SimpleNamespace(facts=SimpleNamespace(embedding_size=2))
        return Subject(Model("dying", "0", "passed", {}, 0), cast(Embedder, facts), self._through)

    def _through(
        self, pictures: Sequence[Input], view: View
    ) -> Iterator[tuple[Input, NDArray[np.float32] | ImageError]]:
        tomb: Path = self.folder / "died"
        for picture in pictures:
            level = int(cast("NDArray[Any]", picture.open())[0, 0])
            if level == self.always or (level == self.once and not tomb.exists()):
                tomb.touch()
                patience = time.monotonic() + PATIENCE  # what is queued behind this process is done when it is dead
                while len(list(self.folder.glob(".shards-*/[0-9]*"))) < self.others and time.monotonic() < patience:
                    time.sleep(0.05)
                os._exit(1)
            with (self.folder / "embedded").open("a") as stream:
                stream.write(f"{level}\n")
            yield (
                picture,
                ImageError(f"{picture.shown}: żółć") if level == UNREADABLE else np.float32([level, level**2]),
            )
