"""CheXbert and RadGraph in the layouts in which they are handed out, with random weights: a few kilobytes each."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import torch
from transformers import BertConfig, BertModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "a", "b", "1", "2", "no", "acute", "cardio", "##pulmonary", "small", "left", "pleural", "effusion", "seen", "lungs", "are",
    "clear", "heart", "is", "large", ".", ",",
]  # fmt: skip
HEADS = (*[4] * 13, 2)


def write_bert(folder: Path) -> BertConfig:
    """A BERT's config and vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "model_type": "bert"}))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    return config


def write_chexbert(folder: Path, *, old: bool = True, seed: int = 0) -> dict[str, torch.Tensor]:
    """`chexbert.pth` and `bert-base-uncased`.

    Args:
        folder: where to.
        old: as torch wrote files before 1.6, which the published one is, and with the positions that BERT kept then.
        seed: of the weights.

    Returns:
        the tensors by the names that they have in the file.
    """
    config = write_bert(folder / "bert-base-uncased")
    torch.manual_seed(seed)
    state = {f"module.bert.{name}": 8 * tensor for name, tensor in BertModel(config).state_dict().items()}
    if old:
        state["module.bert.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    for place, classes in enumerate(HEADS):
        head = torch.nn.Linear(config.hidden_size, classes)
        state |= {f"module.linear_heads.{place}.{name}": tensor.clone() for name, tensor in head.state_dict().items()}
    save_chexbert(folder, state, old=old)
    return state


def save_chexbert(folder: Path, state: dict[str, torch.Tensor], *, old: bool = True) -> None:
    """The file alone; its authors save the epoch and the optimizer as well."""
    torch.save(
        {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 2e-5}]}},
        folder / "chexbert.pth", _use_new_zipfile_serialization=not old,
    )  # fmt: skip


def write_radgraph(folder: Path, kind: str = "radgraph-xl") -> None:
    """The unpacked archive of RadGraph, and `bert`; needs the package."""
    from radgraph import radgraph as package

    bert = folder / "bert"
    write_bert(bert)
    indexer = {"type": "pretrained_transformer_mismatched", "max_length": 40, "model_name": str(bert)}
    model = {
        "type": "dygie", "embedder": {"token_embedders": {"bert": dict(indexer)}}, "initializer": {}, "module_initializer": {},
        "feature_size": 20, "feedforward_params": {"num_layers": 2, "hidden_dims": 16, "dropout": 0.4}, "max_span_width": 8,
        "loss_weights": {"coref": 0, "events": 0, "ner": 0.2, "relation": 1}, "target_task": "relation",
        "modules": {
            "coref": {"coref_prop": 0, "max_antecedents": 100, "spans_per_word": 0.3}, "ner": {},
            "events": {
                "loss_weights": {"arguments": 1, "trigger": 1}, "trigger_spans_per_word": 0.3, "argument_spans_per_word": 0.8
            },
            "relation": {"spans_per_word": 0.5},
        },
    }  # fmt: skip
    reader = {"type": "dygie", "max_span_width": 8, "token_indexers": {"bert": indexer}}
    config = folder / "config.json"
    config.write_text(json.dumps({"dataset_reader": reader, "model": model}))
    labels = folder / "vocabulary"
    labels.mkdir()
    (labels / "non_padded_namespaces.txt").write_text(f"*tags\n*labels\n{kind}__ner_labels\n{kind}__relation_labels\n")
    entities = ["", "Observation::definitely present", "Anatomy::definitely present", "Observation::definitely absent"]
    (labels / f"{kind}__ner_labels.txt").write_text("\n".join(entities) + "\n")
    (labels / f"{kind}__relation_labels.txt").write_text("\nmodify\nlocated_at\n")

    def save(self: torch.nn.Module, state: object, strict: bool = True) -> None:
        torch.save(self.state_dict(), folder / "weights.th")

    torch.manual_seed(0)
    place = folder.parent / "made"
    place.mkdir()
    (place / kind).symlink_to(folder)
    no_file = mock.patch.object(torch, "load", return_value={})
    with mock.patch.object(package.dygie.DyGIE, "load_state_dict", save), no_file:
        package.RadGraph(model_type=kind, model_cache_dir=str(place), cuda=-1)
    for part in (indexer, model["embedder"]["token_embedders"]["bert"]):
        part["model_name"] = "some-hub/some-bert"  # as published: a name
    config.write_text(json.dumps({"dataset_reader": reader, "model": model}))
