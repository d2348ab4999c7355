"""CheXbert from a folder: its labels against a BERT written out in numpy, what is refused, and `medge evaluate --chexbert`."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import medge
from numpy.typing import NDArray
from PIL import Image
from report_models import SPECIAL, WORDS, save_chexbert, write_chexbert

from medge.export.report_readers.chexbert import CheXbertFolder
from medge.runtime.bundles.manifest import sha256_file
from medge.runtime.errors import CheckpointError, MissingExtraError
from medge.runtime.evaluation.readings.chexbert import FINDINGS

TASKS = Path(__file__).parents[3] / "runtime" / "evaluation" / "tasks"
VOCABULARY = [*SPECIAL, *WORDS]
Floats = NDArray[np.float64]
_erf = np.vectorize(math.erf)


def _norm(x: Floats, weights: dict[str, Floats], name: str) -> Floats:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def _first_state(weights: dict[str, Floats], ids: list[int]) -> Floats:
    """(D,) what BERT (Devlin et al. 2019) makes of the first token, with 4 heads."""

    def linear(x: Floats, name: str) -> Floats:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][0]
    x = _norm(x + weights["embeddings.position_embeddings.weight"][: len(ids)], weights, "embeddings.LayerNorm")
    for number in (0, 1):
        name = f"encoder.layer.{number}"
        query, key, value = (
            linear(x, f"{name}.attention.self.{part}").reshape(len(ids), 4, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        share = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (share / share.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        x = _norm(x + linear(mixed, f"{name}.attention.output.dense"), weights, f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2
        x = _norm(x + linear(inner, f"{name}.output.dense"), weights, f"{name}.output.LayerNorm")
    return np.asarray(x[0])


def _by_hand(state: dict[str, torch.Tensor], words: list[str]) -> list[int | None]:
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}
    bert = {name.removeprefix("module.bert."): one for name, one in weights.items()}
    first = _first_state(bert, [VOCABULARY.index(word) for word in ["[CLS]", *words, "[SEP]"]])
    heads = [(weights[f"module.linear_heads.{n}.weight"], weights[f"module.linear_heads.{n}.bias"]) for n in range(14)]
    return [(None, 1, 0, -1)[int((weight @ first + bias).argmax())] for weight, bias in heads]


REPORTS = {
    "Small left pleural\n effusion SEEN.": ["small", "left", "pleural", "effusion", "seen", "."],
    "No acute cardiopulmonary.": ["no", "acute", "cardio", "##pulmonary", "."],
    "The heart, large": ["[UNK]", "heart", ",", "large"],
    "": [],
    "lungs are clear " * 20: (["lungs", "are", "clear"] * 20)[:38],  # 40 positions, two of them for the ends
}


@pytest.mark.parametrize("old", [True, False])
def test_labels_are_those_of_the_published_arithmetic(tmp_path: Path, old: bool) -> None:
    state = write_chexbert(tmp_path, old=old)
    reader = CheXbertFolder(tmp_path)
    reader.check()
    read = reader.open()
    wanted = {text: _by_hand(state, words) for text, words in REPORTS.items()}
    assert {value for labels in wanted.values() for value in labels} == {None, 1, 0, -1}
    assert len({tuple(map(str, labels)) for labels in wanted.values()}) > 2  # not the same of all
    texts = list(REPORTS)
    for said, right in zip(texts, [*texts[1:], texts[0]], strict=True):
        found = read(said, right)
        assert [found[f"chexbert said {finding}"] for finding in FINDINGS] == wanted[said]
        assert [found[f"chexbert right {finding}"] for finding in FINDINGS] == wanted[right]


def test_classes_mean_what_they_mean_in_chexpert(tmp_path: Path) -> None:
    """Heads without weights, so that their biases choose: not mentioned, present, absent, uncertain, in turns."""
    state = write_chexbert(tmp_path)
    for place in range(14):
        state[f"module.linear_heads.{place}.weight"].zero_()
        bias = state[f"module.linear_heads.{place}.bias"]
        bias.copy_(torch.eye(len(bias))[place % len(bias)])
    save_chexbert(tmp_path, state)
    found = CheXbertFolder(tmp_path).open()("a", "b")
    assert [found[f"chexbert said {finding}"] for finding in FINDINGS] == [*[None, 1, 0, -1] * 3, None, 1]
    assert FINDINGS[0] == "Enlarged Cardiomediastinum"
    assert FINDINGS[13] == "No Finding"  # whose head has two classes


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil"),))


def test_what_is_no_chexbert_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "chexbert"
    reader = CheXbertFolder(folder)
    with pytest.raises(CheckpointError, match=r"is not a folder; give the one that holds chexbert\.pth and bert-base"):
        reader.check()
    state = write_chexbert(folder)
    reader.check()

    def refused(changed: dict[str, torch.Tensor], match: str) -> None:
        save_chexbert(folder, changed)
        with pytest.raises(CheckpointError, match=match):
            reader.check()

    less = {name: one for name, one in state.items() if "linear_heads.13" not in name}
    refused(less, r"chexbert\.pth: lacks the tensor module\.linear_heads\.13\.bias and 1 more")
    refused(
        {**state, "module.linear_heads.14.bias": torch.zeros(4)},
        r"unlike CheXbert, the tensor module\.linear_heads\.14\.bias$",
    )
    refused(
        {f"classifier.{name}": one for name, one in state.items()}, r"lacks the tensor module\.bert\..* and \d+ more"
    )
    odd = {**state, "module.linear_heads.13.bias": torch.zeros(4)}
    refused(odd, r"module\.linear_heads\.13\.bias has the shape \(4,\), and \(2,\) by .*config\.json")
    for content in (state, {"model_state_dict": "none"}, [1]):
        torch.save(content, folder / "chexbert.pth")
        with pytest.raises(CheckpointError, match=r"holds no 'model_state_dict' of tensors"):
            reader.check()
    for content in (Evil(), {"model_state_dict": state, "args": Evil()}):
        torch.save(content, folder / "chexbert.pth")
        with pytest.raises(CheckpointError, match="can't be read as tensors, and nothing else is"):
            reader.check()
    assert not (tmp_path / "evil").exists()
    for content in (b"", b"no weights", b"PK\x03\x04"):
        (folder / "chexbert.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="can't be read as tensors"):
            reader.check()
    save_chexbert(folder, state)
    bert = folder / "bert-base-uncased"
    vocabulary = (bert / "vocab.txt").read_text()
    (bert / "vocab.txt").write_text(vocabulary.replace("[SEP]\n", ""))
    with pytest.raises(CheckpointError, match=r"has 25 tokens where the config beside it says 26, and lacks \[SEP\]"):
        reader.check()
    (bert / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.txt is not there: CheXbert needs .* downloads none of them"):
        reader.check()
    (bert / "vocab.txt").write_text(vocabulary)
    facts = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**facts, "model_type": "roberta"}))
    with pytest.raises(CheckpointError, match="of type 'roberta', expected 'bert'"):
        reader.check()


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chexbert(tmp_path)
    monkeypatch.delitem(sys.modules, "medge.export.report_readers.chexbert_model", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"'torch': pip install 'medge\[export\]'"):
        CheXbertFolder(tmp_path).check()


def _films(folder: Path) -> None:
    (folder / "ecgen-radiology").mkdir(parents=True)
    for number, text in enumerate(["Lungs are clear.", "Small left pleural effusion.", "Heart is large."], 1):
        (folder / "ecgen-radiology" / f"{number}.xml").write_text(
            f'<eCitation><AbstractText Label="FINDINGS">{text}</AbstractText><parentImage id="CXR{number}"/></eCitation>'
        )
        Image.fromarray(np.full((16, 16), 40 * number, np.uint8)).save(folder / f"CXR{number}.png")


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def test_reports_of_a_finished_run_are_read(tiny_reader: Path, tmp_path: Path) -> None:
    """The tiny reader babbles: what is tested is that its reports are read as they are, once, and compared."""
    _films(tmp_path / "data")
    task = tmp_path / "brief.toml"
    task.write_text((TASKS / "iu-xray.toml").read_text().replace("limit = 512", "limit = 6"))
    words = ("evaluate", tiny_reader, "--allow-failed-parity", "--task", task, "--data", tmp_path / "data", "--items", "csv",
             "--context", "1024", "--out")  # fmt: skip
    run, chexbert = tmp_path / "run", tmp_path / "chexbert"
    assert "is not a folder" in medge(*words, run, "--chexbert", chexbert, code=1).stderr
    assert not run.exists()  # refused before a report was written
    medge(*words, run)
    before = sha256_file(run / "items.csv")
    write_chexbert(chexbert)
    facts = json.loads(medge(*words, run, "--chexbert", chexbert, "--json").stdout)
    assert sha256_file(run / "items.csv") == before
    read = CheXbertFolder(chexbert).open()
    kept = {row["id"]: row for row in _rows(run / "chexbert.csv")}
    for row in _rows(run / "items.csv"):
        for name, value in read(row["answer"], row["label"]).items():
            assert kept[row["id"]][name] == ("" if value is None else str(value))
    labels = facts["readers"]["chexbert"]["labels"]
    for finding in FINDINGS:
        right = [kept[key][f"chexbert right {finding}"] in ("1", "-1") for key in kept]
        assert labels[finding]["count"] == sum(right)
    figures = facts["figures"]
    assert {"bleu", "chexbert_micro_f1_of_14", "chexbert_macro_f1_of_5"} <= figures.keys()
    assert figures["chexbert_macro_f1_of_14"]["value"] == pytest.approx(
        np.mean([labels[finding]["f1"]["value"] for finding in FINDINGS])
    )
    assert "CheXbert micro F1 of 14" in (run / "metrics.html").read_text()
    # A second run that was read by the same files is compared by what was found; by others it is not.
    medge(*words, tmp_path / "second", "--chexbert", chexbert)
    compared = json.loads(medge("compare", run, tmp_path / "second", "--json").stdout)["results"][1]["against_first"]
    assert compared["figures"]["chexbert_micro_f1_of_14"] == {
        "first": figures["chexbert_micro_f1_of_14"]["value"], "second": figures["chexbert_micro_f1_of_14"]["value"],
        "value": 0, "low": 0, "high": 0,
    }  # fmt: skip
    assert compared["labels"]["Edema"]["answers"]["count"] == 3
    write_chexbert(tmp_path / "other", seed=1)
    assert "holds other results" in medge(*words, tmp_path / "second", "--chexbert", tmp_path / "other", code=1).stderr
    medge(*words, tmp_path / "third", "--chexbert", tmp_path / "other")
    assert "they differ in the files of --chexbert" in medge("compare", run, tmp_path / "third", code=1).stderr
    medge(*words, tmp_path / "second")  # without a reader, what it found is no longer told
    compared = json.loads(medge("compare", run, tmp_path / "second", "--json").stdout)["results"][1]["against_first"]
    assert set(compared["figures"]) == {"bleu", "chrf", "token_f1"}
    no_reports = ("--task", "medqa", "--data", tmp_path / "data", "--chexbert", chexbert)
    told = medge("evaluate", tiny_reader, *no_reports, code=2).stderr
    assert "--chexbert reads reports, and the task 'medqa' asks for none" in " ".join(told.replace("│", "").split())
