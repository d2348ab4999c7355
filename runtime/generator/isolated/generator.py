"""A generator whose model runs in a process of its own (docs/decisions/0020-language-model-process.md)."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NoReturn

from ...bundles.bundle import Bundle
from ...errors import GeneratorError
from ..answering import Counts, Question, Turnstile
from ..cache import CacheName
from ..conversation import Fragment
from ..generator import Generator
from .worker import Worker


class IsolatedGenerator(Generator):
    """A `Generator` whose model runs in a process of its own, which is started when it is first used.

    An abort, a segmentation fault or a lack of memory in there ends one answer by a `GeneratorError`; the next question starts
    another process. Images are read here, and sent at the model's size. A fork of this process starts a process of its own.

    Args:
        bundle: an opened bundle.
        context: as in `Generator`.
        threads: likewise.
        gpu_layers: likewise.
        cache: likewise.
        from_storage: likewise.
    """

    def __init__(
        self, bundle: Bundle, *, context: int | None = None, threads: int | None = None, gpu_layers: int | None = None,
        cache: CacheName = "f16", from_storage: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, from_storage=from_storage
        )
        self._worker: Worker | None = None
        _ALL.add(self)

    @property
    def engine(self) -> NoReturn:
        """There is none in this process."""
        raise GeneratorError(
            "the engine is in another process; load this language model without isolate=True to use it"
        )

    @property
    def context(self) -> int:
        """Positions of the context."""
        return self._opened().context

    def count_tokens(self, text: str) -> int:
        """Positions of the context that a text takes."""
        return self._opened().count(text)

    def close(self) -> None:
        """End the process, after the answer that another thread waits for; another is started when the model is used again.

        A stream of this thread that is not read to its end ends with a `GeneratorError`.
        """
        with self._turn.alone(), self._opening:
            self.__dict__.pop("plan", None)
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.stop()

    def _opened(self) -> Worker:
        """The process; a new one where the last has ended."""
        with self._opening:
            if self._worker is None or not self._worker.alive:
                self._worker = Worker(self._asked_for())
            return self._worker

    def _asked_for(self) -> dict[str, Any]:
        return {
            "folder": str(self.bundle.folder), "manifest": self.manifest.to_json(), "checked": dict(self.bundle.checked),
            "asked": asdict(self._wanted), "longest": self._longest,
        }  # fmt: skip

    def _fragments(self, question: Question, counts: Counts) -> Iterator[Fragment]:
        with self._turn.one_answer():
            worker = self._opened()
            piece = worker.ask(question)
            while True:
                counts.prompt, counts.reused, counts.tokens = piece.prompt, piece.reused, piece.tokens
                yield Fragment(piece.text, piece.thought, piece.stop)
                if piece.stop is not None:
                    return
                piece = worker.next()

    def _forget(self) -> None:
        """After a fork, in the child: the process answers the parent, and locks may be held by threads that are not here."""
        self._turn, self._opening = Turnstile(), threading.RLock()
        if self._worker is not None:
            self._worker.disown()
        self._worker = None


_ALL: weakref.WeakSet[IsolatedGenerator] = weakref.WeakSet()


def _forget_all() -> None:
    for generator in list(_ALL):
        generator._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
