"""`/v1/models` and `/v1/chat/completions`, in OpenAI's form."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ..models.catalogue import Entry
from .answering import FINISH, Call, Running, read_reply
from .chat_request import ChatRequest, read
from .problems import LOG, ProblemBody, RefusedError, problem_of
from .service import At
from .who import who_of

router = APIRouter(tags=["OpenAI"])


class Model(BaseModel):
    """A bundle of this station; `kind`, `parity` and `recipes` are medge's own."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "medge"
    kind: Literal["encoder", "generator"]
    parity: str
    recipes: dict[str, str]


class ModelList(BaseModel):
    """The bundles of this station."""

    object: Literal["list"] = "list"
    data: list[Model]


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """The answer, or the calls that the model wants made; `reasoning_content` is what it thought first."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: AnswerMessage
    finish_reason: str


class ChatCompletion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


def _model(entry: Entry) -> Model:
    return Model(id=entry.id, created=entry.created, kind=entry.kind, parity=entry.parity, recipes=entry.recipes)


@router.get("/v1/models", summary="The bundles of this station")
async def models(at: At) -> ModelList:
    """Each bundle with its kind, its recipes and the verdict of its parity measurement."""
    return ModelList(data=[_model(entry) for entry in at.catalogue.entries.values()])


@router.get("/v1/models/{model}", summary="One bundle", responses={404: {"model": ProblemBody}})
async def model(at: At, model: str) -> Model:
    """As in the list."""
    if (entry := at.catalogue.entries.get(model)) is None:
        raise RefusedError("this station has no model of that name", status=404, param="model", code="model_not_found")
    return _model(entry)


_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post(
    "/v1/chat/completions", summary="Ask a language model", response_model=ChatCompletion,
    responses={
        200: {"content": _EVENTS}, 400: {"model": ProblemBody}, 404: {"model": ProblemBody}, 429: {"model": ProblemBody},
        503: {"model": ProblemBody},
    },
)  # fmt: skip
async def chat(request: Request, asked: ChatRequest, at: At) -> Any:
    """Answers one conversation at a time. While others are before it, a stream tells the place and the seconds left in comments
    (`: place 2, about 40 s`), which clients skip; `medge-queue-place` and `medge-queue-seconds` tell them in the header.

    Images are data URLs. `response_format` and `tools` force the answer into form by a grammar. With tools, a reply is either one
    call or an answer, and a stream brings it in one piece.
    """
    entry = at.catalogue.get(asked.model, "generator")
    question = await at.aside(read, asked, entry)
    await at.note_question(who_of(request).name, entry)
    running = Running(at, entry, question)
    ticket = running.ticket
    headers = {"medge-queue-place": str(ticket.place), "medge-queue-seconds": str(round(ticket.seconds))}
    head: dict[str, Any] = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": entry.id}
    head["system_fingerprint"] = f"medge-{entry.recipes.get('language', '')}"
    calls = bool(asked.tools) and asked.tool_choice != "none"
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        events = _events(running, head, calls=calls, usage=usage)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    texts, finish = {True: "", False: ""}, ""
    async for fragment in running:
        if fragment is None:
            if await request.is_disconnected():
                running.stop()
                raise RefusedError("the client has gone", status=499)
            continue
        texts[fragment.thought] += fragment.text
        finish = FINISH[fragment.stop] if fragment.stop else finish
    message, finish = _message(texts[False].strip(), finish, calls=calls)
    message.reasoning_content = texts[True].removeprefix("thought").strip() or None
    return ChatCompletion(**head, choices=[Choice(message=message, finish_reason=finish)], usage=_usage(running))


def _usage(running: Running) -> Usage:
    prompt, tokens = running.counts.prompt, running.counts.tokens
    return Usage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)


def _message(text: str, finish: str, *, calls: bool) -> tuple[AnswerMessage, str]:
    """The answer's message, and why it ended."""
    reply = read_reply(text) if calls else text
    if isinstance(reply, str):
        return AnswerMessage(content=reply), finish
    return AnswerMessage(content=None, tool_calls=[_call(reply)]), "tool_calls"


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


async def _events(running: Running, head: dict[str, Any], *, calls: bool, usage: bool) -> AsyncIterator[str]:
    """The answer as server-sent events; an error after the first is one of them."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    whole = ""
    try:
        yield chunk({"role": "assistant", "content": ""})
        async for fragment in running:
            if fragment is None:
                yield f": place {running.ticket.place}, about {running.ticket.seconds:.0f} s\n\n"
            elif fragment.stop is not None:
                message, finish = _message(whole.strip(), FINISH[fragment.stop], calls=calls)
                if message.tool_calls:
                    yield chunk({"tool_calls": [{"index": 0, **message.tool_calls[0]}]})
                elif calls:
                    yield chunk({"content": message.content})
                yield chunk({}, finish)
            elif fragment.thought:
                yield chunk({"reasoning_content": fragment.text})
            elif calls:
                whole += fragment.text
            else:
                yield chunk({"content": fragment.text})
        if usage:
            told = {"usage": _usage(running).model_dump()}
            yield _event({**head, "object": "chat.completion.chunk", "choices": [], **told})
    except Exception as error:
        status, problem = problem_of(error)
        LOG.info("a stream ended with %d", status)
        yield _event({"error": problem.model_dump()})
    finally:
        running.stop()
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
