"""Texts as editors of all systems save them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from medge.export.source.corpus import iterate_texts
from medge.runtime.encoder.labels import read_labels
from medge.runtime.errors import CorpusError, LabelError
from medge.runtime.evaluation.task import read_task
from medge.runtime.written_text import read_written


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path: Path) -> None:
    """Notepad puts one before the first letter; it stood in the table and in the JSON as part of the label."""
    lines, body = tmp_path / "labels.txt", tmp_path / "labels.json"
    lines.write_bytes(codecs.BOM_UTF8 + b"pneumonia\r\n\r\nno finding\r\n")
    assert list(read_labels(lines)) == ["pneumonia", "no finding"]
    body.write_bytes(codecs.BOM_UTF8 + b'{"pneumonia": ["chest x-ray with pneumonia"]}')
    assert read_labels(body) == {"pneumonia": ["chest x-ray with pneumonia"]}


def test_a_byte_order_mark_is_no_part_of_texts_and_tasks(tmp_path: Path) -> None:
    plain, lines, task = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "own.toml"
    plain.write_bytes(codecs.BOM_UTF8 + b"No effusion.")
    lines.write_bytes(codecs.BOM_UTF8 + b'{"text": "No effusion."}\n')
    assert list(iterate_texts([plain, lines])) == ["No effusion."] * 2
    task.write_bytes(
        codecs.BOM_UTF8 + (Path(read_task.__code__.co_filename).parent / "tasks" / "folder.toml").read_bytes()
    )
    assert read_task(str(task)).task == read_task("folder").task


def test_another_encoding_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("pneumonia\n".encode("utf-16"))
    with pytest.raises(LabelError, match=r"labels\.txt: can't be read as text: it is not in UTF-8; save it as UTF-8$"):
        read_labels(file)
    with pytest.raises(CorpusError, match=r"can't be read as text \(No such file or directory\)$"):
        read_written(tmp_path / "gone", CorpusError)
