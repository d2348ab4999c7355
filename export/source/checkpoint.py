"""A checkpoint folder as Hugging Face lays it out, opened lazily: one tensor at a time, nothing unpickled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ... import __version__
from ...runtime.bundles.manifest import sha256_file
from ...runtime.bundles.origin import Origin, today
from ...runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """Config, tokenizer files and weights of one model.

    Attributes:
        folder: where it lies.
        config: `config.json` as it stands.
        shards: tensor name -> weights file.
    """

    folder: Path
    config: dict[str, Any]
    shards: dict[str, Path]

    @classmethod
    def open(cls, folder: str | Path, model_type: str | None = None) -> Checkpoint:
        """Open a folder and check that every weights file is there and whole.

        Args:
            folder: the checkpoint.
            model_type: what `config.json` must say ("siglip"), where the caller needs one architecture.

        Raises:
            CheckpointError: one sentence with the file and the reason.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder; give the folder that holds config.json")
        config = read_json(folder / "config.json")
        found = config.get("model_type")
        if model_type is not None and found != model_type:
            raise CheckpointError(f"{folder / 'config.json'}: the model is of type {found!r}, expected {model_type!r}")
        return cls(folder, config, _find_shards(folder))

    def names(self) -> list[str]:
        return sorted(self.shards)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, memory-mapped where the file system allows.

        Raises:
            CheckpointError: there is no such tensor, or it can't be read.
        """
        with self._file_of(name) as stream:
            tensor: torch.Tensor = stream.get_tensor(name)
            return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the header alone."""
        with self._file_of(name) as stream:
            return tuple(stream.get_slice(name).get_shape())

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop` of a tensor, without reading the others."""
        with self._file_of(name) as stream:
            rows: torch.Tensor = stream.get_slice(name)[start:stop]
            return rows

    @contextlib.contextmanager
    def _file_of(self, name: str) -> Iterator[Any]:
        """The opened file that holds a tensor; what goes wrong with it is a `CheckpointError`."""
        if name not in self.shards:
            raise CheckpointError(f"{self.folder}: the weights hold no tensor {name!r}")
        try:
            with safe_open(self.shards[name], "pt") as stream:
                yield stream
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.shards[name]}: can't read {name!r} ({error})") from error

    def in_file_order(self) -> list[str]:
        """Names file by file, as they lie: reading in this order goes through the disk once."""
        return list(self.shards)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the configuration and of each weights file, for the manifest."""
        return {path.name: sha256_file(path) for path in (self.folder / "config.json", *self.weights_files)}

    @property
    def weights_files(self) -> list[Path]:
        """The files that tensors lie in, by name."""
        return sorted(set(self.shards.values()))

    @property
    def weights_bytes(self) -> int:
        """What these files take."""
        return sum(path.stat().st_size for path in self.weights_files)

    def made_today(self) -> Origin:
        """What a report says of something that is made or measured of this checkpoint now."""
        return Origin(today(), __version__, self.hashes)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        CheckpointError: missing, unreadable, or no object.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; a checkpoint folder needs it") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as JSON ({error}); download it again") from error
    if not isinstance(body, dict):
        raise CheckpointError(f"{path} holds no JSON object; download it again")
    return body


def _find_shards(folder: Path) -> dict[str, Path]:
    index = folder / INDEX
    promised: set[str] = set()
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index} has no weight_map; download it again")
        promised = set(weight_map)
        files = {folder / str(name) for name in weight_map.values()}
        if outside := [path for path in files if path.resolve().parent != folder.resolve()]:
            raise CheckpointError(f"{index} points outside its folder ({outside[0]})")
    elif (single := folder / "model.safetensors").is_file():
        files = {single}
    else:
        pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
        if pickled:
            raise CheckpointError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code when opened; "
                "convert them to safetensors first"
            )
        raise CheckpointError(f"{folder} has neither model.safetensors nor {INDEX}")
    shards: dict[str, Path] = {}
    for path in sorted(files):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, {INDEX} names it; finish the download")
        try:
            with safe_open(path, "np") as stream:
                shards |= dict.fromkeys(stream.keys(), path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is truncated or damaged ({error}); download it again") from error
    if missing := sorted(promised - set(shards)):
        raise CheckpointError(f"{folder}: {INDEX} promises {missing[0]!r}, no file holds it; download it again")
    return shards
