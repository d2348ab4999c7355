"""CheXbert in PyTorch: a BERT, and a linear layer a finding over the state of its first token."""

from __future__ import annotations

import pickle  # nosec B403
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ...runtime.errors import CheckpointError, one_line
from ...runtime.evaluation.readings.chexbert import FINDINGS
from ..source.checkpoint import read_json

STATE, PREFIX = "model_state_dict", "module."  # it was trained with DataParallel, which puts that before each name
# What a class of a head means, as CheXpert writes it. The head of "No Finding" has the first two classes only.
MEANINGS = (None, 1, 0, -1)
HEADS = (*(len(MEANINGS) for _ in FINDINGS[:-1]), 2)
# In the file and not needed: the pooler is not asked, and positions are counted, which some versions of BERT keep as a buffer.
_UNUSED = ("bert.pooler.", "bert.embeddings.position_ids")


class _Labeller(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.linear_heads = nn.ModuleList([nn.Linear(config.hidden_size, classes) for classes in HEADS])

    def forward(self, ids: Tensor) -> list[Tensor]:
        first = self.bert(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
        return [head(first) for head in self.linear_heads]


class CheXbertModel:
    """Labels reports.

    Args:
        weights: `chexbert.pth`.
        config: of its BERT.
        vocabulary: of its BERT, a token a line.

    Raises:
        CheckpointError: a file is damaged, or another model's.
    """

    def __init__(self, weights: Path, config: Path, vocabulary: Path) -> None:
        facts = _config(config)
        self._tokenizer = _tokenizer(vocabulary, facts.vocab_size)
        self._most, self._end = facts.max_position_embeddings, self._tokenizer.token_to_id("[SEP]")
        self._model = _Labeller(facts).eval()
        state = _state(weights)
        _check(state, self._model.state_dict(), weights, config)
        self._model.load_state_dict(state)

    @torch.inference_mode()
    def labels(self, report: str) -> list[int | None]:
        """Of each of the `FINDINGS` 1 (present), 0 (absent), -1 (uncertain) or None (not mentioned).

        A report that is longer than the model can read (512 tokens) is cut off, as its authors do.
        """
        ids = self._tokenizer.encode(" ".join(report.split())).ids
        if len(ids) > self._most:
            ids = [*ids[: self._most - 1], self._end]
        return [MEANINGS[int(scores.argmax())] for scores in self._model(torch.tensor([ids]))]


def _config(path: Path) -> BertConfig:
    facts = read_json(path)
    if facts.get("model_type") != "bert":
        raise CheckpointError(f"{path}: the model is of type {facts.get('model_type')!r}, expected 'bert'")
    try:
        return BertConfig.from_dict(facts)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is no config of a BERT ({one_line(error)})") from error


def _tokenizer(path: Path, size: int) -> Any:
    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: can't be read as text ({error})") from error
    missing = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word not in words]
    if len(words) != size or missing:
        lacks = f", and lacks {', '.join(missing)}" if missing else ""
        raise CheckpointError(f"{path}: has {len(words)} tokens where the config beside it says {size}{lacks}")
    return BertWordPieceTokenizer(str(path), lowercase=True)


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by their names, without what is not needed; nothing in it is run."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: can't be read as tensors, and nothing else is ({one_line(error)})") from error
    state = found.get(STATE) if isinstance(found, dict) else None
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise CheckpointError(f"{path}: holds no {STATE!r} of tensors, which CheXbert's file does")
    named = {str(name).removeprefix(PREFIX): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(_UNUSED)}


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, config: Path) -> None:
    for told, names in (
        ("lacks", wanted.keys() - state.keys()),
        ("has, unlike CheXbert,", state.keys() - wanted.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{path}: {told} the tensor {PREFIX}{min(names)}{more}")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {PREFIX}{name} has the shape {tuple(state[name].shape)}, and {tuple(tensor.shape)} by {config}"
            )
