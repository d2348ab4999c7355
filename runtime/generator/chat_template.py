"""Messages to a prompt, by the chat template that a model file carries.

A template is code from outside: `template_sandbox` renders it. Text from outside never becomes a control token (see
`render`).
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import GeneratorError

MAX_REFUSAL = 240  # characters that a template may say of messages
IMAGE_MARK = "<start_of_image>"  # what Gemma's templates write where an image stands


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
        BundleError: the template is faulty, does what a template must not, or goes on without end.
        GeneratorError: the messages are none that the template takes.
    """
    from .template_sandbox import render_template

    hidden: dict[str, str] = {}

    def guard(text: str) -> str:
        mark = f"\x02{secrets.token_hex(16)}\x02"
        hidden[mark] = text.strip()
        return mark

    turns = [{"role": message.role, "content": _content(message, is_control, guard)} for message in messages]
    text = render_template(
        template, _refuse, messages=turns, bos_token="<bos>", eos_token="<eos>", add_generation_prompt=True, tools=None
    )
    pieces = [(text, True)]
    for mark, original in hidden.items():
        pieces = [
            piece
            for source, trusted in pieces
            for piece in (_around(source, mark, original) if trusted else [(source, trusted)])
        ]
    return [(piece, trusted) for piece, trusted in pieces if piece]


def _content(message: Message, is_control: Callable[[str], bool], guard: Callable[[str], str]) -> list[dict[str, str]]:
    """A message's parts as templates take them. Texts that stand side by side are judged together: a control token may be
    split over two of them, and templates join them with or without the blanks at their ends."""
    content: list[dict[str, str]] = []
    for is_image, run in itertools.groupby(message.parts, key=lambda part: part is None):
        texts = [part or "" for part in run]
        if is_image:
            content += [{"type": "image"}] * len(texts)
            continue
        unsafe = any(map(is_control, ("".join(texts), "".join(text.strip() for text in texts), *texts)))
        content += [{"type": "text", "text": guard(text) if unsafe else text} for text in texts]
    return content


def _refuse(message: str) -> None:
    said = " ".join(message.split())
    raise GeneratorError(f"the model's chat template refuses these messages: {said[:MAX_REFUSAL]}")


def _around(text: str, mark: str, original: str) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for index, part in enumerate(text.split(mark)):
        pieces += [(original, False)] if index else []
        pieces.append((part, True))
    return pieces
