"""What each patch gives to an embedding: the sum is exact, and its terms are those of the attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from siglip_checkpoints import tiny_tower
from tolerances import FP32_ROUNDING

from medge.export.families.contributions import PatchContributions
from medge.export.families.token_merging import MergingTower
from medge.runtime.errors import RecipeError


@pytest.fixture(scope="module")
def tower() -> Any:
    return tiny_tower()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_rows_add_up_to_the_embedding(tower: Any, pixels: torch.Tensor) -> None:
    found = tower(pixel_values=pixels)
    rows = PatchContributions(tower)(found.last_hidden_state)
    assert rows.shape == (3, 17, 32)
    torch.testing.assert_close(rows.sum(1), F.normalize(found.pooler_output, dim=-1), rtol=0, atol=FP32_ROUNDING)
    assert rows[:, :16].norm(dim=-1).min() > 100 * FP32_ROUNDING  # no patch is left out


@torch.no_grad()
def test_without_the_rest_of_the_head_they_are_the_terms_of_the_attention(pixels: torch.Tensor) -> None:
    """By PyTorch's own attention: its weights, and its output where one patch alone has a value."""
    tower = tiny_tower()
    head = tower.head
    head.mlp.fc2.weight.zero_()
    head.mlp.fc2.bias.zero_()
    hidden = tower(pixel_values=pixels).last_hidden_state
    rows = PatchContributions(tower)(hidden)
    attention, probe = head.attention, head.probe.expand(3, 1, 32)
    pooled, weights = attention(probe, hidden, hidden, average_attn_weights=False)  # weights (B, heads, 1, patches)
    values = F.linear(hidden, attention.in_proj_weight[64:], attention.in_proj_bias[64:]).reshape(3, 16, 4, 8)
    for patch in (0, 7, 15):
        mine = (weights[:, :, 0, patch, None] * values[:, patch]).reshape(3, 32)
        expected = F.linear(mine, attention.out_proj.weight) / pooled[:, 0].norm(dim=-1, keepdim=True)
        torch.testing.assert_close(rows[:, patch], expected, rtol=0, atol=FP32_ROUNDING)


@torch.no_grad()
def test_a_patch_that_the_head_does_not_look_at_gives_nothing(tower: Any, pixels: torch.Tensor) -> None:
    contributions = PatchContributions(tower)
    hidden = tower(pixel_values=pixels).last_hidden_state
    away = torch.linalg.lstsq(contributions.query.T, torch.full((contributions.heads, 1), -100.0)).solution[:, 0]
    hidden = torch.cat([hidden[:, :5], away.expand(3, 1, -1), hidden[:, 6:]], 1)
    rows = contributions(hidden)
    assert rows[:, 5].abs().max() < FP32_ROUNDING


@torch.no_grad()
def test_merged_patches_share_what_their_token_gives(tower: Any, pixels: torch.Tensor) -> None:
    plain, followed = MergingTower(tower, 3)(pixels), MergingTower(tower, 3, follow=True)
    found = followed(pixels)
    torch.testing.assert_close(found.pooler_output, plain.pooler_output, rtol=0, atol=0)
    assert (found.sources.sum(1) == 1).all()  # each patch is in one token
    torch.testing.assert_close(found.sources.sum(-1, keepdim=True), plain.sources, rtol=0, atol=0)
    rows = PatchContributions(followed)(found.last_hidden_state, found.sources)
    torch.testing.assert_close(rows.sum(1), F.normalize(found.pooler_output, dim=-1), rtol=0, atol=FP32_ROUNDING)
    for token in found.sources[0]:
        together = rows[0, :16][token == 1]
        torch.testing.assert_close(together, together[:1].expand_as(together), rtol=0, atol=FP32_ROUNDING)


def test_another_activation_is_refused(tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower.config, "hidden_act", "relu")
    with pytest.raises(RecipeError, match="activation is 'relu'"):
        PatchContributions(tower)
