"""A chat request in OpenAI's form, and what it means to a generator."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...assistants.agent import Tool, call_schema, explain
from ...generator.conversation import Part, Sampling, Turn
from ..models.catalogue import Entry
from .images import MOST_IMAGES, image_bytes
from .problems import RefusedError
from .service import fitted

LIMIT = 1024  # tokens of an answer where the request sets none
MOST_TOKENS = 32_768
SEEDS = 2**32 - 1  # llama.cpp takes the greatest number of 32 bits for "draw one"


class Given(BaseModel):
    """Fields that are not named here are left alone, since clients send many that matter to other servers."""

    model_config = ConfigDict(extra="ignore")


class ImageURL(Given):
    """An image, as a data URL."""

    url: str = Field(description="data:image/png;base64,... of a PNG, JPEG, TIFF, BMP, WebP or DICOM file")


class ContentPart(Given):
    """A text or an image of a message."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageURL | None = None


class CalledFunction(Given):
    """Which function was called, with its arguments as JSON."""

    name: str = Field(max_length=200)
    arguments: str


class ToolCall(Given):
    """A call that the model made before."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Given):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = Field(None, description="of a tool's result: the call that it answers")


class Function(Given):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})


class FunctionTool(Given):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class NamedFunction(Given):
    """The name of a function."""

    name: str


class NamedTool(Given):
    """The tool that has to be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


class NamedSchema(Given):
    """The JSON schema of the answer."""

    name: str = "answer"
    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Given):
    """The form of the answer, which a grammar forces."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class StreamOptions(Given):
    """What a stream holds besides the answer."""

    include_usage: bool = False


class ChatRequest(Given):
    """A conversation that is to be gone on with."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=500)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    temperature: float = Field(
        0.0, ge=0, le=2, allow_inf_nan=False, description="0, the default, for the likeliest token each time"
    )
    top_p: float = Field(0.95, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, description="the same seed gives the same answer")
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=64)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    reasoning_effort: str | None = Field(None, description="other than none: the model thinks first")
    n: int | None = Field(None, description="1; one answer is made")
    logprobs: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None


@dataclass(frozen=True)
class Asked:
    """What a generator is asked.

    Attributes:
        turns: the conversation; its images are resized for the model.
        sampling: how tokens are chosen.
        schema: the answer's form, or None.
        stops: texts before which the answer ends.
        think: whether the model thinks first.
        calls: whether the answer is a call of a tool, or an answer in the form of `call_schema`.
    """

    turns: list[Turn]
    sampling: Sampling
    schema: dict[str, Any] | None
    stops: tuple[str, ...]
    think: bool
    calls: bool


def read(request: ChatRequest, entry: Entry) -> Asked:
    """A request as a generator is asked; its images are decoded here.

    Raises:
        RefusedError: it asks for what this station can't do.
        ImageError: an image can't be read.
    """
    _refuse_what_is_not_done(request)
    tools, may_answer = _tools(request)
    schema = _schema(request)
    if tools and schema is not None:
        raise RefusedError("response_format and tools can't be used together; leave one out", param="response_format")
    turns = _turns(request.messages, entry)
    if turns[-1].role != "user":
        raise RefusedError("the last message must be the user's or a tool's result", param="messages")
    if tools:
        schema = call_schema(tools, may_answer=may_answer)
        first = next(place for place, turn in enumerate(turns) if turn.role == "user")
        told = explain(tools, may_answer=may_answer)
        turns[first] = Turn("user", (f"{told}\n\n", *turns[first].parts))
    think = request.reasoning_effort not in (None, "none", "minimal")
    return Asked(turns, _sampling(request), schema, _stops(request), think, bool(tools))


def _refuse_what_is_not_done(request: ChatRequest) -> None:
    """What would change the answer and is not done here is refused, since an answer without it would be another one."""
    if request.n not in (None, 1):
        raise RefusedError("one answer is made for a request: leave 'n' out", param="n")
    idle = {
        "logprobs": request.logprobs, "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty, "logit_bias": request.logit_bias,
    }  # fmt: skip
    if (name := next((name for name, value in idle.items() if value), None)) is not None:
        raise RefusedError(f"'{name}' has no effect here: leave it out", param=name)


def _sampling(request: ChatRequest) -> Sampling:
    limit = request.max_completion_tokens or request.max_tokens or LIMIT
    if request.temperature == 0:  # nothing is drawn, so the seed has no part in it
        return Sampling(limit)
    seed = secrets.randbelow(SEEDS) if request.seed is None else request.seed % SEEDS
    return Sampling(limit, request.temperature, seed, top_p=request.top_p)


def _stops(request: ChatRequest) -> tuple[str, ...]:
    given = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(given) > 4 or not all(0 < len(text) <= 200 for text in given):
        raise RefusedError("'stop' takes up to four texts of 1 to 200 characters", param="stop")
    return tuple(given)


def _schema(request: ChatRequest) -> dict[str, Any] | None:
    form = request.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise RefusedError("response_format of type json_schema needs a 'json_schema'", param="response_format")
    return form.json_schema.json_schema


def _tools(request: ChatRequest) -> tuple[list[Tool], bool]:
    """The tools that may be called now, and whether the model may also answer."""
    given = [one.function for one in request.tools or []]
    if request.tool_choice == "none" or not given:
        if isinstance(request.tool_choice, NamedTool) or request.tool_choice == "required":
            raise RefusedError("'tool_choice' asks for a call, and there are no tools", param="tool_choice")
        return [], True
    names = [one.name for one in given]
    if len(set(names)) < len(names):
        raise RefusedError("two tools have the same name", param="tools")
    tools = [Tool(one.name, one.description, one.parameters, _never) for one in given]
    if isinstance(request.tool_choice, NamedTool):
        tools = [tool for tool in tools if tool.name == request.tool_choice.function.name]
        if not tools:
            raise RefusedError("'tool_choice' names no tool of this request", param="tool_choice")
        return tools, False
    return tools, request.tool_choice == "auto"


def _never(**_: Any) -> None:
    """A tool of the client's is called by the client."""
    raise AssertionError


def _turns(messages: list[ChatMessage], entry: Entry) -> list[Turn]:
    """Messages as turns that take turns, as chat templates ask for: those of one role in a row become one."""
    turns: list[Turn] = []
    called: dict[str, str] = {}
    images = 0
    for number, message in enumerate(messages):
        role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
        parts = _parts(message, entry, number)
        images += sum(not isinstance(part, str) for part in parts)
        if images > MOST_IMAGES:
            raise RefusedError(f"a request takes at most {MOST_IMAGES} images", param="messages")
        if message.role == "assistant" and message.tool_calls:
            call = message.tool_calls[0].function
            called |= {one.id: one.function.name for one in message.tool_calls}
            parts = (json.dumps({"tool": call.name, "arguments": _arguments(call, number)}),)
        if message.role == "tool":
            name = called.get(message.tool_call_id or "", "the tool")
            parts = (f"{name} returned: ", *parts)
        if not parts:
            raise RefusedError("a message is empty", param=f"messages.{number}.content")
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, (*turns[-1].parts, "\n\n", *parts))
        else:
            turns.append(Turn(role, parts))
    return turns


def _arguments(call: CalledFunction, number: int) -> Any:
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        raise RefusedError("the arguments of a call are no JSON", param=f"messages.{number}.tool_calls") from error


def _parts(message: ChatMessage, entry: Entry, number: int) -> tuple[Part, ...]:
    if message.content is None:
        return ()
    if isinstance(message.content, str):
        return (message.content,) if message.content.strip() else ()
    found: list[Part] = []
    for place, part in enumerate(message.content):
        param = f"messages.{number}.content.{place}"
        if part.type == "text":
            if part.text is None:
                raise RefusedError("a part of type text has no text", param=param)
            found.append(part.text)
            continue
        if part.image_url is None:
            raise RefusedError("a part of type image_url has no image_url", param=param)
        if message.role != "user":
            raise RefusedError("images belong to the user's messages", param=param)
        if not entry.image_size:
            raise RefusedError("this model reads text only; leave the images out", param=param)
        found.append(fitted(entry, image_bytes(part.image_url.url, param)))
    return tuple(found)
