"""Bad checkpoints are refused with the file and the reason."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tolerances import FP32_EMBEDDING

from medge.export.families.siglip import Reference
from medge.export.source.checkpoint import INDEX, Checkpoint
from medge.export.standin.medsiglip.architecture import SIDE
from medge.runtime.errors import CheckpointError


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def shard(folder: Path) -> list[Path]:
    """Split the weights into two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name, owner in weight_map.items() if owner == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return sorted(folder.glob("model-*"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_one_file_and_shards_hold_the_same(checkpoint: Path, copy: Path) -> None:
    shard(copy)
    one, many = Checkpoint.open(checkpoint, "siglip"), Checkpoint.open(copy, "siglip")
    assert one.names() == many.names()
    name = "vision_model.head.probe"
    np.testing.assert_array_equal(one.tensor(name).numpy(), many.tensor(name).numpy())
    pixels = np.zeros((1, 3, SIDE, SIDE), np.float32)
    both = [Reference(opened).images(pixels).embedding for opened in (one, many)]
    np.testing.assert_allclose(*both, atol=FP32_EMBEDDING)  # a busy machine splits PyTorch's sums in other places


def test_missing_and_truncated_shards(copy: Path) -> None:
    first, second = shard(copy)
    body = second.read_bytes()
    second.write_bytes(body[: len(body) // 2])
    with pytest.raises(CheckpointError, match="00002-of-00002.safetensors is truncated or damaged"):
        Checkpoint.open(copy)
    second.unlink()
    with pytest.raises(CheckpointError, match="00002-of-00002.safetensors is missing"):
        Checkpoint.open(copy)
    first.unlink()


def test_an_index_that_promises_too_much(copy: Path) -> None:
    shard(copy)
    index = json.loads((copy / INDEX).read_text())
    index["weight_map"]["extra"] = index["weight_map"]["logit_scale"]
    (copy / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="promises 'extra', no file holds it"):
        Checkpoint.open(copy)
    index["weight_map"]["extra"] = "../../etc/passwd"
    (copy / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="points outside its folder"):
        Checkpoint.open(copy)


def test_pickled_weights_are_not_opened(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only pickled weights"):
        Checkpoint.open(copy)


def test_other_architectures_and_broken_configurations(copy: Path, tmp_path: Path) -> None:
    edit(copy, model_type="clip")
    with pytest.raises(CheckpointError, match="of type 'clip', expected 'siglip'"):
        Checkpoint.open(copy, "siglip")
    (copy / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="can't be read as JSON"):
        Checkpoint.open(copy)
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        Checkpoint.open(copy)
    with pytest.raises(CheckpointError, match="is not a folder"):
        Checkpoint.open(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        Checkpoint.open(empty)


def test_weights_that_do_not_fit_the_configuration(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    short = {name: value for name, value in tensors.items() if name != "vision_model.head.probe"}
    save_file(short, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lack 'vision_model\.head\.probe'"):
        Reference(Checkpoint.open(copy))
    save_file({**tensors, "stranger": np.zeros(1, np.float32)}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="'stranger' belongs to no part"):
        Reference(Checkpoint.open(copy))
    save_file({**tensors, "vision_model.head.probe": np.zeros((1, 1, 7), np.float32)}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has shape \(1, 1, 7\), the configuration says \(1, 1, 192\)"):
        Reference(Checkpoint.open(copy))


def test_an_unknown_tensor_is_named(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="hold no tensor 'nothing'"):
        Checkpoint.open(checkpoint).tensor("nothing")
