"""SigLIP, which MedSigLIP is: how its checkpoints are opened, how its towers are called and what its publishers use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import SiglipConfig, SiglipModel

from ...runtime.bundles.facts import EncoderFacts, TokenizerFacts
from ...runtime.pictures.preprocess import SIGLIP
from ..source.checkpoint import Checkpoint
from .encoder import EncoderReference, Signature, load_model
from .siglip_tokenizer import device_tokenizer

END_ID = 1  # </s>, which ends and pads


def load_siglip(checkpoint: Checkpoint) -> SiglipModel:
    """The checkpoint as a `SiglipModel` in fp32, evaluation mode, attention written out (exact and exportable).

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    return load_model(checkpoint, SiglipConfig, SiglipModel, "SigLIP")


@dataclass(frozen=True)
class TowerOutput:
    """What a tower gives: (B, tokens, C), and (B, D), not yet of unit length."""

    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor


class TextTower(nn.Module):
    """The text model without the mask of zeros that transformers 5 adds to every block's scores; it shares the weights."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.config, self.embeddings, self.encoder = part.config, part.embeddings, part.encoder
        self.final_layer_norm, self.head = part.final_layer_norm, part.head
        self.eval()

    def forward(self, input_ids: torch.Tensor) -> TowerOutput:
        x = self.final_layer_norm(self.encoder(inputs_embeds=self.embeddings(input_ids)).last_hidden_state)
        return TowerOutput(x, self.head(x[:, -1]))


class Reference(EncoderReference):
    """Runs the towers of a `SiglipModel` and records the stages that parity compares."""

    family = "siglip"
    model_types = ("siglip",)
    profiles = ("eval-tf", "hf-bicubic", "finetune-pil", "serving-pad")
    signatures = {  # noqa: RUF012
        "vision": Signature(("pixel_values",), ("last_hidden_state", "pooler_output")),
        "text": Signature(("input_ids",), ("last_hidden_state", "pooler_output")),
    }
    normalisation = SIGLIP

    def load(self) -> SiglipModel:
        model = load_siglip(self.checkpoint)
        self._towers = {"vision": model.vision_model, "text": TextTower(model.text_model)}
        return model

    def read_tokenizer(self) -> str:
        return device_tokenizer(self.checkpoint)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(self.device_tokenizer),
            eos_token="</s>", pad_token="</s>", unk_token="<unk>",
        )  # fmt: skip

    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        length = self.facts.tokenizer.length
        encoded = self._tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="np"
        )
        return np.asarray(encoded["input_ids"], np.int64)

    def tower(self, name: str) -> Any:
        return self._towers[name]

    def features(self, tower: str, inputs: torch.Tensor) -> torch.Tensor:
        part = self.model.vision_model if tower == "vision" else self.model.text_model
        found: torch.Tensor = part(inputs).pooler_output
        return found

    @cached_property
    def facts(self) -> EncoderFacts:
        vision, text = self.model.config.vision_config, self.model.config.text_config
        return EncoderFacts(
            family=self.family, embedding_size=vision.hidden_size, image_size=vision.image_size,
            patch_size=vision.patch_size, vocabulary=text.vocab_size,
            tokenizer=TokenizerFacts(text.max_position_embeddings, END_ID, END_ID),
            logit_scale=float(self.model.logit_scale.exp()), logit_bias=float(self.model.logit_bias),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )  # fmt: skip

    def processor_config(self, profile: str) -> dict[str, Any]:
        return processor_config(self.facts.image_size, profile)


# PIL's numbers of the filters, for readers of preprocessor_config.json that don't know our profiles.
_RESAMPLE = {"eval-tf": 2, "hf-bicubic": 3, "finetune-pil": 2, "serving-pad": 3}


def processor_config(side: int, profile: str = "hf-bicubic") -> dict[str, Any]:
    """`preprocessor_config.json` of a SigLIP checkpoint for images of `side` pixels, as near to a profile as it can say."""
    return {
        "image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor",
        "do_resize": True, "resample": _RESAMPLE[profile], "size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
