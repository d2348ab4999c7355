"""The parent's side of a language model's process."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import Any, TypeVar

from ...errors import GeneratorError, ModelEndedError, one_line
from ...processes.parent import GoneError, NotStartedError, Process
from ..answering import Question
from ..grammar import json_of
from .protocol import LENGTH, LONGEST, READY, Counted, Failed, Opened, Piece, Reply, unpacked

START = 60.0  # seconds until a process can take its first request
GRACE = 2.0  # seconds after Ctrl-C for the piece that is being made; a process that needs longer is ended
R = TypeVar("R", bound=Reply)


class Worker:
    """One process with a loaded model.

    Threads can share it: it answers one request at a time, the others wait.

    Args:
        opening: what is to be opened: the arguments of `child.Model.open`.

    Raises:
        GeneratorError: it can't be started, or ended meanwhile.
        MedgeError: what opening the model raised.
    """

    def __init__(self, opening: dict[str, Any]) -> None:
        # Settings for llama.cpp and GPUs stand in the environment. A debugger that ggml calls at an abort would take minutes.
        environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
        try:
            self._process = Process(
                f"{__package__}.child", [], environment=environment, ready=READY, seconds=START, keep_words=True
            )
        except NotStartedError as error:
            raise GeneratorError(f"the language model's process {error}") from error
        self._lock = threading.Lock()
        self._refusal = ""
        try:
            self.context = self._exchange(Opened, {"do": "open", **opening}).context
        except BaseException:
            self._process.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def ask(self, question: Question) -> Piece:
        """Begin an answer; the one before it ends."""
        chosen = question.sampling
        request = {
            "do": "ask", "messages": [dataclasses.asdict(message) for message in question.messages],
            "pictures": len(question.pictures), "schema": None if question.schema is None else json_of(question.schema),
            "sampling": [int(chosen.limit), float(chosen.temperature), int(chosen.seed), int(chosen.top_k), float(chosen.top_p)],
        }  # fmt: skip
        return self._exchange(Piece, request, [picture.pixels for picture in question.pictures])

    def next(self) -> Piece:
        """The answer's next piece."""
        return self._exchange(Piece, {"do": "next"})

    def count(self, text: str) -> int:
        """Positions that a text takes."""
        return self._exchange(Counted, {"do": "count", "text": text}).tokens

    def stop(self) -> None:
        """End the process, once the request is answered that another thread waits for."""
        with self._lock:
            self._end("this language model was closed while it was still in use; load it again")

    def _end(self, why: str) -> GeneratorError:
        """End the process; the error that whoever uses it from now on is told."""
        self._refusal = why
        self._process.stop()
        return GeneratorError(why)

    def disown(self) -> None:
        """In a fork of the parent: the process is the parent's."""
        self._lock = threading.Lock()  # perhaps held by a thread that is not here
        self._refusal = "this answer was begun in the process that this one was forked from; ask again"
        self._process.disown()

    def _exchange(self, kind: type[R], request: dict[str, Any], payload: list[Any] | None = None) -> R:
        """A request's reply.

        Raises:
            ModelEndedError: the process ended by itself; the next answer needs another.
            GeneratorError: it was stopped before.
            MedgeError: what the process raised.
        """
        process, waiting = self._process, False
        with self._lock:
            if self._refusal:
                raise GeneratorError(self._refusal)
            process.deadline = None  # an answer may take as long as it takes
            try:
                process.send(request, payload or ())
                waiting = True
                process.wait()
                waiting = False
                reply = self._read()
            except GoneError as error:
                raise ModelEndedError(self._why()) from error
            except KeyboardInterrupt:
                if not (waiting and self._settled()):
                    self._end("this language model was stopped; ask again")
                raise
            except BaseException:  # the rest of this reply would be taken for the next
                self._end("this language model was stopped; ask again")
                raise
        if isinstance(reply, Failed):
            raise reply.error()
        if not isinstance(reply, kind):
            raise self._end(_NONSENSE)
        return reply

    def _read(self) -> Reply:
        [size] = LENGTH.unpack(self._process.read(LENGTH.size))
        try:
            if size > LONGEST:
                raise ValueError
            return unpacked(self._process.read(size))
        except ValueError as error:
            raise self._end(_NONSENSE) from error

    def _settled(self) -> bool:
        """After Ctrl-C: whether the reply that nobody wants any more has come, so that the model need not be loaded again."""
        self._process.deadline = time.monotonic() + GRACE
        try:
            self._process.wait()
            self._read()
        except BaseException:  # it is too late, has ended, or Ctrl-C was pressed again
            return False
        return True

    def _why(self) -> str:
        """What is said of a process that ended by itself."""
        self._process.kill()
        name, code, words = self._process.signal_name(), self._process.code, self._process.last_words()
        self._process.let_go()
        if name == "SIGKILL":
            return (
                "the language model's process was killed (SIGKILL), as systems do when memory runs out; ask again, and with a "
                "shorter context or a smaller recipe if it happens each time"
            )
        said = f": {one_line(words, 200)}" if words else ""
        return (
            f"the language model's process broke down ({name or f'code {code}'}{said}); ask again, and copy or export the bundle "
            "again if it happens each time"
        )


_NONSENSE = "the language model's process said what makes no sense, and was ended; ask again"
