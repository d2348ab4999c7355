"""Write a checkpoint's weights shard by shard, as Hugging Face lays them out, without holding more than one shard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from .checkpoint import INDEX

if TYPE_CHECKING:
    import torch


class ShardWriter:
    """Collects tensors until a shard is full, writes it, and on exit names the files and writes their index.

    Args:
        folder: where the shards go.
        shard_bytes: a shard is written when it holds at least this much.
    """

    def __init__(self, folder: Path, shard_bytes: int = 1 << 30) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._written: list[list[str]] = []
        self._bytes = 0
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        self._pending[name] = tensor.contiguous()
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= self.shard_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            save_file(self._pending, self._part(len(self._written)), {"format": "pt"})
            self._written.append(list(self._pending))
            self._total += self._bytes
            self._pending, self._bytes = {}, 0

    def _part(self, number: int) -> Path:
        return self.folder / f"shard-{number}.safetensors"

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        self._flush()
        weight_map: dict[str, str] = {}
        count = len(self._written)
        for number, names in enumerate(self._written):
            file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            self._part(number).rename(self.folder / file)
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
        (self.folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
