"""RadGraph from a folder, by its package where that is installed (pip install 'medge[radgraph]'), and what is refused."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
import transformers

from medge.export.report_readers.radgraph import RadGraphFolder
from medge.runtime.errors import CheckpointError, MissingExtraError
from medge.runtime.evaluation.readings.radgraph import COLUMNS

OLD = hasattr(transformers.PreTrainedTokenizerBase, "encode_plus")  # transformers 4


def _no_network(*_: object) -> NoReturn:
    raise AssertionError("something asked for a network")


@pytest.mark.skipif(not OLD, reason="the package radgraph needs transformers 4")
def test_reports_are_scored_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("radgraph", reason="pip install 'medge[radgraph]'")
    from radgraph import F1RadGraph
    from report_models import write_radgraph

    folder = tmp_path / "radgraph"
    write_radgraph(folder)
    capsys.readouterr()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    reader = RadGraphFolder(folder)
    reader.check()
    score = reader.open()
    same = score("Small left pleural effusion.", "Small left pleural effusion.")
    assert same == dict.fromkeys(COLUMNS, 1.0)
    assert score("", "Lungs are clear.") == dict.fromkeys(COLUMNS, 0.0)
    apart = score("Small left pleural effusion.", "Left pleural effusion seen.")
    assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in before} == before
    # The package itself, given what its own config should have said.
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["embedder"]["token_embedders"]["bert"]["model_name"] == "some-hub/some-bert"
    config["model"]["embedder"]["token_embedders"]["bert"]["model_name"] = str(folder / "bert")
    config["dataset_reader"]["token_indexers"]["bert"]["model_name"] = str(folder / "bert")
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "radgraph-xl").symlink_to(folder)
    package = F1RadGraph(reward_level="all", model_type="radgraph-xl", model_cache_dir=str(tmp_path / "cache"), cuda=-1)
    _, found, *_ = package(hyps=["Small left pleural effusion."], refs=["Left pleural effusion seen."])
    assert [apart[column] for column in COLUMNS] == pytest.approx([values[0] for values in found], abs=1e-6)
    assert 0 < found[0][0] < 1
    (folder / "weights.th").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="the package radgraph can't load it"):
        reader.check()


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medge.export.report_readers.radgraph.find_spec", lambda name: name != "radgraph" or None)
    with pytest.raises(MissingExtraError, match=r"'radgraph': pip install 'medge\[radgraph\]'"):
        RadGraphFolder(tmp_path).check()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package and transformers 4 were there; what is refused before they are used needs no more."""
    monkeypatch.setattr("medge.export.report_readers.radgraph.find_spec", lambda name: ModuleType(name))
    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "encode_plus", None, raising=False)
    monkeypatch.setitem(sys.modules, "radgraph", None)


def test_transformers_5_is_refused(tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transformers.PreTrainedTokenizerBase, "encode_plus")
    with pytest.raises(MissingExtraError, match=r"'transformers<5': pip install 'medge\[radgraph\]'"):
        RadGraphFolder(tmp_path).check()


def test_what_is_no_radgraph_is_refused(tmp_path: Path, installed: None) -> None:
    folder = tmp_path / "radgraph"
    reader = RadGraphFolder(folder)
    with pytest.raises(CheckpointError, match=r"is not a folder; give the one that holds weights\.th"):
        reader.check()
    (folder / "bert").mkdir(parents=True)
    (folder / "weights.th").write_bytes(b"")
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"bert/config\.json is not there: .*medge downloads none of them"):
        reader.check()
    (folder / "bert" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds the labels of none of radgraph, radgraph-xl, modern-radgraph-xl"):
        reader.check()
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "radgraph-xl__ner_labels.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"config\.json: names no BERT where RadGraph's does"):
        reader.check()
