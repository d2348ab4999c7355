"""An answer on its way: made in a thread, when its turn has come, and read by the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ...generator.answering import Counts
from ...generator.conversation import Fragment, Stop
from ..models.answers import LeftError
from ..models.catalogue import Entry
from .chat_request import Asked
from .service import Service


class Stops:
    """Finds the first of some texts in what comes piece by piece, and holds back what may be the beginning of one.

    Args:
        texts: what ends an answer.
    """

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts, self._held = texts, ""
        self.found = False

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        text, self._held = self._held + piece, ""
        ends = [place for stop in self._texts if (place := text.find(stop)) >= 0]
        if ends:
            self.found = True
            return text[: min(ends)]
        most = max((len(stop) for stop in self._texts), default=1) - 1
        for length in range(min(most, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._texts):
                self._held = text[-length:]
                return text[:-length]
        return text

    def rest(self) -> str:
        """What was held back, at the end of an answer."""
        held, self._held = self._held, ""
        return held


@dataclass(frozen=True)
class Call:
    """A tool that the model calls, with its arguments as JSON."""

    name: str
    arguments: str


def read_reply(text: str) -> Call | str:
    """A reply in the form of `call_schema`: the call, or the answer; what was cut off, as it is."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    if "tool" in body:
        return Call(body["tool"], json.dumps(body["arguments"], ensure_ascii=False))
    return str(body.get("answer", ""))


class Running:
    """One answer. Iterating over it gives its fragments, and None now and then while nothing comes.

    Args:
        service: the station.
        entry: the language model.
        asked: what it is asked.

    Raises:
        BusyError: too many wait.
    """

    EVERY = 1.0  # seconds between two signs of life

    def __init__(self, service: Service, entry: Entry, asked: Asked) -> None:
        self.counts = Counts()
        self.ticket = service.queue.join()
        self._service, self._entry, self._asked = service, entry, asked
        self._coming: asyncio.Queue[Fragment | BaseException] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        threading.Thread(target=self._make, name="medge-answer", daemon=True).start()

    def stop(self) -> None:
        """Nobody wants the rest: it ends after the token that is being made."""
        self._stopped.set()
        if self.ticket.begun is None:
            self.ticket.leave()

    async def __aiter__(self) -> AsyncIterator[Fragment | None]:
        stops = Stops(self._asked.stops)
        try:
            while True:
                try:
                    found = await asyncio.wait_for(self._coming.get(), self.EVERY)
                except TimeoutError:
                    yield None
                    continue
                if isinstance(found, BaseException):
                    raise found
                if not found.thought and found.stop is None:
                    found = Fragment(stops.feed(found.text))
                if stops.found:
                    yield found
                    yield Fragment("", stop="end")
                    return
                if found.stop is not None and (held := stops.rest()):
                    yield Fragment(held)
                if found.text or found.stop is not None:
                    yield found
                if found.stop is not None:
                    return
        finally:
            self.stop()

    def _make(self) -> None:
        try:
            self.ticket.wait()
            if self._stopped.is_set():
                return
            with self._service.shelf.borrow(self._entry) as generator:
                asked = self._asked
                stream = generator.stream(
                    asked.turns, asked.sampling, think=asked.think, schema=asked.schema, counts=self.counts
                )
                for fragment in stream:
                    if self._stopped.is_set():
                        stream.close()
                        break
                    self._hand_over(fragment)
        except LeftError:
            pass
        except BaseException as error:  # also what ends this thread: whoever waits must hear of it
            self._hand_over(error)
        finally:
            self.ticket.leave()
            self._service.metrics.tokens.labels("prompts").inc(self.counts.prompt)
            self._service.metrics.tokens.labels("answers").inc(self.counts.tokens)

    def _hand_over(self, found: Fragment | BaseException) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._coming.put_nowait, found)


FINISH: dict[Stop, str] = {"end": "stop", "limit": "length", "context": "length"}
