"""Messages to a prompt, by the chat template that a model file carries.

A template is code from outside: it is rendered in jinja2's sandbox, without access to anything but the messages, and is
stopped when it takes too long or writes too much. Text from outside never becomes a control token (see `render`).
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .errors import BundleError, GeneratorError

IMAGE_MARK = "<start_of_image>"  # what Gemma's templates write where an image stands
MAX_TEMPLATE, MAX_PROMPT, SECONDS = 200_000, 4_000_000, 5.0


@dataclass(frozen=True)
class Message:
    """One turn: "system", "user" or "assistant", and its texts and images in order; an image is None here."""

    role: str
    parts: tuple[str | None, ...]


def render(template: str, messages: Sequence[Message], *, is_control: Callable[[str], bool]) -> list[tuple[str, bool]]:
    """Render a prompt that asks for the assistant's next turn.

    Args:
        template: the model's Jinja template.
        messages: the conversation.
        is_control: whether a text would be read as holding a control token.

    Returns:
        pieces (text, trusted) in order. Only trusted pieces may be read as control tokens. A text that holds none is
        part of the template's own piece, so that it is tokenized with its surroundings as the original model does.

    Raises:
        BundleError: the template is faulty, or does what a template must not.
        GeneratorError: the messages are none that the template takes.
    """
    hidden: dict[str, str] = {}

    def guard(text: str) -> str:
        if not is_control(text):
            return text
        mark = f"\x02{secrets.token_hex(16)}\x02"
        hidden[mark] = text.strip()
        return mark

    turns = [
        {
            "role": message.role,
            "content": [{"type": "image"} if p is None else {"type": "text", "text": guard(p)} for p in message.parts],
        }
        for message in messages
    ]
    text = _run(template, turns)
    pieces = [(text, True)]
    for mark, original in hidden.items():
        pieces = [
            piece
            for source, trusted in pieces
            for piece in (_around(source, mark, original) if trusted else [(source, trusted)])
        ]
    return [(piece, trusted) for piece, trusted in pieces if piece]


def _around(text: str, mark: str, original: str) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for index, part in enumerate(text.split(mark)):
        pieces += [(original, False)] if index else []
        pieces.append((part, True))
    return pieces


def _run(template: str, messages: list[dict[str, Any]]) -> str:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

    if len(template) > MAX_TEMPLATE:
        raise BundleError(f"the chat template has {len(template):,} characters; a real one has a few thousand")

    def refuse(message: str) -> None:
        raise GeneratorError(f"the model's chat template refuses these messages: {message}")

    class Sandbox(ImmutableSandboxedEnvironment):
        """jinja2's, which lets "a" * 10**9 and 9 ** 9 ** 9 pass: single steps that no deadline can interrupt."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            small = all(not isinstance(side, int) or abs(side) <= 10_000 for side in (left, right))
            if not small or (operator == "**" and abs(right) > 64):
                raise SecurityError(f"{operator} with a large number")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    written: list[str] = []
    total = 0
    try:
        with _deadline(SECONDS):
            stream = environment.from_string(template).generate(
                messages=messages, bos_token="<bos>", eos_token="<eos>", add_generation_prompt=True, tools=None
            )
            for piece in stream:
                written.append(piece)
                total += len(piece)
                if total > MAX_PROMPT or len(written) > 100_000:
                    raise BundleError("the chat template writes without end")
    except SecurityError as error:
        raise BundleError(f"the chat template does what a template must not: {error}") from error
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise BundleError(f"the chat template is faulty: {type(error).__name__}: {error}") from error
    except _TooSlowError as error:
        raise BundleError(f"the chat template took more than {SECONDS:g} s and was stopped") from error
    except MemoryError as error:
        raise BundleError("the chat template asks for more memory than there is") from error
    return "".join(written)


class _TooSlowError(BaseException):
    pass


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Stop Python code in this thread after some time, wherever it is; jinja2 itself knows no limit."""
    end = time.monotonic() + seconds

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > end:
            raise _TooSlowError
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)
