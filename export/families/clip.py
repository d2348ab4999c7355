"""CLIP as transformers' `CLIPModel` has it: OpenAI's own, PubMedCLIP and most medical CLIPs.

Unlike SigLIP it has a class token, a causal text tower that is read at the end of the text, and a projection behind each tower.
No attention mask goes in: what is padding stands behind the end of the text, where causal attention does not look.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from ...runtime.bundles.facts import EncoderFacts, TokenizerFacts
from ...runtime.errors import CheckpointError
from ...runtime.pictures.preprocess import Normalisation
from ..source.checkpoint import read_json
from .encoder import EncoderReference, Signature, load_model

# Of OpenAI's training images; a checkpoint can state others.
OPENAI = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HIDDEN = -1e4  # added to scores of tokens that lie ahead: exp() of it is 0, and 16 bits can hold it
LEGACY_END = 2  # configurations that say this mean "the highest id of the text", as transformers reads them
BICUBIC = 3  # PIL's number


@dataclass(frozen=True)
class ImageOutput:
    """What a vision tower gives: (B, tokens, C), and (B, D), not yet of unit length."""

    last_hidden_state: torch.Tensor
    image_embeds: torch.Tensor


@dataclass(frozen=True)
class TextOutput:
    """What a text tower gives: (B, length, C), and (B, D), not yet of unit length."""

    last_hidden_state: torch.Tensor
    text_embeds: torch.Tensor


class VisionTower(nn.Module):
    """The model's vision tower with its projection; it shares the model's weights."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        part = model.vision_model
        self.config = part.config
        self.embeddings, self.pre_layrnorm, self.encoder = part.embeddings, part.pre_layrnorm, part.encoder
        self.post_layernorm, self.visual_projection = part.post_layernorm, model.visual_projection
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> ImageOutput:
        x = self.encoder(inputs_embeds=self.pre_layrnorm(self.embeddings(pixel_values))).last_hidden_state
        return ImageOutput(x, self.visual_projection(self.post_layernorm(x[:, 0])))


class TextTower(nn.Module):
    """The model's text tower with its projection; it shares the model's weights."""

    ahead: torch.Tensor

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        part = model.text_model
        self.config, length = part.config, part.config.max_position_embeddings
        self.embeddings, self.encoder, self.final_layer_norm = part.embeddings, part.encoder, part.final_layer_norm
        self.text_projection = model.text_projection
        self.register_buffer("ahead", torch.full((1, 1, length, length), HIDDEN).triu(1), persistent=False)
        self.eval()

    def forward(self, input_ids: torch.Tensor) -> TextOutput:
        x = self.encoder(inputs_embeds=self.embeddings(input_ids), attention_mask=self.ahead).last_hidden_state
        x = self.final_layer_norm(x)
        end = self.config.eos_token_id
        rank = input_ids if end == LEGACY_END else (input_ids == end).to(torch.int64)
        last = rank.argmax(-1)[:, None, None].expand(-1, 1, x.shape[-1])
        return TextOutput(x, self.text_projection(x.gather(1, last)[:, 0]))


class Reference(EncoderReference):
    """Runs the towers of a `CLIPModel` and records the stages that parity compares."""

    family = "clip"
    model_types = ("clip",)
    profiles = ("clip-crop",)
    signatures = {  # noqa: RUF012
        "vision": Signature(("pixel_values",), ("last_hidden_state", "image_embeds")),
        "text": Signature(("input_ids",), ("last_hidden_state", "text_embeds")),
    }
    refused = {  # noqa: RUF012
        "coreml": "can't be written as CoreML packages yet; export it as ONNX",
        "litert": "can't be written as LiteRT files: litert-torch 0.10 can't convert where its texts end; export it as ONNX",
        "maps": "reads its class token, to which no sum over patches leads; export it without --maps",
        "merging": "has a class token, which merging would have to protect; choose a recipe that merges no patches",
        "web": "was never run in the page",
        "optimum": "is no SigLIP, and only that is compared with optimum; compare with pytorch or openvino",
        "transformers": "is no SigLIP, and only that task is written down; compare with pytorch or openvino",
        "distillation": "can't be distilled; the student is a SigLIP, and so must its teacher be",
    }

    def load(self) -> CLIPModel:
        model = load_model(self.checkpoint, CLIPConfig, CLIPModel, "CLIP")
        self._towers = {"vision": VisionTower(model), "text": TextTower(model)}
        return model

    @cached_property
    def _tokenizer(self) -> Any:
        folder = self.checkpoint.folder
        if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise CheckpointError(f"{folder / 'tokenizer.json'} is missing; download it with the weights")
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{folder}: the tokenizer can't be read ({error}); download it again") from error

    def read_tokenizer(self) -> str:
        body = json.loads(self._tokenizer.backend_tokenizer.to_str())
        # transformers turns the marks of words' ends into spaces by code of its own; a device has only this file.
        ends = {"type": "Replace", "pattern": {"String": "</w>"}, "content": " "}
        body["decoder"] = {"type": "Sequence", "decoders": [body["decoder"], ends]}
        return json.dumps({**body, "truncation": None, "padding": None}, ensure_ascii=False)

    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        length = self.facts.tokenizer.length
        encoded = self._tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="np"
        )
        return np.asarray(encoded["input_ids"], np.int64)

    def tower(self, name: str) -> Any:
        return self._towers[name]

    def features(self, tower: str, inputs: torch.Tensor) -> torch.Tensor:
        if tower == "vision":
            found: torch.Tensor = self.model.visual_projection(self.model.vision_model(inputs).pooler_output)
        else:
            found = self.model.text_projection(self.model.text_model(inputs).pooler_output)
        return found

    @cached_property
    def facts(self) -> EncoderFacts:
        config = self.model.config
        vision, text = config.vision_config, config.text_config
        return EncoderFacts(
            family=self.family, embedding_size=config.projection_dim, image_size=vision.image_size,
            patch_size=vision.patch_size, vocabulary=text.vocab_size,
            tokenizer=TokenizerFacts(
                text.max_position_embeddings, self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
            ),
            logit_scale=float(self.model.logit_scale.exp()), logit_bias=0.0,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()), sigmoid=False,
        )  # fmt: skip

    @cached_property
    def _processor(self) -> dict[str, Any]:
        """What the checkpoint says of images.

        Raises:
            CheckpointError: they are prepared otherwise than CLIP's are.
        """
        folder, side = self.checkpoint.folder, self.model.config.vision_config.image_size
        stated: dict[str, Any] = {}
        if (path := folder / "preprocessor_config.json").is_file():
            stated = read_json(path)
        elif (path := folder / "processor_config.json").is_file():  # as transformers 5 writes it
            stated = read_json(path).get("image_processor", {})
        usual = {
            "image_processor_type": "CLIPImageProcessor", "do_resize": True, "resample": BICUBIC,
            "size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": {"height": side, "width": side},
            "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True,
            "do_normalize": True, "image_mean": list(OPENAI.mean), "image_std": list(OPENAI.std),
        }  # fmt: skip
        for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "resample", "size", "crop_size"):
            told = stated.get(name, usual[name])
            sizes = {side} if name in ("size", "crop_size") else {usual[name]}
            if (set(told.values()) if isinstance(told, dict) else {told}) != sizes:
                raise CheckpointError(
                    f"{path}: {name} is {told!r}, CLIP's images of {side} pixels need {usual[name]!r}"
                )
        return usual | {name: stated[name] for name in ("image_mean", "image_std") if name in stated}

    @cached_property
    def normalisation(self) -> Normalisation:
        return Normalisation(tuple(self._processor["image_mean"]), tuple(self._processor["image_std"]))

    def processor_config(self, profile: str) -> dict[str, Any]:
        return self._processor
