"""The chat interface, used by OpenAI's own client against the application in this process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from PIL import Image
from station_fakes import TOO_LONG, FakeGenerator, catalogue, entries, shelf

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("openai", reason="openai is not installed: pip install openai")

import openai

from medge.runtime.errors import ModelEndedError
from medge.runtime.generator.conversation import Sampling
from medge.runtime.station.api.answering import Running, Stops
from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.chat_request import Asked
from medge.runtime.station.api.service import Service
from medge.runtime.station.models.answers import AnswerQueue

HELLO = [{"role": "user", "content": "Is the heart enlarged?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up", "description": "Look a patient's room up.",
        "parameters": {"type": "object", "properties": {"bed": {"type": "integer"}}, "required": ["bed"]},
    },
}  # fmt: skip
Use = Callable[[Any], Coroutine[Any, Any, Any]]


def png(colour: tuple[int, int, int] = (200, 30, 30), size: int = 20) -> str:
    content = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def use(generator: FakeGenerator, work: Use, queue: AnswerQueue | None = None) -> Any:
    """What `work` gives with a client of a station with this generator."""

    async def run() -> Any:
        service = Service(catalogue(), shelf(generator), AnswerQueue() if queue is None else queue)
        module = openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[
            0
        ]  # httpx, or httpx2 from version 3 on
        httpx = __import__(module)
        transport = httpx.ASGITransport(create_app(service))
        http = httpx.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(
            api_key="none", base_url="http://localhost/v1", http_client=http, max_retries=0
        ) as client:
            return await work(client)

    return asyncio.run(run())


def ask(generator: FakeGenerator, **given: Any) -> Any:
    given = {"model": "reader", "messages": HELLO} | given
    return use(generator, lambda client: client.chat.completions.create(**given))


def streamed(generator: FakeGenerator, **given: Any) -> list[Any]:
    async def work(client: Any) -> list[Any]:
        given_here = {"model": "reader", "messages": HELLO} | given
        return [chunk async for chunk in await client.chat.completions.create(stream=True, **given_here)]

    return use(generator, work)


def test_an_answer() -> None:
    generator = FakeGenerator()
    found = ask(generator, max_tokens=50)
    assert found.choices[0].message.content == "The heart is of normal size."
    assert found.choices[0].finish_reason == "stop"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (7, 6, 13)
    assert found.system_fingerprint == "medge-q4_k_m"
    [(turns, sampling, think, schema)] = generator.asked
    assert [(turn.role, turn.parts) for turn in turns] == [("user", ("Is the heart enlarged?",))]
    assert (sampling.limit, sampling.temperature, think, schema) == (50, 0, False, None)


def test_a_limit_and_sampling() -> None:
    generator = FakeGenerator()
    found = ask(generator, max_completion_tokens=2, temperature=0.7, top_p=0.5, seed=2**40 + 3)
    assert found.choices[0].message.content == "The heart"
    assert found.choices[0].finish_reason == "length"
    sampling = generator.asked[0][1]
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.7, 0.5, (2**40 + 3) % (2**32 - 1))


def test_a_stream_with_usage() -> None:
    chunks = streamed(FakeGenerator(), stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == FakeGenerator().script
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 13


def test_a_stop_that_comes_in_two_pieces() -> None:
    generator = FakeGenerator("no effusion. STOP here, and more")
    for found in (
        ask(generator, stop=["P h"]).choices[0].message.content,
        "".join(chunk.choices[0].delta.content or "" for chunk in streamed(generator, stop="P h")).strip(),
    ):
        assert found == "no effusion. STO"


def test_what_may_begin_a_stop_is_held_back_and_given_at_the_end() -> None:
    stops = Stops(("abc", "x"))
    assert [stops.feed(piece) for piece in ("ha", "b", "d", "a")] == ["h", "", "abd", ""]
    assert not stops.found
    assert stops.rest() == "a"


def test_images_reach_the_model_resized_in_their_place() -> None:
    generator = FakeGenerator()
    content = [
        {"type": "text", "text": "compare"}, {"type": "image_url", "image_url": {"url": png()}},
        {"type": "image_url", "image_url": {"url": png((0, 0, 250))}}, {"type": "text", "text": "and say"},
    ]  # fmt: skip
    ask(generator, messages=[{"role": "system", "content": "be short"}, {"role": "user", "content": content}])
    system, user = generator.asked[0][0]
    assert (system.role, system.parts) == ("system", ("be short",))
    assert [part if isinstance(part, str) else (part.shape, tuple(part[0, 0])) for part in user.parts] == [
        "compare", ((8, 8, 3), (200, 30, 30)), ((8, 8, 3), (0, 0, 250)), "and say",
    ]  # fmt: skip


def test_a_schema_is_handed_to_the_grammar() -> None:
    generator = FakeGenerator('{"seen": true}')
    schema = {"type": "object", "properties": {"seen": {"type": "boolean"}}}
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
    assert json.loads(ask(generator, response_format=form).choices[0].message.content) == {"seen": True}
    assert generator.asked[0][3] == schema


def test_a_tool_is_called_and_its_result_read() -> None:
    generator = FakeGenerator('{"tool": "look_up", "arguments": {"bed": 4}}')
    choice = ask(generator, tools=[TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "look_up"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"bed": 4}
    turns, _, _, schema = generator.asked[0]
    assert "look_up(bed): Look a patient's room up." in turns[0].parts[0]
    assert [list(one["properties"]) for one in schema["oneOf"]] == [["tool", "arguments"], ["answer"]]
    last = streamed(generator, tools=[TOOL])[-2]
    assert last.choices[0].delta.tool_calls[0].function.name == "look_up"

    generator.script = '{"answer": "room 9"}'
    message = choice.message.model_dump(exclude_none=True)
    told = [*HELLO, message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "room 9"}]
    assert ask(generator, tools=[TOOL], messages=told).choices[0].message.content == "room 9"
    said = generator.asked[-1][0]
    assert [turn.role for turn in said] == ["user", "assistant", "user"]
    assert said[2].parts == ("look_up returned: ", "room 9")


def test_a_required_tool_leaves_no_answer() -> None:
    generator = FakeGenerator('{"tool": "look_up", "arguments": {"bed": 4}}')
    ask(generator, tools=[TOOL], tool_choice="required")
    assert [list(one["properties"]) for one in generator.asked[0][3]["oneOf"]] == [["tool", "arguments"]]
    ask(generator, tools=[TOOL], tool_choice="none")
    assert generator.asked[1][3] is None


def test_thinking_is_kept_apart() -> None:
    generator = FakeGenerator("Normal.")
    generator.thought = "thought\nlook at the heart"
    message = ask(generator, reasoning_effort="low").choices[0].message
    assert (message.content, message.reasoning_content) == ("Normal.", "look at the heart")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 2}, "one answer is made"),
        ({"logprobs": True}, "'logprobs' has no effect here"),
        ({"temperature": 3}, "temperature: Input should be less than or equal to 2"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "yes"}]}, "the last message must be the user's"),
        ({"stop": [""]}, "'stop' takes up to four texts"),
        ({"tools": [TOOL, TOOL]}, "two tools have the same name"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "can't be used together"),
    ],
)
def test_what_is_not_done_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    generator = FakeGenerator()
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        ask(generator, **given)
    assert refused.value.type == "invalid_request_error"
    assert generator.asked == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/film.png", "the station fetches nothing"),
        ("file:///etc/passwd", "the station fetches nothing"),
        ("/etc/passwd", "no base64"),
        ("data:image/png;base64,aGVsbG8=", "can't|not an image|no image|cannot"),
    ],
)
def test_an_image_that_is_none(url: str, words: str) -> None:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError, match=words):
        ask(FakeGenerator(), messages=[{"role": "user", "content": content}])


def test_other_errors_have_their_status() -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(FakeGenerator(), model="gpt-4o")
    assert missing.value.code == "model_not_found"
    content = [{"type": "image_url", "image_url": {"url": png()}}]
    with pytest.raises(openai.BadRequestError, match="reads text only"):
        ask(FakeGenerator(), model="writer", messages=[{"role": "user", "content": content}])
    generator = FakeGenerator()
    generator.error = TOO_LONG
    with pytest.raises(openai.BadRequestError) as long:
        ask(generator)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIError, match="the prompt has 900 tokens"):
        streamed(generator)


def test_a_model_that_broke_down_is_asked_again() -> None:
    generator = FakeGenerator()
    generator.error = ModelEndedError("the language model's process was killed (SIGKILL)")
    with pytest.raises(openai.InternalServerError) as ended:  # what its client tries again by itself
        ask(generator)
    assert (ended.value.status_code, ended.value.code) == (503, "model_ended")


def test_a_fault_is_told_without_its_words() -> None:
    generator = FakeGenerator()
    generator.error = RuntimeError("Jane Doe")
    with pytest.raises(openai.InternalServerError) as fault:
        ask(generator)
    assert "RuntimeError" in str(fault.value)
    assert "Jane" not in str(fault.value)


def test_the_queue_refuses_when_it_is_full_and_goes_on_afterwards() -> None:
    generator, queue = FakeGenerator(), AnswerQueue(most=1)
    generator.gate = threading.Event()

    async def work(client: Any) -> tuple[Any, Any]:
        first = asyncio.ensure_future(client.chat.completions.create(model="reader", messages=HELLO))
        while not generator.asked:
            await asyncio.sleep(0.01)
        with pytest.raises(openai.RateLimitError) as busy:
            await client.chat.completions.create(model="writer", messages=HELLO)
        assert int(busy.value.response.headers["retry-after"]) >= 1
        assert generator.gate is not None
        generator.gate.set()
        return await first, await client.chat.completions.create(model="writer", messages=HELLO)

    for found in use(generator, work, queue):
        assert found.choices[0].message.content == generator.script
    assert len(queue) == 0


def test_who_waits_is_told_the_place_and_images_are_embedded_beside_the_running_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Running, "EVERY", 0.02)
    generator = FakeGenerator()
    generator.gate = threading.Event()

    async def work(client: Any) -> tuple[str, Any]:
        first = asyncio.ensure_future(client.chat.completions.create(model="reader", messages=HELLO))
        while not generator.asked:
            await asyncio.sleep(0.01)
        beside = await client.embeddings.create(model="eyes", input=["a film", png()])
        assert not first.done()
        assert generator.gate is not None
        asyncio.get_running_loop().call_later(0.3, generator.gate.set)
        async with client.chat.completions.with_streaming_response.create(
            model="reader", messages=HELLO, stream=True
        ) as second:
            assert second.headers["medge-queue-place"] == "1"
            text = (await second.read()).decode()
        await first
        return text, beside

    text, beside = use(generator, work)
    assert len(beside.data) == 2
    assert len(beside.data[1].embedding) == 3
    assert ": place 1, about 0 s\n\n" in text
    assert text.endswith("data: [DONE]\n\n")


def test_an_answer_that_nobody_reads_ends() -> None:
    generator, gate = FakeGenerator("a b c d e f g"), threading.Event()
    generator.gate = gate

    async def run() -> None:
        service = Service(catalogue(), shelf(generator))
        asked = Asked([], Sampling(), None, (), False, False)
        running = Running(service, entries()["reader"], asked)
        while not generator.asked:
            await asyncio.sleep(0.01)
        waiting = Running(service, entries()["reader"], asked)
        waiting.stop()
        assert len(service.queue) == 1  # who waited is gone at once
        running.stop()
        gate.set()
        while len(service.queue):
            await asyncio.sleep(0.01)
        assert running.counts.tokens == 1  # the one that was being made

    asyncio.run(asyncio.wait_for(run(), 20))
    assert generator.left.is_set()
    assert len(generator.asked) == 1
