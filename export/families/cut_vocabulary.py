"""A checkpoint of which a part of the vocabulary is used: its other tokens' rows are never read, and the rest count anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ..source.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

# The matrices with a row a token; the second one only where it is not the first.
_BY_TOKEN = ("embed_tokens.weight", "lm_head.weight")
DROPPED = -1


@dataclass(frozen=True, eq=False)
class KeptTokens:
    """Which tokens of a vocabulary stay, in their order.

    Attributes:
        ids: their ids in the whole vocabulary, (kept,) int64, ascending; the place of one is its new id.
        of: how many tokens the whole vocabulary has.
    """

    ids: NDArray[np.int64]
    of: int

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The new id of each token, (of,) int64; -1 where it is dropped."""
        places = np.full(self.of, DROPPED, np.int64)
        places[self.ids] = np.arange(len(self.ids))
        return places

    def renumbered(self, ids: Iterable[int]) -> list[int]:
        """New ids of tokens; -1 for those that are dropped."""
        return [int(self.places[token]) for token in ids]


@dataclass(frozen=True)
class CutCheckpoint(Checkpoint):
    """A checkpoint whose shapes, rows and configuration are those of a model with fewer tokens; its hashes are the whole one's.

    Attributes:
        tokens: the tokens that it has.
    """

    tokens: KeptTokens

    def shape(self, name: str) -> tuple[int, ...]:
        whole = super().shape(name)
        return (len(self.tokens.ids), *whole[1:]) if name.endswith(_BY_TOKEN) else whole

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        if not name.endswith(_BY_TOKEN):
            return super().rows(name, start, stop)
        wanted = self.tokens.ids[start:stop]
        if not len(wanted):
            return super().rows(name, 0, 0)
        first = int(wanted[0])
        return super().rows(name, first, int(wanted[-1]) + 1)[(wanted - first).tolist()]

    def tensor(self, name: str) -> torch.Tensor:
        return self.rows(name, 0, self.shape(name)[0]) if name.endswith(_BY_TOKEN) else super().tensor(name)


def cut(checkpoint: Checkpoint, tokens: KeptTokens) -> CutCheckpoint:
    """The checkpoint with these tokens only.

    Raises:
        CheckpointError: the configuration names a token that would be dropped.
    """
    return CutCheckpoint(checkpoint.folder, _configuration(checkpoint, tokens), checkpoint.shards, tokens)


def tokens_of(checkpoint: Checkpoint) -> KeptTokens | None:
    """The tokens of a checkpoint that is cut, None of a whole one."""
    return checkpoint.tokens if isinstance(checkpoint, CutCheckpoint) else None


def renumbered(checkpoint: Checkpoint, ids: list[int]) -> list[int]:
    """Ids that a file of the checkpoint names, as the checkpoint counts them.

    Raises:
        CheckpointError: one of them is dropped.
    """
    tokens = tokens_of(checkpoint)
    return ids if tokens is None else _renumbered(checkpoint, tokens, ids)


def _renumbered(checkpoint: Checkpoint, tokens: KeptTokens, ids: list[int]) -> list[int]:
    found = tokens.renumbered(ids)
    if DROPPED in found:
        lost = ids[found.index(DROPPED)]
        raise CheckpointError(
            f"{checkpoint.folder}: its configuration names token {lost}, which a cut vocabulary drops"
        )
    return found


def _configuration(checkpoint: Checkpoint, tokens: KeptTokens) -> dict[str, Any]:
    """`config.json` with the new size, and the tokens that it names under their new ids."""

    def changed(body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in body.items():
            if isinstance(value, dict):
                found[key] = changed(value)
            elif key.endswith(("_token_id", "_token_index")) and isinstance(value, int | list):
                ids = _renumbered(checkpoint, tokens, value if isinstance(value, list) else [value])
                found[key] = ids if isinstance(value, list) else ids[0]
            else:
                found[key] = value
        return found

    config = changed(checkpoint.config)
    size = {"vocab_size": len(tokens.ids)}
    return {**config, "text_config": {**config["text_config"], **size}} if "text_config" in config else config | size
