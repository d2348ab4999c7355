"""Questions about a CT series, as MedGemma 1.5 reads it: every slice is followed by its number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ContextError, GeneratorError
from ..generator.conversation import DEFAULT_SAMPLING, Answer, RoomyChat, Sampling, refuse_empty, user
from ..pictures.ct_series import MOST_SLICES, Series, read_series
from ..pictures.images import find_images

LABEL_TOKENS = 16  # of "SLICE 12" and the marks around an image
QUESTION_TOKENS = 256  # left for the question and the template


def ask_series(
    chat: RoomyChat, paths: Sequence[Path], question: str, sampling: Sampling = DEFAULT_SAMPLING, *,
    think: bool = False,
) -> tuple[Answer, Series]:  # fmt: skip
    """Answer a question about a CT series; returns what was shown, too.

    Slices are sampled evenly when there are more than the model takes, or than memory allows room for: unless the
    caller has set the context, it is made long enough for them as far as that fits.

    Args:
        chat: a multimodal model.
        paths: DICOM files, or folders of them.
        question: the question.
        sampling: as in `Chat.chat`.
        think: likewise.

    Raises:
        ImageError: no CT slice could be read, or the files belong to several series.
        ContextError: the context has no room for a slice.
        GeneratorError: the model reads text only.

    Examples:
        >>> reader = medge.load_generator("reader", context=1024)
        >>> answer, shown = medge.ask_series(reader, [Path("film.dcm")], "Which organ is it?", medge.Sampling(limit=4))
        >>> len(shown.slices)
        1
    """
    refuse_empty(question)
    if not chat.image_tokens:
        raise GeneratorError("this model reads text only, it has no vision tower for a CT series")
    each, rest = chat.image_tokens + LABEL_TOKENS, sampling.limit + QUESTION_TOKENS
    found = sum(1 for _ in find_images(list(paths)))
    context = chat.make_room(min(MOST_SLICES, found) * each + rest)
    most = (context - rest) // each
    if most < 1:
        raise ContextError(f"a context of {context} tokens has no room for a slice and an answer")
    series = read_series(paths, min(MOST_SLICES, most))
    slices = [part for number, image in enumerate(series.slices, 1) for part in (image, f"SLICE {number}")]
    return chat.chat([user(*slices, question)], sampling, think=think), series
