"""How large a request may be, counted as it comes: what its header says may be wrong."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


def limited(receive: Receive, most: int, said: str) -> Receive:
    """The same request, refused with status 413 once it has brought more than `most` bytes.

    Args:
        receive: where the request comes from.
        most: bytes of its body.
        said: what the client is told then.
    """
    taken = 0

    async def receive_some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, said)  # the one kind that FastAPI lets through while it reads
        return message

    return receive_some
