"""The generator: a MedGemma bundle that answers about images and texts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..bundles.bundle import Bundle
from ..device.cpu import check_threads
from ..device.gguf_architecture import read_language, read_projector
from ..device.gguf_header import GGUFHeader
from ..device.llama_library import check_process
from ..errors import BundleError, GeneratorError
from ..notebook import fact_table
from ..pictures.images import ImageSource, read_image
from ..pictures.preprocess import get_profile
from ..pictures.view import DEFAULT_VIEW, View
from .answering import Counts, Question, Turnstile, answer_of, fragments_of, message_of
from .cache import CacheName, cache_types
from .chat_template import IMAGE_MARK, Message, render
from .conversation import DEFAULT_SAMPLING, Answer, Fragment, Sampling, Turn, about, system
from .engine import Engine
from .fitting import check_language, check_pair, tower_call
from .grammar import grammar_of
from .image_tower import DEFAULT_CALL
from .planner import DEFAULT_CONTEXT, Opening, Plan, plan
from .prompt import Item, Picture

THINK = "SYSTEM INSTRUCTION: think silently if needed."


class Generator:
    """A language model of a bundle, opened on first use.

    Threads can share it: it gives one answer at a time, the others wait.

    Args:
        bundle: an opened bundle.
        context: positions to make room for; the planner's choice where None.
        threads: as in `Engine`; the planner's choice where None.
        gpu_layers: likewise.
        cache: what keys and values are kept in; fewer bits take less memory and cost some quality (docs/results/cache.md).
        from_storage: the weights may stay in their file where memory does not hold them, which is slow.

    Raises:
        RecipeError: fewer than one thread.

    Examples:
        >>> reader = medge.load_generator("reader", context=1024)
        >>> reader.ask("film.dcm", "Which kind of image is this?", medge.Sampling(limit=8)).stop in ("end", "limit")
        True
        >>> reader.close()
    """

    def __init__(
        self, bundle: Bundle, *, context: int | None = None, threads: int | None = None, gpu_layers: int | None = None,
        cache: CacheName = "f16", from_storage: bool = False,
    ) -> None:  # fmt: skip
        check_threads(threads)
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.facts = bundle.manifest.generator
        self._wanted = Opening(context, threads, gpu_layers, cache, from_storage)
        self._longest = DEFAULT_CONTEXT
        self._engine: Engine | None = None
        self._opening = threading.RLock()
        self._turn = Turnstile()

    def __repr__(self) -> str:
        recipes = ", ".join(f"{tower} {facts.recipe}" for tower, facts in self.manifest.towers.items())
        sees = f"{self.facts.image_tokens} tokens an image" if self.facts.image_tokens else "text only"
        return f"<{type(self).__name__} {self.manifest.name}: {recipes}, {sees}, parity {self.manifest.verdict}>"

    def _repr_html_(self) -> str:
        rows = [(part, tower.recipe) for part, tower in self.manifest.towers.items()]
        rows.append(
            ("image", f"{self.facts.image_tokens} tokens" if self.facts.image_tokens else "none, it reads text only")
        )
        rows.append(("trained for", f"{self.facts.context_length:,} tokens"))
        return fact_table(f"Generator {self.manifest.name}", [*rows, ("parity", self.manifest.verdict)])

    @cached_property
    def header(self) -> GGUFHeader:
        """The checked head of the language model's file."""
        path = self.bundle.path("language")
        if path is None:
            raise BundleError(f"{self.bundle.folder} has no language model")
        header = read_language(path)
        check_language(header, self.facts)
        return header

    @cached_property
    def plan(self) -> Plan:
        """What this device gives the model: context, threads, layers on a GPU.

        Raises:
            ContextError: the model does not fit; says what it needs and what there is.
        """
        return plan(self.bundle, **asdict(self._wanted), longest=self._longest)

    @property
    def engine(self) -> Engine:
        """llama.cpp with this model, opened on first use."""
        check_process()  # first: in a forked process nobody might open the lock
        with self._opening:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        chosen = self.plan.checked()
        projector, call = self.bundle.path("projector"), DEFAULT_CALL
        if projector is not None:
            tower, images = self.manifest.towers["projector"], self.manifest.preprocessing
            assert images is not None  # of a model that sees
            if tower.format == "gguf":  # an ONNX tower is checked by its first image
                check_pair(self.header, read_projector(projector), self.facts, images)
            else:
                call = tower_call(self.facts, tower, images)
        engine = Engine(
            self.header.path, projector, context=chosen.context, threads=chosen.threads, gpu_layers=chosen.gpu_layers,
            cache=cache_types(chosen.cache, self.facts.head_size), call=call, from_storage=chosen.fit == "from storage",
        )  # fmt: skip
        try:
            for role in ("language", "projector"):
                self.bundle.path(role)  # refuses what was put there in the meantime
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self) -> None:
        """Free the model's memory, after the answer that another thread waits for; it is opened again when it is used again.

        A stream of this thread that is not read to its end ends with a `GeneratorError`.

        Raises:
            GeneratorError: this process was forked from the one in which the model is loaded.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> reader.close()
            >>> reader.context  # opened again, since it is needed
            512
            >>> reader.close()
        """
        check_process()
        with self._turn.alone(), self._opening:
            self.__dict__.pop("plan", None)
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Room

    @property
    def context(self) -> int:
        """Positions of the context."""
        return self.engine.context

    @property
    def image_tokens(self) -> int:
        """Positions that an image takes; 0 where the model reads text only."""
        return self.facts.image_tokens

    def count_tokens(self, text: str) -> int:
        """Positions of the context that a text takes.

        Examples:
            >>> medge.load_generator("reader", context=512).count_tokens("No pleural effusion.") > 3
            True
        """
        check_process()
        with self._opening:  # so that no other thread closes the engine meanwhile
            return len(self.engine.tokenize(text, special=False))

    def make_room(self, tokens: int) -> int:
        """Make the context as long as this, as far as memory allows and the caller has not set its length.

        Returns:
            the positions of the context.

        Examples:
            >>> medge.load_generator("reader", context=512).make_room(600)  # the caller has set the length
            512
        """
        if self._wanted.context is None and tokens > self._longest:
            self._longest = tokens
            self.close()
        return self.context

    # Prompts

    def picture(self, source: ImageSource) -> Picture:
        """An image as the vision tower takes it: resized here, as the original's processor does.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> picture = reader.picture("film.dcm")
            >>> picture.tokens == reader.image_tokens, picture.pixels.shape == (reader.facts.image_size,) * 2 + (3,)
            (True, True)
        """
        if not self.facts.image_tokens:
            raise GeneratorError(f"{self.manifest.name} reads text only, it has no vision tower for an image")
        pixels: NDArray[np.uint8] = get_profile(self.manifest.profile).resize(read_image(source), self.facts.image_size)
        return Picture.of(pixels, self.facts.image_tokens)

    def encode(self, turns: Sequence[Turn]) -> list[Item]:
        """A conversation to token ids and images, as the original's processor writes it.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> items = reader.encode([medge.user(Path("film.dcm"), "Is it a CT?")])
            >>> sum(not isinstance(item, int) for item in items)  # one image among the tokens
            1
        """
        return self._items(*self._prepared(turns))

    def _prepared(self, turns: Sequence[Turn]) -> tuple[list[Message], list[Picture]]:
        """A conversation as templates take it, and its images."""
        pictures = [self.picture(part) for turn in turns for part in turn.parts if not isinstance(part, str)]
        return [message_of(turn) for turn in turns], pictures

    def _items(self, messages: Sequence[Message], pictures: Sequence[Picture]) -> list[Item]:
        template = self.header.metadata.get("tokenizer.chat_template")
        if not isinstance(template, str):
            raise BundleError(f"{self.header.path} carries no chat template; export it from a checkpoint that has one")
        engine, waiting = self.engine, iter(pictures)
        items: list[Item] = []
        pieces = render(template, messages, is_control=self._holds_control_token)
        if not any(text.strip() for text, _ in pieces):
            raise BundleError(f"the chat template of {self.header.path} writes nothing; export the bundle again")
        for text, trusted in pieces:
            if not trusted:
                items += engine.tokenize(text, special=False)
                continue
            # Gemma's processor puts an image's tokens between its marks, and blank lines around them.
            before, *rest = text.split(IMAGE_MARK)
            between = [before]
            for after in rest:
                between[-1] += f"\n\n{IMAGE_MARK}"
                between.append(f"<end_of_image>\n\n{after}")
            for index, piece in enumerate(between):
                if index:
                    picture = next(waiting, None)
                    if picture is None:
                        raise BundleError("the chat template writes more images than the messages hold")
                    items.append(picture)
                items += engine.tokenize(piece)
        if next(waiting, None) is not None:
            raise BundleError("the chat template leaves images out; this model's template reads text only")
        return items

    def _holds_control_token(self, text: str) -> bool:
        return "<" in text and any(map(self.engine.controls, self.engine.tokenize(text)))

    # Answers

    def stream(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None, counts: Counts | None = None,
    ) -> Iterator[Fragment]:  # fmt: skip
        """Yield an answer as it is generated.

        Args:
            turns: as in `chat`.
            sampling: as in `chat`.
            think: as in `chat`.
            schema: as in `chat`.
            counts: where the tokens of the prompt and of the answer are counted as they come.

        Yields:
            pieces of text, and last an empty one that says why the answer ended.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> pieces = reader.stream([medge.user("Name a bone.")], medge.Sampling(limit=4))
            >>> len("".join(piece.text for piece in pieces)) > 0
            True
        """
        yield from self._fragments(self._question(turns, sampling, think, schema), counts or Counts())

    def _fragments(self, question: Question, counts: Counts) -> Iterator[Fragment]:
        """Yield an answer as it is generated, and count its tokens; `stream` and the rest are made of it."""
        check_process()
        with self._turn.one_answer():
            engine = self.engine
            grammar = grammar_of(question.schema) if question.schema is not None else None
            items = self._items(question.messages, question.pictures)
            yield from fragments_of(engine, items, question.sampling, grammar, counts)

    def chat(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """A whole answer.

        Args:
            turns: the conversation; it ends with the user's turn.
            sampling: how long the answer may be, and how its tokens are chosen.
            think: ask the model to think first; its trace is kept apart.
            schema: a JSON schema; the answer is then JSON that it allows, forced by a grammar.

        Raises:
            ContextError: the conversation is longer than the context.
            GeneratorError: the conversation ends with another turn than the user's, or the question is empty.
            ImageError: an image can't be read.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> wanted = {"type": "object", "properties": {"seen": {"enum": ["yes", "no"]}}, "required": ["seen"]}
            >>> answer = reader.chat([medge.user(medge.image("film.dcm"), "Is it a CT?")], schema=wanted)
            >>> json.loads(answer.text)["seen"] in ("yes", "no")
            True
        """
        counts = Counts()
        return answer_of(self._fragments(self._question(turns, sampling, think, schema), counts), counts)

    def ask(
        self, images: ImageSource | Sequence[ImageSource] | None, question: str,
        sampling: Sampling = DEFAULT_SAMPLING, *, view: View = DEFAULT_VIEW, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """Answer a question about one image, several or none.

        Args:
            images: None, one or several, each as in `medge.image`.
            question: the question.
            view: which frame and which window of a file.
            sampling: as in `chat`.
            think: as in `chat`.
            schema: as in `chat`.

        Raises:
            ImageError: an image can't be read.
            ContextError: the images and the question are longer than the context.
            GeneratorError: the question is empty, or the model reads text only and there is an image.

        Examples:
            >>> reader = medge.load_generator("reader", context=512)
            >>> answer = reader.ask("film.dcm", "Which kind of image is this?", medge.Sampling(limit=8))
            >>> answer.tokens <= 8, answer.prompt_tokens > reader.image_tokens
            (True, True)
        """
        return self.chat([about(images, question, view)], sampling, think=think, schema=schema)

    def _with_thinking(self, turns: Sequence[Turn], think: bool) -> list[Turn]:
        if not think:
            return list(turns)
        if turns and turns[0].role == "system":
            return [Turn("system", (THINK, *turns[0].parts)), *turns[1:]]
        return [system(THINK), *turns]

    def _question(
        self, turns: Sequence[Turn], sampling: Sampling, think: bool, schema: dict[str, Any] | None
    ) -> Question:  # fmt: skip
        if not turns or turns[-1].role != "user":
            raise GeneratorError("a conversation must end with the user's turn")
        if not any(not isinstance(part, str) or part.strip() for part in turns[-1].parts):
            raise GeneratorError("the question is empty")
        return Question(*self._prepared(self._with_thinking(turns, think)), sampling, schema)
