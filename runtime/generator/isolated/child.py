"""A language model's process: opens one bundle, then answers until its input ends. Started by `worker.py`."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...bundles.bundle import Bundle
from ...bundles.manifest import Manifest
from ...errors import MedgeError
from ...processes.limits import MEBIBYTE, data_in_use, go_first, limit
from ...processes.pipes import Pipes
from ..answering import Counts, Question
from ..chat_template import Message
from ..conversation import Fragment, Sampling
from ..generator import Generator
from ..prompt import Picture
from .protocol import READY, Counted, Failed, Opened, Piece, Reply, packed

# What may be taken beyond what the planner reckons: images on their way, their embeddings, stacks of threads.
MARGIN, SPARE = 1.25, 1024 * MEBIBYTE


def main() -> None:
    """Serve requests until the parent has gone."""
    pipes, model = Pipes(), Model()
    pipes.end_with_parent()
    limit("RLIMIT_CORE", 0, 0)  # a core file would hold what was asked
    go_first()
    os.set_blocking(2, False)  # what is written there is read when this process has ended; what is too much is dropped
    pipes.send([READY])
    while (request := pipes.request()) is not None:
        asked, given = request
        payload = pipes.receive(given)
        if payload is None:
            return
        pipes.send([packed(_reply(model, asked, payload))])


def _reply(model: Model, asked: dict[str, Any], payload: bytes) -> Reply:
    try:
        match asked.pop("do"):
            case "open":
                return model.open(**asked)
            case "ask":
                return model.ask(payload, **asked)
            case "next":
                return model.next()
            case _:
                return model.count(**asked)
    except MedgeError as error:
        return Failed(type(error).__name__, str(error))
    except MemoryError:
        return Failed("GeneratorError", "there is no memory left for this answer; ask for a shorter context")
    except Exception as error:  # a fault of medge's: where it is, and nothing that it says, which may be of a patient
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return Failed(
            "GeneratorError", f"the language model's process has met what it does not know ({at}); report this"
        )


class Model:
    """The generator of this process, and the answer that it is in."""

    def __init__(self) -> None:
        self._generator: Generator | None = None
        self._answer: Iterator[Fragment] = iter(())
        self._counts = Counts()

    def open(
        self, folder: str, manifest: str, checked: dict[str, list[int] | None], asked: dict[str, Any], longest: int
    ) -> Opened:
        """Load the model.

        Args:
            folder: of the bundle.
            manifest: as the parent has read it.
            checked: the files that the parent has checked; others in their places are refused.
            asked: context, threads and more, as in `Generator`.
            longest: context that is chosen at most.
        """
        looked_at = {path: None if found is None else (*found,) for path, found in checked.items()}
        bundle = Bundle(Path(folder), Manifest.parse(manifest.encode(), Path(folder)), looked_at)  # type: ignore[arg-type]  # four numbers
        self._generator = generator = Generator(bundle, **asked)
        generator._longest = longest
        self._limit_memory()
        return Opened(generator.context)

    def _limit_memory(self) -> None:
        """By what is mapped for writing, since weights that are mapped from their file are no danger. A driver of a GPU maps more
        than any model needs, so there it is left open."""
        chosen, in_use = self.generator.plan.checked(), data_in_use()
        if in_use is not None and not chosen.gpu_layers:
            limit("RLIMIT_DATA", in_use + int(MARGIN * chosen.need.total) + SPARE)

    @property
    def generator(self) -> Generator:
        assert self._generator is not None  # the first request opens it
        return self._generator

    def ask(
        self, payload: bytes, messages: list[dict[str, Any]], pictures: int, sampling: list[Any],
        schema: str | None,
    ) -> Piece:  # fmt: skip
        """Begin an answer, in the place of one that was left, and make its first piece."""
        self._answer = iter(())  # ends what was left
        facts = self.generator.facts
        pixels = np.frombuffer(payload, np.uint8).reshape(pictures, facts.image_size, facts.image_size, 3)
        question = Question(
            [Message(message["role"], tuple(message["parts"])) for message in messages],
            [Picture.of(one, facts.image_tokens) for one in pixels],
            Sampling(*sampling),
            None if schema is None else json.loads(schema),
        )
        self._counts = Counts()
        self._answer = self.generator._fragments(question, self._counts)
        return self.next()

    def next(self) -> Piece:
        """Make the next piece."""
        fragment, counts = next(self._answer), self._counts
        return Piece(fragment.text, fragment.thought, fragment.stop, counts.prompt, counts.reused, counts.tokens)

    def count(self, text: str) -> Counted:
        """Positions that a text takes."""
        return Counted(self.generator.count_tokens(text))
