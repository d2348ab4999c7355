"""Banks, probes, tokenizers and indexes that were damaged, swapped or prepared: each is refused in one sentence."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.facts import (
    Artefact,
    EncoderFacts,
    GoldenBound,
    Preprocessing,
    Source,
    TokenizerFacts,
    TowerFacts,
)
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.bundles.tensors import Declared, read_tensors
from medge.runtime.device.cpu import check_threads
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.labels import LabelBank, read_labels
from medge.runtime.encoder.linear_probe import Probe
from medge.runtime.encoder.tokenizer import Tokenizer
from medge.runtime.encoder.vector_index import VectorIndex, build_index
from medge.runtime.errors import (
    BundleError,
    IndexFileError,
    LabelError,
    MedgeError,
    ProbeError,
    RecipeError,
    StorageError,
)

SIZE = 8
ROWS = np.eye(3, SIZE, dtype=np.float32)
PROMPTS = json.dumps({"a": ["one"], "b": ["two", "three"], "c": ["four"]})
NAN = np.where(ROWS == 1, np.nan, ROWS).astype(np.float32)


def bank_file(path: Path, rows: NDArray[Any] = ROWS, prompts: str = PROMPTS, name: str = "embeddings") -> Path:
    save_file({name: np.ascontiguousarray(rows)}, path, {"prompts": prompts})
    return path


BANKS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"rows": NAN}, "'embeddings' has values that are not finite numbers"),
    "infinity": ({"rows": np.where(ROWS == 1, np.inf, ROWS).astype(np.float32)}, "not finite"),
    "zeros": ({"rows": ROWS * 0}, "embedding 0 has length 0 instead of 1"),
    "another length": ({"rows": ROWS * 2}, "embedding 0 has length 2 instead of 1"),
    "float64": ({"rows": ROWS.astype(np.float64)}, "is F64 of 3 x 8, and must be F32 of"),
    "one row less": ({"rows": ROWS[:2]}, "3 labels have 2 embeddings"),
    "no rows": ({"rows": ROWS[:0]}, "is F32 of 0 x 8, and must be"),
    "narrower": ({"rows": ROWS[:, :4].copy()}, r"is F32 of 3 x 4, and must be F32 of \? x 8"),
    "one dimension": ({"rows": ROWS[0]}, "is F32 of 8, and must be"),
    "another name": ({"name": "rows"}, "it holds rows, and must hold embeddings"),
    "no labels": ({"prompts": "{}"}, "the label list is empty"),
    "labels as a list": ({"prompts": '["a", "b", "c"]'}, "it is no object"),
    "a label twice": ({"prompts": '{"a": ["x"], "a": ["y"], "c": ["z"]}'}, "'a' is there twice"),
    "a prompt that is none": ({"prompts": '{"a": [1], "b": ["x"], "c": ["y"]}'}, "must be non-empty texts"),
    "prompts that are none": ({"prompts": '{"a": 5, "b": ["x"], "c": ["y"]}'}, "must be non-empty texts"),
    "deep": ({"prompts": "[" * 100_000}, "not a label bank"),
}


@pytest.mark.parametrize(("change", "said"), BANKS.values(), ids=BANKS)
def test_label_banks(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert LabelBank.load(bank_file(tmp_path / "good"), SIZE).names == ("a", "b", "c")
    with pytest.raises(BundleError, match=said) as caught:
        LabelBank.load(bank_file(tmp_path / "bad", **change), SIZE)
    assert "\n" not in str(caught.value)


def test_label_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(LabelError, match="is no regular file"):
        read_labels(tmp_path / "pipe.json")
    for text, said in (
        ('{"a": 5}', "non-empty texts"),
        ('{"a": ["x"], "a": ["y"]}', "twice"),
        ("[" * 100_000, "not JSON"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(LabelError, match=said):
            read_labels(tmp_path / "a.json")
    (tmp_path / "a.txt").write_text("x" * 1001)
    with pytest.raises(LabelError, match="a label has 1001 characters, at most 1000"):
        read_labels(tmp_path / "a.txt")


def test_cut_and_changed_heads(tmp_path: Path) -> None:
    """Whatever a byte is changed to: a sentence, or the same shapes and finite values."""
    content = bank_file(tmp_path / "good").read_bytes()
    rng = random.Random(0)
    path = tmp_path / "bad"
    accepted = 0
    for _ in range(400):
        spoilt = bytearray(content)
        for _ in range(rng.choice((1, 1, 4))):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        path.write_bytes(spoilt[: rng.choice((len(spoilt), rng.randrange(len(spoilt))))])
        try:
            bank = LabelBank.load(path, SIZE)
        except MedgeError:
            continue
        accepted += 1
        assert bank.embeddings.shape == (len(bank.names), SIZE)
        assert np.abs(np.linalg.norm(bank.embeddings, axis=1) - 1).max() < 2e-3
    assert accepted < 200
    with pytest.raises(ValueError, match="no regular file"):
        read_tensors(Path(os.devnull), {"a": Declared("F32", (None,))})


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    Probe(("a", "b"), ROWS[:2], np.zeros(2, np.float32), "print", {"folds": 2}).save(tmp_path / "p")
    return tmp_path / "p"


def test_probes(probe: Path) -> None:
    fitted = Probe.load(probe, "print")
    assert fitted.predict(ROWS).shape == (3, 2)
    with pytest.raises(ProbeError, match="reads embeddings of 8 numbers, these have 4"):
        fitted.predict(ROWS[:, :4])
    with pytest.raises(ProbeError, match="are not finite numbers"):
        fitted.predict(NAN)
    content = probe.read_bytes()
    for old, new in ((b'[\\"a\\", \\"b\\"]', b'[\\"b\\", \\"a\\"]'), (b'"print"', b'"prind"')):  # labels changed places
        assert old in content
        probe.write_bytes(content.replace(old, new))
        with pytest.raises(ProbeError, match="was changed after it was written"):
            Probe.load(probe, "prind" if new == b'"prind"' else "print")
    tensors = load_file_of(content, probe)
    for changed in ({"weight": NAN[:2]}, {"bias": np.zeros(3, np.float32)}, {"bias": np.zeros((2, 1), np.float32)}):
        save_file({**tensors, **changed}, probe)
        with pytest.raises(ProbeError, match="is no probe"):
            Probe.load(probe, "print")


def load_file_of(content: bytes, place: Path) -> dict[str, NDArray[Any]]:
    place.write_bytes(content)
    return load_file(place)


class FakeEncoder:
    """Embeds an image as what its name says."""

    fingerprint = "sha/eval-tf"

    def stream_images(self, sources: list[str], **_: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for source in sources:
            yield source, np.eye(1, SIZE, int(Path(source).stem), dtype=np.float32)[0]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "films.index"
    build_index(path, FakeEncoder(), [tmp_path / f"{number}.png" for number in range(5)])  # type: ignore[arg-type]  # all of one that an index asks
    return path


def found(path: Path) -> list[str]:
    with VectorIndex.open(path, FakeEncoder.fingerprint) as opened:
        return [Path(hit.path).name for hit in opened.search(np.eye(1, SIZE, 3, dtype=np.float32)[0], 1)]


def execute(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return change


def spoil_graph(path: Path, change: Callable[[bytes], bytes]) -> None:
    connection = sqlite3.connect(path)
    [(graph,)] = connection.execute("SELECT value FROM facts WHERE key = 'graph'")
    connection.execute("UPDATE facts SET value = ? WHERE key = 'graph'", (change(graph),))
    connection.commit()
    connection.close()


INDEXES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the graph": (
        lambda path: spoil_graph(path, lambda graph: graph[:-9] + bytes([graph[-9] ^ 255]) + graph[-8:]),
        "the search graph was changed; build it again with 'medge index build --force'",
    ),
    "a cut graph": (
        lambda path: spoil_graph(path, lambda graph: graph[:100]),
        "the search graph was cut or is missing",
    ),
    "a graph of zeros": (lambda path: spoil_graph(path, lambda graph: bytes(len(graph))), "search graph was changed"),
    "no graph": (execute("UPDATE facts SET value = NULL WHERE key = 'graph'"), "cut or is missing"),
    "a number for a graph": (execute("UPDATE facts SET value = 7 WHERE key = 'graph'"), "cut or is missing"),
    "names changed": (
        execute(
            "UPDATE items SET path = 'x' WHERE id = 1",
            "UPDATE items SET path = replace(path, '4.png', '0.png') WHERE id = 5",
        ),
        "images were changed",
    ),
    "a name that is none": (
        execute("UPDATE items SET path = NULL WHERE id = 1"),
        "image 1 has no name or no embedding",
    ),
    "an image less": (
        execute("DELETE FROM items WHERE id = 1", "UPDATE facts SET value = '4' WHERE key = 'graph_count'"),
        "images were changed",
    ),
    "a vector of another length": (
        execute("UPDATE items SET vector = zeroblob(7) WHERE id = 2", "DELETE FROM facts WHERE key = 'graph_count'"),
        "embeddings differ in length",
    ),
    "a vector of zeros": (
        execute("UPDATE items SET vector = zeroblob(32) WHERE id = 2", "DELETE FROM facts WHERE key = 'graph_count'"),
        "embedding 1 has length 0",
    ),
    "a text for a vector": (
        execute("UPDATE items SET vector = 'x' WHERE id = 2", "DELETE FROM facts WHERE key = 'graph_count'"),
        "embeddings differ in length",
    ),
    "a view without an end": (
        execute(
            "DROP TABLE items",
            "CREATE VIEW items AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
            "SELECT id, 'x' AS path, zeroblob(32) AS vector FROM n",
        ),
        "its tables are others",
    ),
    "a vector of another image": (
        execute("UPDATE items SET vector = (SELECT vector FROM items WHERE id = 4) WHERE id = 2"),
        "images were changed",
    ),
    "a format of its own": (
        lambda path: execute(f"UPDATE facts SET value = '{'a' * 5000}' WHERE key = 'version'")(path),
        r"has index format a+\.\.\.a+, this medge",
    ),
    "a trigger": (
        execute("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END"),
        "its tables are others",
    ),
    "the format before": (
        execute("UPDATE facts SET value = '2' WHERE key = 'version'"),
        "has index format 2, this medge reads 3; build it again with 'medge index build --force'",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), INDEXES.values(), ids=INDEXES)
def test_indexes(index: Path, spoil: Callable[[Path], None], said: str) -> None:
    assert found(index) == ["3.png"]
    spoil(index)
    with pytest.raises(IndexFileError, match=said):
        found(index)


def test_an_index_is_searched_with_an_embedding(index: Path) -> None:
    with VectorIndex.open(index, None) as opened:
        for query in (NAN[0], ROWS[0, :4], ROWS):
            with pytest.raises(IndexFileError, match="is searched with 8 finite numbers"):
                opened.search(query)


def test_an_index_replaces_only_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, said in ((pipe, "is a device, a pipe or a socket"), (tmp_path, "is a folder")):
        with pytest.raises(StorageError, match=said):
            build_index(place, FakeEncoder(), [], force=True)  # type: ignore[arg-type]  # all of one that an index asks
    assert pipe.is_fifo()


def test_usearch_may_come_first() -> None:
    """Loaded before ONNX Runtime, usearch's kernels end the process on some machines."""
    code = "from medge.runtime.encoder import vector_index as v; v._usearch(); import onnxruntime"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def words() -> dict[str, Any]:
    library = Library(
        models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], 2, False)
    )
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    library.add_special_tokens(["<pad>", "</s>", "<unk>"])
    body: dict[str, Any] = json.loads(library.to_str())
    return body


def deep(body: dict[str, Any], depth: int) -> None:
    inner: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(depth):
        inner = {"type": "Sequence", "normalizers": [inner]}
    body["normalizer"] = inner


TOKENIZERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "deep": (lambda body: deep(body, 200), "stand too deep"),
    "another part": (
        lambda body: body.update(normalizer={"type": "Nmt"}),
        "its normalizer has a part of the kind 'Nmt'",
    ),
    "a part of no kind": (lambda body: body.update(normalizer={"type": ["Lowercase"]}), "a part of the kind"),
    "another model": (lambda body: body["model"].update(type="WordLevel"), "its model has a part of the kind"),
    "an unknown field": (lambda body: body.update(code="x"), "unknown field 'code'"),
    "an id beyond the tower": (lambda body: body["added_tokens"][0].update(id=5), "its token ids reach 5, and"),
    "an id below 0": (lambda body: body["added_tokens"][0].update(id=-1), "not a tokenizer"),
    "too many words": (lambda body: body["model"]["vocab"].append(["c", 0]), "its token ids reach 5, and"),
    "no words": (lambda body: body["model"].update(vocab=[]), "not a tokenizer"),
    "words without scores": (lambda body: body["model"].update(vocab=["a"] * 5), "its words are not in order"),
    "an unknown word of none": (lambda body: body["model"].update(unk_id=9), "its unknown token 9 is none of 5"),
    "no end": (lambda body: body.update(post_processor=None), "does not end a text with token 1"),
    "another end": (
        lambda body: body["post_processor"]["special_tokens"]["</s>"].update(ids=[3]),
        "does not end a text",
    ),
    "a list for a part": (lambda body: body.update(decoder=[]), "not a tokenizer"),
    "a broken pattern": (
        lambda body: body.update(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
        "not a tokenizer",
    ),
}


@pytest.mark.parametrize(("change", "said"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers(
    words: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(words))
    facts = TokenizerFacts(4, 1, 0)
    assert Tokenizer(path, facts, 5).encode(["A b"])[0].tolist() == [[3, 2, 4, 1]]
    body = json.loads(json.dumps(words))
    change(body)
    path.write_text(json.dumps(body))
    with pytest.raises(BundleError, match=said):
        Tokenizer(path, facts, 5)


def test_facts_that_are_not_the_tokenizers(words: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(words))
    with pytest.raises(BundleError, match="does not end a text with token 2, as the manifest says"):
        Tokenizer(path, TokenizerFacts(4, 2, 0), 5)
    with pytest.raises(BundleError, match="token 3 is no special token"):
        Tokenizer(path, TokenizerFacts(4, 1, 3), 5)
    os.truncate(path, 100)
    with pytest.raises(BundleError, match="is not a tokenizer"):
        Tokenizer(path, TokenizerFacts(4, 1, 0), 5)


def test_a_panic_is_a_sentence(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library's Rust code raises when it panics is no `Exception`."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(words))
    tokenizer = Tokenizer(path, TokenizerFacts(4, 1, 0), 5)

    class PanicException(BaseException):
        pass

    class Panicking:
        def encode_batch(self, _: list[str]) -> None:
            raise PanicException("index out of bounds")

    monkeypatch.setattr(tokenizer, "_tokenizer", Panicking())
    with pytest.raises(BundleError, match=r"is not a tokenizer \(index out of bounds\)"):
        tokenizer.encode(["a"])


class Tower:
    """An inference session that gives these values, whatever it is given."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    def run(self, _outputs: Any, _inputs: Any) -> list[NDArray[np.float32]]:
        return [self.values]


@pytest.fixture
def encoder() -> Encoder:
    facts = EncoderFacts("siglip", SIZE, 14, 14, 5, TokenizerFacts(4, 1, 0), 10.0, -4.0, 100)
    towers = {"vision": TowerFacts("fp16", "v.onnx", "onnx", GoldenBound("min", 0.99), ("pixel_values",), "out")}
    manifest = Manifest(
        kind="encoder", name="eyes", model=facts, preprocessing=Preprocessing("eval-tf", (0.5,) * 3, (0.5,) * 3),
        target="any", source=Source("mini", {}, ""), artefacts={"onnx": Artefact(towers)},
    )  # fmt: skip
    return Encoder(Bundle(Path("eyes"), manifest))


@pytest.mark.parametrize(
    "values", [NAN, ROWS * 0, np.where(ROWS == 1, np.inf, 0).astype(np.float32), ROWS * np.float32(1e30)],
    ids=["NaN", "zeros", "infinity", "too large to be squared"],
)  # fmt: skip
def test_embeddings_that_are_no_numbers(encoder: Encoder, values: NDArray[np.float32]) -> None:
    pixels = np.zeros((3, 3, 14, 14), np.float32)
    encoder.__dict__["vision"] = Tower(ROWS * 7)
    np.testing.assert_array_equal(encoder.embed_pixels(pixels), ROWS)
    encoder.__dict__["vision"] = Tower(values)
    with pytest.raises(BundleError, match=r"eyes: its vision tower \(fp16\) computes no finite numbers here"):
        encoder.embed_pixels(pixels)


def test_scores_that_are_no_numbers(encoder: Encoder) -> None:
    bank = LabelBank({"a": ["a"], "b": ["b"], "c": ["c"]}, ROWS)
    assert encoder.score(ROWS, bank)[0].best == "a"
    with pytest.raises(LabelError, match="not finite numbers"):
        encoder.score(NAN, bank)
    with pytest.raises(LabelError, match="not finite numbers"):
        encoder.score(ROWS, LabelBank(bank.prompts, NAN))
    with pytest.raises(LabelError, match="a label's embedding has 4 numbers, an image's 8"):
        encoder.score(ROWS, LabelBank(bank.prompts, ROWS[:, :4]))
    with pytest.raises(LabelError, match="the embedding of label 0 has length 0 instead of 1: its prompts cancel"):
        LabelBank.build({"a": ["for", "against"]}, lambda _: np.stack([ROWS[0], -ROWS[0]]))


def test_more_threads_than_any_machine_has() -> None:
    for threads, said in ((0, "can compute nothing"), (100_000, "100000 threads are more than 1024")):
        with pytest.raises(RecipeError, match=said):
            check_threads(threads)
    check_threads(1024)
