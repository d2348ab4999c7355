"""Texts that people write and hand to medge: labels, questions, tasks, reports."""

from __future__ import annotations

from pathlib import Path

from .errors import MedgeError


def read_written(path: Path, refusal: type[MedgeError]) -> str:
    """A text file, UTF-8; the mark that editors on Windows put before the first letter is no part of the text.

    Raises:
        refusal: it can't be read, or is not UTF-8.
    """
    try:
        if path.is_fifo():  # reading would wait for whoever writes
            raise refusal(f"{path}: is no regular file; give a text file")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(f"{path}: can't be read as text: it is not in UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise refusal(f"{path}: can't be read as text ({error.strerror or error})") from error
