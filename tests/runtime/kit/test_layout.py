"""`kit.json`, and a kit's folder written in one go or in several."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from medge.runtime.errors import KitError
from medge.runtime.kit.layout import Entry, Kit, Statement, check_entries
from medge.runtime.kit.writing import SUMS, write_kit


def file(path: str, content: bytes = b"x", component: str = "packages", mode: int = 0o644) -> Entry:
    sha256 = hashlib.sha256(content).hexdigest()
    return Entry(path, component, sha256, len(content), mode)  # type: ignore[arg-type]  # any number: what is refused, too


def link(path: str, leads: str) -> Entry:
    return Entry(path, "python", link=leads)


def statement(*entries: Entry, **facts: object) -> Statement:
    told: dict[str, Any] = {
        "name": "station",
        "medge": "0.1.0",
        "counter": 3,
        "created": "2026-11-27T09:00:00Z",
        "target": "linux-x86_64",
    }
    return Statement(entries=tuple(sorted(entries, key=lambda one: one.path)), **{**told, **facts})


def signed(path: Path) -> bytes:
    return b"signed " + hashlib.sha256(path.read_bytes()).hexdigest().encode()


GOOD = (
    file("python/bin/python3.12", b"interpreter", "python", 0o755), link("python/bin/python3", "python3.12"),
    file("packages/medge/x.py"), file("packages/medge/y.py"), link("python/lib64", "../packages/medge"),
)  # fmt: skip


def test_a_statement_is_read_as_it_was_written() -> None:
    made = statement(*GOOD, base=2, expires="2027-11-27T09:00:00Z", beside={"install.sh": "0" * 64})
    assert Statement.parse(made.to_json(), Path("kit.json")) == made
    assert made.components == {"packages": 2, "python": 11}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((file("/etc/passwd"),), "no path within"),
        ((file("a/../../b"),), "no path within"),
        ((file("a//b"),), "no path within"),
        ((file("./a"),), "no path within"),
        ((file(""),), "no path within"),
        ((file("a\\b"),), "can't be one of a file"),
        ((file("a\nb"),), "can't be one of a file"),
        ((file("n" * 256),), "can't be one of a file"),
        ((file("a/" * 600 + "b"),), "no path within"),
        ((file("a"), file("a")), "one name"),
        ((file("Readme"), file("readme")), "one name"),
        ((file("a"), file("a/b")), "a file and a folder"),
        ((file("A"), file("a/b")), "a file and a folder"),
        ((file("a/b"), file("A/c")), "one where case"),
        ((link("a", "b"), file("a/c"), file("b/d")), "a file and a folder"),
        ((link("a", "/etc"),), "no plain relative path"),
        ((link("a", ".."),), "no plain relative path"),
        ((link("a/b", "../../etc"),), "nothing of the version"),
        ((link("a", "b/../c"), file("c")), "no plain relative path"),
        ((link("a", "gone"),), "nothing of the version"),
        ((link("a", "b"), link("b", "a")), "nothing of the version"),
        ((link("a", "d/x"), link("d", "e"), file("e/x")), "nothing of the version"),
        ((dataclasses.replace(file("a"), sha256=None),), "lacks a file's"),
        ((dataclasses.replace(file("a"), link="b"), file("b")), "a file and a link"),
        ((file("a"), dataclasses.replace(file("b"), size=7)), "two sizes"),
    ],
)  # fmt: skip
def test_what_no_version_may_hold_is_refused(entries: tuple[Entry, ...], why: str) -> None:
    with pytest.raises(KitError, match=why):
        check_entries(sorted(entries, key=lambda one: one.path))
    with pytest.raises(KitError, match=why):
        Statement.parse(statement(*entries).to_json(), Path("kit.json"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"format": 1', '"format": 2'),
        ('"counter": 3', '"counter": 0'),
        ('"counter": 3', '"counter": 3.5'),
        ('"linux-x86_64"', '"windows"'),
        ("2026-11-27T09:00:00Z", "2026-13-27T09:00:00Z"),
        ('"mode": 420', '"mode": 511'),
        ('"component": "packages"', '"component": "../packages"'),
        ('"name"', '"unknown": 1, "name"'),
        ('"name"', '"name": "twice", "name"'),
        ("{", "["),
    ],
)
def test_a_statement_of_another_form_is_refused(before: str, after: str) -> None:
    text = statement(*GOOD).to_json().decode()
    assert before in text
    with pytest.raises(KitError, match="is no statement of a kit"):
        Statement.parse(text.replace(before, after).encode(), Path("kit.json"))


@pytest.fixture
def pieces() -> dict[str, bytes]:
    return {hashlib.sha256(content).hexdigest(): content for content in (b"interpreter", b"x")}


def test_a_kit_is_written_whole_and_read_again(tmp_path: Path, pieces: dict[str, bytes]) -> None:
    made = write_kit(tmp_path / "stick", statement(*GOOD), pieces, {"install.sh": b"#!/bin/sh\n"}, signed)
    opened = Kit.open(tmp_path / "stick")
    assert opened == made
    assert opened.absent() == {}
    assert (opened.folder / "kit.sig").read_bytes() == signed(opened.folder / "kit.json")
    assert {path: opened.piece(path).read_bytes() for path in pieces} == pieces
    sums = dict(reversed(line.split("  ")) for line in (opened.folder / SUMS).read_text().splitlines())
    assert sums == {
        name: hashlib.sha256((opened.folder / name).read_bytes()).hexdigest()
        for name in ("install.sh", "kit.json", "kit.sig")
    }
    assert opened.statement.beside == {"install.sh": sums["install.sh"]}
    assert not [one for one in opened.folder.rglob(".*")]


def test_a_kit_that_was_interrupted_is_none_and_goes_on(tmp_path: Path, pieces: dict[str, bytes]) -> None:
    def stopped(path: Path) -> bytes:
        raise KeyboardInterrupt

    out = tmp_path / "stick"
    with pytest.raises(KeyboardInterrupt):
        write_kit(out, statement(*GOOD), pieces, {}, stopped)
    with pytest.raises(KitError, match="its making was interrupted"):
        Kit.open(out)
    paths = sorted(out.glob("pieces/*/*"))
    paths[0].write_bytes(b"y" * paths[0].stat().st_size)  # as after a power cut
    stranger = out / "pieces" / "00" / ("0" * 64)
    stranger.parent.mkdir()
    stranger.write_bytes(b"of an earlier kit")
    kept = paths[1].stat().st_ino
    write_kit(out, statement(*GOOD), pieces, {}, signed)
    assert paths[1].stat().st_ino == kept
    assert {path.name: path.read_bytes() for path in out.glob("pieces/*/*")} == pieces


def test_what_lies_there_is_not_overwritten(tmp_path: Path, pieces: dict[str, bytes]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(KitError, match="holds other things"):
        write_kit(tmp_path / "photos", statement(*GOOD), pieces, {}, signed)
    write_kit(tmp_path / "stick", statement(*GOOD), pieces, {}, signed)
    with pytest.raises(KitError, match="--force"):
        write_kit(tmp_path / "stick", statement(*GOOD), pieces, {}, signed)
    again = write_kit(tmp_path / "stick", statement(*GOOD, counter=4), pieces, {}, signed, force=True)
    assert Kit.open(again.folder).counter == 4


def test_a_content_that_changed_under_way_is_refused(tmp_path: Path, pieces: dict[str, bytes]) -> None:
    wrong = {next(iter(pieces)): b"another"}
    with pytest.raises(KitError, match="was changed while"):
        write_kit(tmp_path / "stick", statement(*GOOD), wrong, {}, signed)
    with pytest.raises(KitError, match="is missing"):
        Kit.open(tmp_path / "stick")
