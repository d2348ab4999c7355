"""A measurement that was stopped goes on where it was."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medge

pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")

from medge.export.families.encoder import EncoderReference
from medge.export.parity.divergence import diverge
from medge.export.parity.kept_outputs import Course, KeptOutputs, kept_outputs, versions
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.errors import StorageError

NAMES = ("CT_small", "MR_small", "693_J2KI", "examples_ybr_color")


def counted(values: Sequence[float], calls: list[int]) -> Callable[[], np.ndarray[Any, Any]]:
    def compute() -> np.ndarray[Any, Any]:
        calls.append(len(values))
        return np.array(values, np.float32)[:, None]

    return compute


def test_outputs_outlive_a_stop_and_go_when_all_is_done(tmp_path: Path) -> None:
    place, file = tmp_path / "bundle", tmp_path / ".bundle.measured"
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt), kept_outputs(place, "question") as outputs:
        outputs.rows("onnx", [b"a", b"b"], counted([1 / 3, 2 / 3], calls))
        assert outputs.value(["text", 1], lambda: {"kld": [0.1, 1e-300], "same": [True]}) == {
            "kld": [0.1, 1e-300], "same": [True],
        }  # fmt: skip
        raise KeyboardInterrupt
    with file.open("ab") as stream:  # a process that was killed in the middle of a line
        stream.write(b'["half')
    with kept_outputs(place, "question") as outputs:
        again = outputs.rows("onnx", [b"b", b"a"], counted([0, 0], calls))
        np.testing.assert_array_equal(again, np.array([[2 / 3], [1 / 3]], np.float32))
        assert outputs.value(["text", 1], lambda: pytest.fail("it is known")) == {"kld": [0.1, 1e-300], "same": [True]}
        assert calls == [2]
        # Of another artefact, and with a row that is not known, all rows are made: what goes through together rounds together.
        outputs.rows("coreml", [b"a"], counted([5], calls))
        outputs.rows("onnx", [b"a", b"c"], counted([7, 8], calls))
        assert calls == [2, 1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [b"not ours", b"", b"[1]\n"])
def test_what_another_question_left_is_begun_anew(tmp_path: Path, left: bytes) -> None:
    file = tmp_path / ".bundle.measured"
    with pytest.raises(KeyboardInterrupt), kept_outputs(tmp_path / "bundle", "one") as outputs:
        outputs.value(["a"], lambda: 1)
        raise KeyboardInterrupt
    if left:
        file.write_bytes(
            file.read_bytes().splitlines(keepends=True)[0] + left + b"\n{}\n" if left != b"not ours" else left
        )
    with kept_outputs(tmp_path / "bundle", "one" if left else "another") as outputs:
        assert outputs.value(["a"], lambda: 2) == 2


def test_nothing_is_kept_where_nobody_asked() -> None:
    calls: list[int] = []
    for _ in range(2):
        KeptOutputs().rows("onnx", [b"a"], counted([1], calls))
    assert calls == [1, 1]


def films(images: Path, folder: Path) -> Path:
    for number, label in enumerate(("one", "two")):
        (folder / label).mkdir(parents=True)
        for name in NAMES[2 * number : 2 * number + 2]:
            shutil.copy(images / f"{name}.dcm", folder / label)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def steady(report: Path) -> dict[str, Any]:
    """A report without how long anything took."""
    facts: dict[str, Any] = json.loads(report.read_text())
    facts["figures"].pop("speed", None)
    return facts


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        pytest.raises(StorageError, match=r"writing .*\.bundle\.measured: the file is too large"),
        kept_outputs(tmp_path / "bundle", "one") as outputs,
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            outputs.value(("text",), lambda: 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_stopped_parity_goes_on(
    bundle: Path, checkpoint: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = films(few_images, tmp_path / "films")
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    asked = (
        "parity",
        bundle,
        "--reference",
        checkpoint,
        "--images",
        some,
        "--labelled",
        "--labels",
        tmp_path / "labels.txt",
    )
    monkeypatch.setattr("medge.export.parity.encoder.at_once", lambda facts: 1)
    medge(*asked, "--out", tmp_path / "whole", "--rows", tmp_path / "whole.csv", code=None)
    embed, seen = Encoder.embed_pixels, []

    def stopped(self: Encoder, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(pixels)
        return embed(self, pixels)

    out, rows = tmp_path / "out", tmp_path / "rows.csv"
    monkeypatch.setattr(Encoder, "embed_pixels", stopped)
    said = medge(*asked, "--out", out, "--rows", rows, code=130).stderr
    assert "the same command goes on where it was" in said
    assert not out.exists()
    assert len(rows_of(rows)) == 2
    lines = (tmp_path / ".out.measured").read_text().splitlines()
    assert "CT_small" not in "".join(lines)

    monkeypatch.setattr(Encoder, "embed_pixels", embed)
    asked_of: list[int] = []
    images = EncoderReference.image_embeddings

    def counted_images(self: EncoderReference, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        asked_of.append(len(pixels))
        return images(self, pixels)

    monkeypatch.setattr(EncoderReference, "image_embeddings", counted_images)
    computed_with: list[list[str]] = []

    def noted_versions() -> list[str]:
        computed_with.append(versions())
        return computed_with[-1]

    monkeypatch.setattr("medge.export.jobs.measure.versions", noted_versions)
    told = medge(*asked, "--out", out, "--rows", rows, code=None).stderr
    assert out.exists(), told
    assert len(computed_with) == 1  # what decides the outputs is found once, for the rows and for what is kept
    assert sum(asked_of) == 1  # the reference had done three when the bundle's third was stopped
    assert not (tmp_path / ".out.measured").exists()
    np.testing.assert_equal(steady(out / "parity.json"), steady(tmp_path / "whole" / "parity.json"))
    found = rows_of(rows)
    assert [row["image"] for row in found] == [str(path) for path in sorted(some.rglob("*.dcm"))]
    assert found == rows_of(tmp_path / "whole.csv")
    assert [row["label"] for row in found] == ["one", "one", "two", "two"]
    assert {row["reference_says"] for row in found} <= {"one", "two"}
    other = medge(*asked[:-2], "--labels", tmp_path / "labels.json", "--rows", rows, code=1).stderr
    assert "labels.json" in other
    (tmp_path / "labels.json").write_text(json.dumps({"one": ["1"], "two": ["2"]}))
    other = medge(
        *asked[:-2], "--labels", tmp_path / "labels.json", "--rows", rows, "--out", tmp_path / "n", code=1
    ).stderr
    assert "holds other results" in other


def fake_logits(noise: float, calls: list[int] | None = None) -> Callable[..., np.ndarray[Any, Any]]:
    def logits(items: Sequence[int], first: int = 0) -> np.ndarray[Any, Any]:
        if calls is not None:
            calls.append(len(items))
        rng = np.random.default_rng(list(items))
        rows = rng.normal(size=(len(items), 11)) + noise * rng.normal(size=(len(items), 11))
        return rows[first:].astype(np.float32)

    return logits


def test_a_language_models_prompts_are_not_asked_again(tmp_path: Path) -> None:
    prompts = [[2, 3, 5, 7, number] for number in range(4)]
    passages = [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    theirs = fake_logits(0)
    whole = diverge(fake_logits(0.1), theirs, prompts, "text", passages)
    told: list[dict[str, Any]] = []

    def stopped(what: str, done: int, total: int, /) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), kept_outputs(tmp_path / "reader", "question") as outputs:
        diverge(fake_logits(0.1), theirs, prompts, "text", passages, Course(stopped, outputs))
    calls: list[int] = []
    with kept_outputs(tmp_path / "reader", "question") as outputs:
        course = Course(outputs=outputs, row=lambda row: told.append(dict(row)))
        found = diverge(fake_logits(0.1, calls), theirs, prompts, "text", passages, course)
        # Of other passages the same prompts have the same divergences, and another grouping for the intervals.
        moved = diverge(fake_logits(0.1, calls), theirs, prompts, "text", [[7] * 4] * 4, course)
    assert calls == [5, 5]
    assert found == whole
    assert found.figures() == whole.figures()
    assert moved.kld == whole.kld
    assert set(moved.unit) == {7}
    assert [row["number"] for row in told[:4]] == [1, 2, 3, 4]
    assert told[0]["kld"] == pytest.approx(np.mean(whole.kld[: len(whole.kld) // 4]), abs=1e-6)
