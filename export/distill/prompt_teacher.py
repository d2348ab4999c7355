"""A language model going over texts and questions about images: its likeliest next tokens, in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...quant.distill.shards import Shard
from ...runtime.errors import DistillationError, ImageError
from ...runtime.pictures.images import read_image
from ...runtime.pictures.preprocess import get_profile
from ..families.gemma3 import PROFILE, image_tokens
from ..families.generator_reference import GeneratorReference, load_processor, prompt_ids
from ..source.checkpoint import Checkpoint
from ..source.corpus import Answered, read_examples, text_prompts
from .image_teacher import as_pixels
from .job import Precision

BATCH = 4
BOS = 2
SHORTEST = 16  # tokens; less of a text says nothing


@dataclass(frozen=True)
class Prompt:
    """An example: token ids, what of them is an answer, and the image that goes in."""

    ids: tuple[int, ...]
    answer_from: int = 0
    image: Path | None = None


def image_token(checkpoint: Checkpoint) -> int:
    """The id that stands for an image's tokens, -1 for a model that reads text only."""
    return int(checkpoint.config.get("image_token_index", -1)) if "vision_config" in checkpoint.config else -1


class Tokens:
    """A checkpoint's tokenizer and prompt format; opens no weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.sees = "vision_config" in checkpoint.config
        self._processor = load_processor(checkpoint)
        self._tokenizer = self._processor.tokenizer if self.sees else self._processor
        self.image_id = image_token(checkpoint)
        self._dummy = np.zeros((8, 8, 3), np.uint8)
        if self.sees:
            image_tokens(checkpoint)  # an unreadable processor configuration is told before anything is computed

    def vocabulary(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    def text(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def question(self, example: Answered) -> Prompt:
        content: list[dict[str, str]] = [{"type": "image"}] if example.image else []
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": example.question}]}]
        head = prompt_ids(self._processor, self.sees, messages, [self._dummy] if example.image else [])
        return Prompt((*head, *self.text(f"{example.answer}<end_of_turn>")), len(head), example.image)


def read_prompts(paths: Sequence[Path], tokens: Tokens, length: int) -> list[Prompt]:
    """Examples of at most `length` tokens from text files and JSON lines; texts are joined and cut, questions are not.

    Raises:
        CorpusError: a line of another form, or an image for a model that reads text only.
        DistillationError: nothing in there.
    """
    texts: list[str] = []
    found: list[Prompt] = []
    for example in read_examples(paths, images=tokens.sees):
        if isinstance(example, str):
            texts.append(example)
        elif len((prompt := tokens.question(example)).ids) <= length:
            found.append(prompt)
    found += [Prompt(tuple(ids)) for ids in text_prompts(tokens.text, texts, BOS, size=length, least=SHORTEST)]
    if not found:
        raise DistillationError(
            f"{', '.join(map(str, paths))}: no texts and no questions of up to {length} tokens in there"
        )
    return found


def digest(prompts: Sequence[Prompt]) -> str:
    """A hash of examples."""
    found = hashlib.sha256()
    for prompt in prompts:
        found.update(repr((prompt.ids, prompt.image.name if prompt.image else None)).encode())
    return found.hexdigest()


class NextTokens(torch.nn.Module):
    """A Gemma 3 that gives next-token logits at chosen places only: a quarter million numbers each."""

    def __init__(self, model: Any, image_id: int) -> None:
        super().__init__()
        self.model = model
        self._image_id = image_id

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor, places: torch.Tensor,
        pixels: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Token ids and mask (N, L), the examples and positions of M places, pixels of the images in order.

        Returns (M, vocabulary).
        """
        options: dict[str, Any] = {}
        if self._image_id >= 0:
            options["token_type_ids"] = (ids == self._image_id).long()
            if pixels is not None:
                options["pixel_values"] = pixels
        hidden = self.model.model(input_ids=ids, attention_mask=mask, use_cache=False, **options).last_hidden_state
        logits: torch.Tensor = self.model.lm_head(hidden[rows, places])
        return logits


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of different length to (N, L) and their mask, filled up at the end."""
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


class PromptTeacher:
    """Opens the teacher once, then turns ranges of prompts into shards.

    A shard holds, with N examples, P places in each and K tokens at each: "number" (N,) of the prompt, "places" (N, P) of
    which the next token is told, -1 where there are fewer, "top" (N, P, K) token ids, "log" (N, P, K) their log-probabilities
    in float16, and, of a model with eyes, "pixels" (N, S, S, 3) uint8, black where a prompt has no image.
    """

    def __init__(
        self, teacher: Path, prompts: Sequence[Prompt], top: int, positions: int, seed: int, precision: Precision = "no"
    ) -> None:
        reference = GeneratorReference(teacher)
        vision = reference.checkpoint.config.get("vision_config")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._image_id = image_token(reference.checkpoint)
        self._autocast = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._model = NextTokens(reference.model, self._image_id).to(self._device)
        self._side = int(vision["image_size"]) if vision else 0
        self._prompts, self._top, self._positions, self._seed = prompts, top, positions, seed

    def __call__(self, start: int, stop: int) -> Shard:
        examples: list[tuple[int, Prompt, NDArray[np.uint8]]] = []
        skipped: list[int] = []
        for number in range(start, stop):
            prompt = self._prompts[number]
            try:
                examples.append((number, prompt, self._pixels(prompt)))
            except ImageError:
                skipped.append(number)
        if not examples:
            return Shard({}, tuple(skipped))
        parts = [self._answer(examples[first : first + BATCH]) for first in range(0, len(examples), BATCH)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Shard(arrays, tuple(skipped))

    def _pixels(self, prompt: Prompt) -> NDArray[np.uint8]:
        if prompt.image is None:
            return np.zeros((self._side, self._side, 3), np.uint8)
        found: NDArray[np.uint8] = get_profile(PROFILE).resize(read_image(prompt.image), self._side)
        return found

    def _places(self, number: int, prompt: Prompt) -> list[int]:
        """Places whose next token is text, those of an answer first, the others drawn."""
        text = [at for at in range(len(prompt.ids) - 1) if prompt.ids[at + 1] != self._image_id]
        answer = [at for at in text if prompt.answer_from and at >= prompt.answer_from - 1][: self._positions]
        others = [at for at in text if at not in set(answer)]
        count = min(self._positions - len(answer), len(others))
        drawn = np.random.default_rng([self._seed, number]).choice(len(others), count, replace=False).tolist()
        return sorted([*answer, *(others[index] for index in drawn)])

    @torch.inference_mode()
    def _answer(self, examples: Sequence[tuple[int, Prompt, NDArray[np.uint8]]]) -> dict[str, NDArray[Any]]:
        ids, mask = padded([prompt.ids for _, prompt, _ in examples])
        chosen = [self._places(number, prompt) for number, prompt, _ in examples]
        rows = torch.tensor([row for row, places in enumerate(chosen) for _ in places])
        flat = torch.tensor([place for places in chosen for place in places])
        with_image = np.array([prompt.image is not None for _, prompt, _ in examples])
        pixels = np.stack([image for _, _, image in examples])
        given = as_pixels(pixels[with_image], self._device) if with_image.any() else None
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            logits = self._model(*(t.to(self._device) for t in (ids, mask, rows, flat)), given).float()
        values, tokens = logits.topk(self._top, dim=-1)
        log = values - logits.logsumexp(-1, keepdim=True)
        count, width = len(examples), self._positions
        places = np.full((count, width), -1, np.int32)
        top = np.zeros((count, width, self._top), np.int32)
        kept = np.zeros((count, width, self._top), np.float16)
        at = 0
        for row, mine in enumerate(chosen):
            places[row, : len(mine)] = mine
            top[row, : len(mine)] = tokens[at : at + len(mine)].cpu().numpy()
            kept[row, : len(mine)] = log[at : at + len(mine)].cpu().numpy()
            at += len(mine)
        numbers = np.array([number for number, _, _ in examples], np.int32)
        found: dict[str, NDArray[Any]] = {"number": numbers, "places": places, "top": top, "log": kept}
        return {**found, "pixels": pixels} if self._side else found
