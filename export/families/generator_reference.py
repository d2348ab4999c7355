"""The full-precision PyTorch model of a MedGemma checkpoint: what every generator bundle is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.generator.prompt import Item, Picture, length
from ...runtime.pictures.preprocess import normalise_pixels
from ..source.checkpoint import Checkpoint
from .cut_vocabulary import KeptTokens
from .gemma3 import open_gemma, stop_ids
from .transformers_versions import features, vision_transformer, with_pillow

if TYPE_CHECKING:
    from pathlib import Path

Array = NDArray[np.float32]


class GeneratorReference:
    """A Gemma 3 in float32, with the conventions of `runtime.generator.engine`: prompts are token ids and pictures.

    Args:
        folder: the checkpoint.
        tokens: those of a bundle whose vocabulary is cut: all token ids are then the bundle's, and logits are of these tokens.
            The model itself is whole, so that what it computes for them is what it computes without a cut.
    """

    def __init__(self, folder: Path, tokens: KeptTokens | None = None) -> None:
        from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # it would run through ours
        self.checkpoint: Checkpoint = open_gemma(folder)
        kind = Gemma3ForConditionalGeneration if self.sees else Gemma3ForCausalLM
        self.model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self.stop_ids = stop_ids(folder)
        self.tokens = tokens
        self._features: dict[str, torch.Tensor] = {}

    @property
    def sees(self) -> bool:
        return "vision_config" in self.checkpoint.config

    @cached_property
    def processor(self) -> Any:
        """transformers' own processor (or tokenizer, of a text-only model) of this checkpoint."""
        return load_processor(self.checkpoint)

    @torch.inference_mode()
    def image_embedding(self, picture: Picture) -> Array:
        """Projected tokens of an image, (tokens, width)."""
        return self._embed(picture).numpy()

    def _embed(self, picture: Picture) -> torch.Tensor:
        if picture.key not in self._features:
            pixels = torch.from_numpy(normalise_pixels(picture.pixels))[None]
            self._features[picture.key] = features(self.model.model.get_image_features(pixels))[0]
        return self._features[picture.key]

    @torch.inference_mode()
    def hidden(self, items: Sequence[Item]) -> torch.Tensor:
        """Last hidden states, (positions, width)."""
        ids = [i for item in items for i in ([0] * item.tokens if isinstance(item, Picture) else [item])]
        text = torch.tensor([ids if self.tokens is None else self.tokens.ids[ids].tolist()])
        embeddings = self.model.get_input_embeddings()(text)
        types = torch.zeros_like(text)
        at = 0
        for item in items:
            if isinstance(item, Picture):
                embeddings[0, at : at + item.tokens] = self._embed(item)
                types[0, at : at + item.tokens] = 1
            at += item.tokens if isinstance(item, Picture) else 1
        options: dict[str, Any] = {"token_type_ids": types} if self.sees else {}
        return self.model.model(inputs_embeds=embeddings, use_cache=False, **options).last_hidden_state[0]

    @torch.inference_mode()
    def logits(self, items: Sequence[Item], first: int = 0) -> Array:
        """Next-token logits after every text item from index `first` on, (count, vocabulary)."""
        found = self._logits(items, first).numpy()
        return found if self.tokens is None else found[:, self.tokens.ids]

    @torch.inference_mode()
    def dropped(self, items: Sequence[Item]) -> Array:
        """The probability that the next token is one that a cut vocabulary lacks, after every text item, (count,)."""
        chances = self._logits(items, 0).softmax(dim=-1)
        if self.tokens is None:
            return np.zeros(len(chances), np.float32)
        lost = np.setdiff1d(np.arange(self.tokens.of), self.tokens.ids)
        return chances[:, lost].sum(dim=-1).numpy()

    def _logits(self, items: Sequence[Item], first: int) -> torch.Tensor:
        rows = [
            length(items[: i + 1]) - 1 for i, item in enumerate(items) if i >= first and not isinstance(item, Picture)
        ]
        logits: torch.Tensor = self.model.lm_head(self.hidden(items)[rows])
        return logits

    @torch.inference_mode()
    def stages(self, items: Sequence[Item]) -> dict[str, Array]:
        """The output of each part on the way of one prompt: {stage: (positions, width)}.

        Names are llama.cpp's own for the same places, so that both sides can be laid beside each other.
        """
        found: dict[str, Array] = {}
        hooks = []

        def keep(module: torch.nn.Module, name: str) -> None:
            def hook(_: torch.nn.Module, __: Any, output: Any) -> None:
                value = output[0] if isinstance(output, tuple) else output
                found.setdefault(name, value.reshape(-1, value.shape[-1]).clone().numpy())

            hooks.append(module.register_forward_hook(hook))

        language = self.model.model.language_model if self.sees else self.model.model
        for index, block in enumerate(language.layers):
            keep(block, f"l_out-{index}")
        if self.sees:
            tower = vision_transformer(self.model.model.vision_tower)
            keep(tower.embeddings, "pos_embed")
            for index, block in enumerate(tower.encoder.layers):
                keep(block, f"layer_out-{index}")
            keep(tower.post_layernorm, "norm_b")
        self._features.clear()
        try:
            self.hidden(items)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def prompt_ids(self, messages: list[dict[str, Any]], images: Sequence[Any]) -> list[int]:
        """Token ids of messages in Hugging Face's form, by transformers' own processor; -1 for what a cut vocabulary lacks."""
        return self._counted(prompt_ids(self.processor, self.sees, messages, images))

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text, by transformers' own tokenizer; -1 for what a cut vocabulary lacks."""
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        return self._counted(tokenizer(text, add_special_tokens=False).input_ids)

    @property
    def image_token(self) -> int:
        """The token that stands for each of an image's."""
        return self._counted([self.checkpoint.config.get("image_token_index", 262_144)])[0]

    def _counted(self, ids: Sequence[int]) -> list[int]:
        return list(ids) if self.tokens is None else self.tokens.renumbered(ids)

    def pixels(self, image: NDArray[np.uint8]) -> Array:
        """(3, side, side): what transformers' image processor makes of an image, (H, W, 3) uint8."""
        if not self.sees:
            raise CheckpointError(f"{self.checkpoint.folder}: a text-only model has no image processor")
        made = self.processor.image_processor([image], return_tensors="np", do_pan_and_scan=False)
        return made["pixel_values"][0]


def load_processor(checkpoint: Checkpoint) -> Any:
    """transformers' processor of a checkpoint that sees, the tokenizer of one that reads text only."""
    from transformers import AutoProcessor, AutoTokenizer

    sees = "vision_config" in checkpoint.config
    kind, options = (AutoProcessor, with_pillow()) if sees else (AutoTokenizer, {})
    return kind.from_pretrained(checkpoint.folder, local_files_only=True, **options)


def prompt_ids(processor: Any, sees: bool, messages: list[dict[str, Any]], images: Sequence[Any]) -> list[int]:
    """Token ids of messages in Hugging Face's form, an image's tokens among them."""
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not sees:
        return list(processor(text, add_special_tokens=False).input_ids)
    made = processor(text=text, images=list(images) or None, add_special_tokens=False)
    ids: list[int] = made["input_ids"][0]
    return ids
