"""A MedGemma checkpoint that answers, in full precision by PyTorch: what a bundle's language model is evaluated against.

Prompts are those of transformers' own processor, which a bundle's equal (tests/runtime/generator/test_generator.py); images are
prepared by the same code as a bundle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.errors import ContextError, GeneratorError, RecipeError
from ...runtime.generator.answering import THOUGHT, THOUGHT_END
from ...runtime.generator.conversation import Answer, Sampling, Stop, Turn
from ...runtime.pictures.images import read_image
from ...runtime.pictures.preprocess import get_profile, normalise_pixels
from .gemma3 import PROFILE
from .generator_reference import GeneratorReference


class GeneratorChat:
    """A checkpoint's model behind what an evaluation asks of one.

    Args:
        reference: the model.
        context: positions that a prompt and its answer may take.
        device: "cpu" or "cuda".
    """

    def __init__(self, reference: GeneratorReference, context: int, device: str) -> None:
        self.reference, self.context, self._device = reference, context, device
        self._side = reference.checkpoint.config["vision_config"]["image_size"] if reference.sees else 0
        processor = reference.processor
        self._tokenizer = processor.tokenizer if reference.sees else processor
        self._marks = [self._tokenizer.convert_tokens_to_ids(mark) for mark in (THOUGHT, THOUGHT_END)]
        reference.model.to(device)

    def chat(self, turns: Sequence[Turn], sampling: Sampling) -> Answer:
        """The likeliest answer.

        Raises:
            ContextError: the conversation is longer than the context.
            GeneratorError: there is an image, and the model reads text only.
            ImageError: an image can't be read.
            RecipeError: a temperature over 0.
        """
        if sampling.temperature > 0:
            raise RecipeError("a checkpoint takes the likeliest token each time, at temperature 0")
        inputs, prompt = self._inputs(turns)
        made = self._generate(inputs, min(sampling.limit, self.context - prompt))
        stops = set(self.reference.stop_ids)
        tokens = [token for token in made if token not in stops]
        stop: Stop = "end"
        if prompt + len(tokens) >= self.context:
            stop = "context"
        elif len(tokens) >= sampling.limit:
            stop = "limit"
        thought, text = self._apart(tokens)
        return Answer(text, thought.removeprefix("thought").strip(), stop, prompt, 0, len(tokens))

    @torch.inference_mode()
    def _generate(self, inputs: dict[str, torch.Tensor], most: int) -> list[int]:
        from transformers import GenerationConfig

        # The checkpoint's own generation_config.json samples; nothing of it is taken.
        self.reference.model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self.reference.stop_ids, pad_token_id=0
        )
        made = self.reference.model.generate(**inputs, max_new_tokens=most)
        return list(made[0, inputs["input_ids"].shape[1] :].tolist())

    def _apart(self, tokens: Sequence[int]) -> tuple[str, str]:
        """The trace and the answer, without blanks around them."""
        begin, end = self._marks
        parts: dict[bool, list[int]] = {True: [], False: []}
        thinking = False
        for token in tokens:
            if token in (begin, end):
                thinking = token == begin
            else:
                parts[thinking].append(token)
        thought, text = (
            self._tokenizer.decode(parts[kind], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            for kind in (True, False)
        )
        return thought, text

    def letters(self, letters: Sequence[str]) -> list[list[int]]:
        """The tokens of each letter."""
        return [list(self._tokenizer(letter, add_special_tokens=False).input_ids) for letter in letters]

    @torch.inference_mode()
    def next_logits(self, turns: Sequence[Turn]) -> NDArray[np.float32]:
        """Logits of the answer's first token, (vocabulary,); errors as `chat`."""
        inputs, _ = self._inputs(turns)
        logits: torch.Tensor = self.reference.model(**inputs, use_cache=False, logits_to_keep=1).logits
        return np.asarray(logits[0, -1].cpu().numpy())

    def _inputs(self, turns: Sequence[Turn]) -> tuple[dict[str, torch.Tensor], int]:
        """What the model is given, and how many positions that takes."""
        images = [part for turn in turns for part in turn.parts if not isinstance(part, str)]
        if images and not self.reference.sees:
            raise GeneratorError(
                f"{self.reference.checkpoint.folder} reads text only, it has no vision tower for an image"
            )
        pixels = [get_profile(PROFILE).resize(read_image(image), self._side) for image in images]
        ids = self.reference.prompt_ids([_message(turn) for turn in turns], pixels)
        if len(ids) + 1 > self.context:
            raise ContextError(
                f"the prompt takes {len(ids)} tokens, and the context of {self.context} has no room for that and an "
                "answer; give a longer --context"
            )
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if self.reference.sees:
            token = self.reference.model.config.image_token_id
            inputs["token_type_ids"] = (inputs["input_ids"] == token).long()
        if pixels:
            inputs["pixel_values"] = torch.from_numpy(np.stack([normalise_pixels(one) for one in pixels]))
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}, len(ids)


def _message(turn: Turn) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.parts]
    return {"role": turn.role, "content": content}
