"""The stand-in as a model in training: its first weights, and a forward pass that can leave patches out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import SiglipConfig, SiglipModel

from ...families.transformers_versions import features, vision_transformer


def build(config: dict[str, Any], seed: int, words: list[int] | None = None) -> SiglipModel:
    """A new model.

    Args:
        words: ids of the tokens that captions use. All others are exactly zero and stay so: they are neutral and need
            not be stored.
    """
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(**config))
    vision = config["vision_config"]
    table = vision_transformer(model.vision_model).embeddings.position_embedding.weight
    with torch.no_grad():
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-4.0)
        tokens = model.text_model.embeddings.token_embedding.weight
        tokens.mul_(word_rows(len(tokens), words or []))
        table.copy_(sine_positions(vision["image_size"] // vision["patch_size"], table.shape[1]))
    return model


def word_rows(count: int, words: list[int]) -> torch.Tensor:
    """(count, 1): 1 where a row of the token table is a word's, 0 elsewhere."""
    rows = torch.zeros(count, 1)
    rows[words] = 1
    return rows


def sine_positions(side: int, width: int) -> torch.Tensor:
    """Where a patch lies as sines and cosines, (side ** 2, width): small data learn places slowly from noise.

    Two thirds of a learned table's work is done by this start (Beyer et al. 2022, "Better plain ViT baselines").
    """
    quarter = width // 4
    rate = 1 / 100 ** (torch.arange(quarter) / quarter)
    place = torch.arange(side)[:, None] * rate
    rows, columns = place.repeat_interleave(side, 0), place.repeat(side, 1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], 1) * 0.5


def image_embeddings(
    model: SiglipModel, pixels: torch.Tensor, keep: float = 1.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Embeddings of unit length, (N, width), of (N, 3, side, side); a smaller side than the model's is allowed.

    Args:
        keep: share of the patches, drawn anew for each picture, that the blocks see (Li et al. 2023, "FLIP").
        generator: that draws them.
    """
    tower = vision_transformer(model.vision_model)
    native = pixels.shape[-1] == tower.config.image_size
    states = tower.embeddings(pixels, interpolate_pos_encoding=not native)
    if keep < 1:
        count, tokens, width = states.shape
        order = torch.rand(count, tokens, generator=generator).argsort(1)[:, : round(tokens * keep)]
        states = states.gather(1, order[:, :, None].expand(-1, -1, width).to(states.device))
    states = tower.encoder(inputs_embeds=states).last_hidden_state
    return F.normalize(tower.head(tower.post_layernorm(states)), dim=-1)


def text_embeddings(model: SiglipModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings of unit length, (N, width), of token ids, (N, 64)."""
    return F.normalize(features(model.get_text_features(ids)), dim=-1)


class Average:
    """A running mean of the weights (EMA), which judges better than the last weights do."""

    def __init__(self, model: SiglipModel, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: SiglipModel) -> None:
        """Move towards the model; faster in the first steps, whose weights should be forgotten."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in model.state_dict().items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(tensor, share)

    @contextmanager
    def applied(self, model: SiglipModel) -> Iterator[None]:
        """Inside the block the model has the mean weights."""
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.state)
        training = model.training
        model.eval()
        try:
            yield
        finally:
            model.load_state_dict(own)
            model.train(training)
