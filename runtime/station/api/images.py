"""Images in a request: base64 of a file, alone or as a data URL. Nothing is fetched, and no path is read."""

from __future__ import annotations

import base64
import binascii
import re

from .problems import RefusedError

MOST_IMAGES = 64  # of a request
_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)


def is_data_url(text: str) -> bool:
    """Whether a text is an image in a data URL, as far as its beginning says."""
    return _URL.match(text[:200]) is not None


def image_bytes(text: str, param: str) -> bytes:
    """The file that a data URL or plain base64 holds.

    Args:
        text: what stands in the request.
        param: where it stands there.

    Raises:
        RefusedError: it is neither, or the address of something elsewhere.
    """
    if (found := _URL.match(text[:200])) is not None:
        text = text[found.end() :]
    elif re.match(r"[a-zA-Z][\w+.-]*:", text[:40]):
        raise RefusedError(
            "the station fetches nothing: send the image itself, as a data URL (data:image/png;base64,...)", param=param
        )
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("the image is no base64 of a file", param=param, code="invalid_image") from error
    if not content:
        raise RefusedError("the image is empty", param=param, code="invalid_image")
    return content
