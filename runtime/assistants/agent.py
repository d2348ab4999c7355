"""An agent: a language model that calls your functions, each call forced into form by a grammar.

    agent = Agent(reader, [look_up, *encoder_tools(encoder)])
    agent.run("Which of these films shows a pneumothorax?").answer

A tool is a function with type hints and a docstring; its parameters are str, int, float, bool, a `Literal` or a list.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import GeneratorError, ToolError
from ..generator.conversation import Chat, Part, Sampling, Turn, assistant, user
from ..notebook import paragraph, table

if TYPE_CHECKING:
    from ..encoder.encoder import Encoder

_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string", "maxLength": 400}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
}  # fmt: skip
FINISH = "answer"
STEP_SAMPLING = Sampling(limit=400)
MOST_RESULT = 2000  # characters of a tool's result that the model is shown


@dataclass(frozen=True)
class Tool:
    """A function the model can call.

    Attributes:
        name, description: what the model is told.
        parameters: a JSON schema of its arguments.
        function: what is called.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any]

    @classmethod
    def of(cls, function: Callable[..., Any] | Tool) -> Tool:
        """Describe a function by its signature and docstring.

        Raises:
            ToolError: a parameter's type has no place in JSON, or there is no docstring.
        """
        if isinstance(function, Tool):
            return function
        name = getattr(function, "__name__", type(function).__name__)
        description = inspect.getdoc(function)
        if not description:
            raise ToolError(f"tool {name}: it needs a docstring, which is what the model is told of it")
        try:
            hints = typing.get_type_hints(function)
        except NameError as error:
            raise ToolError(f"tool {name}: a type hint can't be resolved ({error})") from error
        properties, required = {}, []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ToolError(f"tool {name}: *{parameter.name} can't be described to a model; name the parameters")
            properties[parameter.name] = _schema(hints.get(parameter.name), name, parameter.name)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return cls(name, description, schema, function)


def _schema(hint: Any, tool: str, parameter: str) -> dict[str, Any]:
    if hint in _TYPES:
        return _TYPES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list and arguments:
        return {"type": "array", "items": _schema(arguments[0], tool, parameter), "maxItems": 16}
    raise ToolError(
        f"tool {tool}: parameter {parameter} has the type {hint!r}; use str, int, float, bool, Literal or list of these"
    )


@dataclass(frozen=True)
class Step:
    """One thing the agent did: a call with its result, or with the error that the tool raised."""

    tool: str
    arguments: dict[str, Any]
    result: str
    failed: bool = False


@dataclass
class Outcome:
    """What a run came to; `answer` is "" where the steps ran out first."""

    answer: str = ""
    steps: list[Step] = field(default_factory=list)

    def _repr_html_(self) -> str:
        rows = [(step.tool, json.dumps(step.arguments, ensure_ascii=False), step.result) for step in self.steps]
        return (table(("tool", "arguments", "result"), rows) if rows else "") + paragraph(self.answer)


class Agent:
    """A conversation in which the model may call tools before it answers.

    Args:
        chat: the model.
        tools: functions or `Tool`s.
        instruction: who the model is to be.
        most_steps: calls before it has to answer.
        sampling: of each call and of the answer.

    Raises:
        ToolError: a tool can't be described to a model.

    Examples:
        >>> def room_of(patient: str) -> str:
        ...     "Say in which room a patient lies."
        ...     return "room 4"
        >>> agent = medge.Agent(medge.load_generator("reader", context=1024), [room_of], most_steps=1)
        >>> agent
        <Agent with the tools room_of>
        >>> outcome = agent.run("Where does Mr. Smith lie?")
        >>> len(outcome.steps) <= 1
        True
    """

    def __init__(
        self, chat: Chat, tools: Sequence[Callable[..., Any] | Tool], *, instruction: str = "",
        most_steps: int = 6, sampling: Sampling = STEP_SAMPLING,
    ) -> None:  # fmt: skip
        self.chat, self.sampling, self.most_steps = chat, sampling, most_steps
        self.tools = {tool.name: tool for tool in map(Tool.of, tools)}
        if FINISH in self.tools:
            raise ToolError(f"no tool may be called {FINISH!r}: that is how the model ends")
        self.turns: list[Turn] = []
        self._instruction = instruction
        self._lock, self._in_use_by = threading.Lock(), 0

    def __repr__(self) -> str:
        return f"<Agent with the tools {', '.join(self.tools) or 'none'}>"

    def _repr_html_(self) -> str:
        return table(("tool", "what it does"), [(tool.name, tool.description) for tool in self.tools.values()], "Agent")

    def run(self, *parts: Part) -> Outcome:
        """Put a question, with images where there are some, and let the model work until it answers.

        A tool that raises does not end the run: the model is told the error and goes on. An agent is one conversation: threads
        need one each.

        Raises:
            GeneratorError: another thread is in the middle of an answer.

        Examples:
            >>> def room_of(patient: str) -> str:
            ...     "Say in which room a patient lies."
            ...     return "room 4"
            >>> agent = medge.Agent(medge.load_generator("reader", context=1024), [room_of], most_steps=1)
            >>> isinstance(agent.run(Path("film.dcm"), "In which room was this film taken?").answer, str)
            True
        """
        outcome = Outcome()
        for step in self.steps(*parts):
            if isinstance(step, Step):
                outcome.steps.append(step)
            else:
                outcome.answer = step
        return outcome

    def steps(self, *parts: Part) -> Iterator[Step | str]:
        """Yield each step when it is done, and last the answer.

        Raises:
            GeneratorError: another thread is in the middle of an answer.

        Examples:
            >>> def room_of(patient: str) -> str:
            ...     "Say in which room a patient lies."
            ...     return "room 4"
            >>> agent = medge.Agent(medge.load_generator("reader", context=1024), [room_of], most_steps=1)
            >>> isinstance([*agent.steps("Where does Mr. Smith lie?")][-1], str)  # the answer
            True
        """
        with self._conversation():
            yield from self._steps(parts)

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[None]:
        """This thread's until the answer is there: questions of two would be mixed into one conversation."""
        mine = threading.get_ident()
        with self._lock:
            if self._in_use_by not in (0, mine):
                raise GeneratorError(
                    "this agent is in the middle of an answer in another thread; make an agent for each conversation"
                )
            self._in_use_by = mine
        try:
            yield
        finally:
            self._in_use_by = 0

    def _steps(self, parts: tuple[Part, ...]) -> Iterator[Step | str]:
        opening = f"{self._preamble()}\n\n" if not self.turns else ""
        self.turns.append(user(*([opening] if opening else []), *parts))
        for number in range(self.most_steps + 1):
            chosen = [] if number == self.most_steps else list(self.tools.values())
            reply = self.chat.chat(self.turns, self.sampling, schema=call_schema(chosen))
            self.turns.append(assistant(reply.text))
            try:
                call = json.loads(reply.text)
            except ValueError:  # the token limit cut it off
                yield reply.text
                return
            if FINISH in call:
                yield str(call[FINISH])
                return
            step = self._call(call["tool"], call["arguments"])
            yield step
            said = "raised an error" if step.failed else "returned"
            self.turns.append(user(f"{step.tool} {said}: {step.result}"))

    def _call(self, name: str, arguments: dict[str, Any]) -> Step:
        try:
            result = self.tools[name].function(**arguments)
        except Exception as error:  # whatever a user's function raises is for the model to see, not to die of
            return Step(name, arguments, f"{type(error).__name__}: {error}"[:MOST_RESULT], failed=True)
        text = result if isinstance(result, str) else json.dumps(result, default=str, ensure_ascii=False)
        return Step(name, arguments, text[:MOST_RESULT])

    def _preamble(self) -> str:
        return "\n".join([*([self._instruction] if self._instruction else []), explain(list(self.tools.values()))])


def explain(tools: Sequence[Tool], *, may_answer: bool = True) -> str:
    """What a model is told of the tools that it can call, and of the form of its reply, which `call_schema` describes."""
    described = [
        f"- {tool.name}({', '.join(tool.parameters.get('properties', {}))}): {' '.join(tool.description.split())}"
        for tool in tools
    ]
    done = ', or {"answer": text} when you are done' if may_answer else ""
    form = f'Reply with JSON: {{"tool": name, "arguments": {{...}}}} to call one{done}.'
    return "\n".join(["You can call these tools:", *described, form])


def call_schema(tools: Sequence[Tool], *, may_answer: bool = True) -> dict[str, Any]:
    """The schema of one reply: a call of one of the tools, or, where the model may, the answer."""
    calls = [
        {
            "type": "object", "properties": {"tool": {"const": tool.name}, "arguments": tool.parameters},
            "required": ["tool", "arguments"], "additionalProperties": False,
        }
        for tool in tools
    ]  # fmt: skip
    if calls and not may_answer:
        return {"oneOf": calls}
    text = {"type": "string", "minLength": 1, "maxLength": 1200}
    done = {"type": "object", "properties": {FINISH: text}, "required": [FINISH], "additionalProperties": False}
    return {"oneOf": [*calls, done]} if calls else done


def encoder_tools(encoder: Encoder, index: Path | None = None) -> list[Tool]:
    """A MedSigLIP bundle as tools: classify an image file, and, given an index, search it by words.

    Args:
        encoder: the opened bundle.
        index: a vector index made by `medge index build` with this bundle.

    Examples:
        >>> [tool.name for tool in medge.encoder_tools(medge.load_encoder("bundle"))]
        ['classify']
    """

    def classify(image: str, labels: list[str]) -> list[dict[str, Any]]:
        """Score an image file against labels; returns them with their probabilities, likeliest first. Of several labels one is
        taken to hold; a single one may not hold at all."""
        if not labels:
            raise ToolError("give at least one label")
        ranked = encoder.classify(Path(image), labels)[0].ranked()
        if ranked[0].probability is None:
            raise ToolError("this model only chooses among labels: give at least two")
        return [{"label": score.label, "probability": round(score.probability or 0.0, 3)} for score in ranked]

    def search(words: str, count: int = 5) -> list[dict[str, Any]]:
        """Find the images of the archive that a description fits best; returns file names with their similarity."""
        from ..encoder.vector_index import VectorIndex

        assert index is not None
        with VectorIndex.open(index, encoder.fingerprint) as opened:
            hits = opened.search(encoder.embed_texts(words)[0], max(1, min(count, 20)))
        return [{"image": hit.path, "similarity": round(hit.cosine, 3)} for hit in hits]

    return [Tool.of(classify), *([Tool.of(search)] if index is not None else [])]
