"""The generator: a MedGemma bundle that answers about images and texts.

generator = medge.load("bundle")
generator.ask("film.dcm", "Is there a pleural effusion?").text
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .bundle import Bundle
from .chat_template import IMAGE_MARK, Message, render
from .engine import Engine, Item, Picture, Sampling, length
from .errors import BundleError, ContextError, GeneratorError
from .gguf_header import GGUFHeader, read_header
from .images import ImageSource, find_images, read_image
from .planner import DEFAULT_CONTEXT, Plan, plan
from .preprocess import get_profile
from .series import MOST_SLICES, Series, read_series

if TYPE_CHECKING:
    from .agent import Agent, Tool
    from .radiology_report import Report, Template
    from .record import RecordAnswer

# MedGemma writes its trace between these two (its model card's notebooks call it "thinking").
THOUGHT, THOUGHT_END = "<unused94>", "<unused95>"
THINK = "SYSTEM INSTRUCTION: think silently if needed."
DEFAULT_LIMIT = 512  # tokens of an answer
Part = str | ImageSource
Stop = Literal["end", "limit", "context"]


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. A `str` is text; an image is a `Path`, a PIL image or an array."""

    role: str
    parts: tuple[Part, ...]


def user(*parts: Part) -> Turn:
    """What the user says: texts and images in any order."""
    return Turn("user", parts)


def assistant(text: str) -> Turn:
    """What the model said before."""
    return Turn("assistant", (text,))


def system(text: str) -> Turn:
    """An instruction ahead of the conversation."""
    return Turn("system", (text,))


@dataclass(frozen=True)
class Fragment:
    """A piece of an answer as it comes; `thought` where it belongs to the trace."""

    text: str
    thought: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        text: the answer.
        thought: the trace that came before it, or "".
        stop: why it ended: the model was done, `limit` was reached, or the context is full.
        prompt_tokens, reused_tokens, tokens: of the prompt, of it already evaluated before, of the answer.
    """

    text: str
    thought: str
    stop: Stop
    prompt_tokens: int
    reused_tokens: int
    tokens: int


class Generator:
    """A language model of a bundle, opened on first use.

    Args:
        bundle: an opened bundle.
        context: positions to make room for; the planner's choice where None.
        threads, gpu_layers: as in `Engine`; the planner's choice where None.
    """

    def __init__(
        self, bundle: Bundle, *, context: int | None = None, threads: int | None = None, gpu_layers: int | None = None
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.facts = bundle.manifest.generator
        self._asked = (context, threads, gpu_layers)
        self._longest = DEFAULT_CONTEXT

    @cached_property
    def header(self) -> GGUFHeader:
        """The checked head of the language model's file."""
        path = self.bundle.path("language")
        if path is None:
            raise BundleError(f"{self.bundle.folder} has no language model")
        return read_header(path)

    @cached_property
    def plan(self) -> Plan:
        """What this device gives the model: context, threads, layers on a GPU.

        Raises:
            ContextError: the model does not fit; says what it needs and what there is.
        """
        context, threads, gpu_layers = self._asked
        return plan(self.bundle, context=context, threads=threads, gpu_layers=gpu_layers, longest=self._longest)

    @cached_property
    def engine(self) -> Engine:
        chosen = self.plan.checked()
        projector = self.bundle.path("projector")
        if projector is not None and projector.suffix == ".gguf":  # an ONNX tower is checked by its first image
            _check_pair(self.header, read_header(projector), self.bundle.folder)
        return Engine(
            self.header.path, projector, context=chosen.context, threads=chosen.threads, gpu_layers=chosen.gpu_layers,
        )  # fmt: skip

    def close(self) -> None:
        """Free the model's memory; it is opened again when it is used again."""
        self.__dict__.pop("plan", None)
        if "engine" in self.__dict__:
            self.__dict__.pop("engine").close()

    # Prompts

    def picture(self, source: ImageSource) -> Picture:
        """An image as the vision tower takes it: resized here, as the original's processor does."""
        if not self.facts.image_tokens:
            raise GeneratorError(f"{self.manifest.name} reads text only, it has no vision tower for an image")
        pixels: NDArray[np.uint8] = get_profile(self.manifest.profile).resize(read_image(source), self.facts.image_size)
        return Picture.of(pixels, self.facts.image_tokens)

    def encode(self, turns: Sequence[Turn]) -> list[Item]:
        """A conversation to token ids and images, as the original's processor writes it."""
        pictures = [self.picture(part) for turn in turns for part in turn.parts if not isinstance(part, str)]
        template = self.header.metadata.get("tokenizer.chat_template")
        if not isinstance(template, str):
            raise BundleError(f"{self.header.path} carries no chat template; export it from a checkpoint that has one")
        messages = [Message(t.role, tuple(part if isinstance(part, str) else None for part in t.parts)) for t in turns]
        engine, waiting = self.engine, iter(pictures)
        items: list[Item] = []
        for text, trusted in render(template, messages, is_control=self._holds_control_token):
            if not trusted:
                items += engine.tokenize(text, special=False)
                continue
            # Gemma's processor puts an image's tokens between its marks, and blank lines around them.
            before, *rest = text.split(IMAGE_MARK)
            pieces = [before]
            for after in rest:
                pieces[-1] += f"\n\n{IMAGE_MARK}"
                pieces.append(f"<end_of_image>\n\n{after}")
            for index, piece in enumerate(pieces):
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
        vocabulary, lib = self.engine._vocabulary, self.engine.lib
        return "<" in text and any(lib.llama_vocab_is_control(vocabulary, t) for t in self.engine.tokenize(text))

    # Answers

    def stream(
        self, turns: Sequence[Turn], *, limit: int = DEFAULT_LIMIT, temperature: float = 0.0, seed: int = 0,
        think: bool = False, schema: dict[str, Any] | None = None,
    ) -> Iterator[Fragment]:  # fmt: skip
        """Yield an answer as it is generated. The same arguments give the same answer.

        Args:
            turns: the conversation; it ends with the user's turn.
            limit: most tokens to generate.
            temperature: 0 for the likeliest token each time, else how freely to sample, with `seed`.
            think: ask the model to think first; its trace comes as fragments of their own.
            schema: a JSON schema; the answer is then JSON that it allows, forced by a grammar.

        Raises:
            ContextError: the conversation is longer than the context.
        """
        yield from self._run(self._with_thinking(turns, think), limit, temperature, seed, schema).fragments()

    def chat(
        self, turns: Sequence[Turn], *, limit: int = DEFAULT_LIMIT, temperature: float = 0.0, seed: int = 0,
        think: bool = False, schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """A whole answer; arguments as in `stream`."""
        return self._run(self._with_thinking(turns, think), limit, temperature, seed, schema).answer()

    def ask(self, images: ImageSource | Sequence[ImageSource] | None, question: str, **options: Any) -> Answer:
        """Answer a question about one image, several or none; options as in `chat`."""
        return self.chat([user(*_listed(images), question)], **options)

    def read_series(self, paths: Sequence[Path], question: str, **options: Any) -> tuple[Answer, Series]:
        """Answer a question about a CT series, as MedGemma 1.5 reads it; returns what was shown, too.

        Slices are sampled evenly when there are more than the model takes, or than memory allows room for: unless the
        caller has set the context, it is made long enough for them as far as that fits.
        """
        each, rest = self.facts.image_tokens + 16, options.get("limit", DEFAULT_LIMIT) + 256
        wanted = min(MOST_SLICES, sum(1 for _ in find_images(list(paths)))) * each + rest
        if self._asked[0] is None and wanted > self._longest:
            self._longest = wanted
            self.close()
        most = (self.engine.context - rest) // each
        if most < 1:
            raise ContextError(f"a context of {self.engine.context} tokens has no room for a slice and an answer")
        series = read_series(paths, min(MOST_SLICES, most))
        slices = [part for number, image in enumerate(series.slices, 1) for part in (image, f"SLICE {number}")]
        return self.chat([user(*slices, question)], **options), series

    def report(
        self, images: ImageSource | Sequence[ImageSource], template: str | Template = "general", **options: Any
    ) -> Report:
        """Findings and impression of one image or several; see `radiology_report.write_report`."""
        from .radiology_report import write_report

        return write_report(self, images, template, **options)

    def record(self, source: str | Path | dict[str, Any], question: str, **options: Any) -> RecordAnswer:
        """Answer a question over a FHIR R4 bundle; see `record.answer_from_record`."""
        from .record import answer_from_record

        return answer_from_record(self, source, question, **options)

    def agent(self, tools: Sequence[Callable[..., Any] | Tool], **options: Any) -> Agent:
        """An agent with these tools; options as in `agent.Agent`."""
        from .agent import Agent

        return Agent(self, tools, **options)

    def _with_thinking(self, turns: Sequence[Turn], think: bool) -> list[Turn]:
        if not think:
            return list(turns)
        if turns and turns[0].role == "system":
            return [Turn("system", (THINK + "\n", *turns[0].parts)), *turns[1:]]
        return [system(THINK), *turns]

    def _run(
        self, turns: Sequence[Turn], limit: int, temperature: float, seed: int, schema: dict[str, Any] | None
    ) -> _Run:
        if not turns or turns[-1].role != "user":
            raise GeneratorError("a conversation must end with the user's turn")
        sampling = Sampling(temperature, seed=seed, grammar=grammar_of(schema) if schema is not None else None)
        return _Run(self.engine, self.encode(turns), limit, sampling)


@dataclass
class _Run:
    """One answer being generated: splits bytes into text, and the trace from the answer."""

    engine: Engine
    items: list[Item]
    limit: int
    sampling: Sampling
    tokens: int = 0
    reused: int = 0

    def fragments(self) -> Iterator[Fragment]:
        engine, pending, thinking = self.engine, b"", False
        begin, end = (engine.tokenize(mark) for mark in (THOUGHT, THOUGHT_END))
        for token in engine.generate(self.items, self.limit, self.sampling):
            self.tokens += 1
            self.reused = engine.reused
            if [token] in (begin, end):
                if pending:
                    yield Fragment(pending.decode("utf-8", "replace"), thinking)
                pending, thinking = b"", [token] == begin
                continue
            pending += engine.piece(token)
            text, pending = _whole_characters(pending)
            if text:
                yield Fragment(text, thinking)
        if pending:
            yield Fragment(pending.decode("utf-8", "replace"), thinking)

    def answer(self) -> Answer:
        texts = {True: "", False: ""}
        for fragment in self.fragments():
            texts[fragment.thought] += fragment.text
        used = length(self.items)
        full = used + self.tokens >= self.engine.context
        stop: Stop = "context" if full else "limit" if self.tokens >= self.limit else "end"
        thought = texts[True].removeprefix("thought").strip()
        return Answer(texts[False].strip(), thought, stop, used, self.reused, self.tokens)


def _whole_characters(data: bytes) -> tuple[str, bytes]:
    """Decode as far as characters are complete; the beginning of another one waits for its next token."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            need = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4 if byte >> 3 == 30 else 1
            if need > back:
                return data[:-back].decode("utf-8", "replace"), data[-back:]
            break
    return data.decode("utf-8", "replace"), b""


def grammar_of(schema: dict[str, Any]) -> str:
    """A JSON schema to the grammar (GBNF) that allows just its values."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        grammar = json_schema_to_gbnf(json.dumps(schema), prop_order=list(schema.get("properties", {})))
    except (AssertionError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise GeneratorError(f"the JSON schema can't be made into a grammar: {error}") from error
    return _NESTED.sub(_as_repetition, grammar)


# llama-cpp-python writes "at most n characters" as n nested brackets, too deep for llama.cpp's parser at a few hundred.
_NESTED = re.compile(r"\bchar((?: \(char)+)((?:\)\?)+)")


def _as_repetition(found: re.Match[str]) -> str:
    """ "char (char (char)?)?" to "char{1,3}"."""
    opened, closed = found[1].count("("), found[2].count(")")
    return f"char{{1,{opened + 1}}}" + ")?" * (closed - opened)


def _listed(images: ImageSource | Sequence[ImageSource] | None) -> list[ImageSource]:
    """Images as they go into a turn, where a `str` would be taken for text."""
    if images is None:
        return []
    single = isinstance(images, str | os.PathLike | Image.Image | np.ndarray)
    many: Iterable[Any] = [images] if single else images  # type: ignore[assignment]
    return [Path(item) if isinstance(item, str) else item for item in many]


def _check_pair(language: GGUFHeader, projector: GGUFHeader, folder: Path) -> None:
    """A projector of another model would be taken by llama.cpp's loader up to a crash, or speak to no one."""
    made, read = projector.metadata.get("clip.vision.projection_dim"), language.get("embedding_length")
    if projector.architecture != "clip" or made != read:
        raise BundleError(
            f"{folder}: {projector.path.name} is a projector of another model (it makes {made} numbers a token, "
            f"{language.path.name} reads {read})"
        )


def load(
    folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, context: int | None = None,
    threads: int | None = None, gpu_layers: int | None = None,
) -> Generator:  # fmt: skip
    """Open a language model's bundle for use.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        context: tokens to make room for; as many as fit, up to 8192, where None.
        threads: threads; all usable cores where None.
        gpu_layers: layers on a GPU; as many as fit, where llama.cpp was built for one, where None.

    Raises:
        BundleError: missing, half-written, changed, too new, or (`ParityGateError`) too far from the original.
    """
    bundle = Bundle.open(folder, verify=verify, allow_failed_parity=allow_failed_parity)
    return Generator(bundle, context=context, threads=threads, gpu_layers=gpu_layers)
