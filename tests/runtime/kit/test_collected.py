"""What goes home: every number is right, and nothing of a patient is in it, whatever a store holds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import msgspec
import pytest

from medge.runtime.errors import KitError, MedgeError, StationError, fault_of
from medge.runtime.kit.collected import known
from medge.runtime.kit.collected.gather import Source, gather
from medge.runtime.kit.collected.report import Collected, count, share, spread, two_digits
from medge.runtime.kit.collected.sealed import new_key, private_key, public_key, read, seal, text_of, unseal
from medge.runtime.kit.collected.station import parts_of, told
from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import DATABASE

DRAFT = "Findings\nLungs: Clear.\nPleura: No effusion.\nHeart: Normal size.\n\nImpression\nNormal chest."
CHANGED = "Findings\nLungs: Clear.\nPleura: A small effusion on the left.\nHeart: Normal size.\n\nImpression\nEffusion."
# What a store may hold of patients, in every way that people and devices write it.
SECRETS = (
    "Mwangi^Grace", "MWANGI", "Wanjiku", "PID-004711", "19840229", "1984-02-29", "0722123456", "grace.mwangi@example.org",
    "hepatocellular", "ACC20261127", "mwangi_grace_chest.dcm", "DrOkello", "RUARAKA-CT-2", "CT", "Amina-Yusuf",
)  # fmt: skip


def secret(draw: random.Random) -> str:
    """A text that must not leave: a word that nobody else writes, with what patients' data look like around it."""
    return f"Zx{draw.randrange(10**9):09d}qv {draw.choice(SECRETS)}"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Station.open(tmp_path / "store"):
        pass
    return tmp_path / "store"


@contextlib.contextmanager
def rows(store: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(store / DATABASE)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def add_reports(store: Path, number: int, *, changed: int, template: str = "chest-xray", model: str = "reader") -> None:
    """So many studies with a draft and a signed report, some of them changed twice first."""
    with rows(store) as connection:
        first = connection.execute("SELECT count(*) FROM studies").fetchone()[0]
        for at in range(first, first + number):
            uid = f"1.2.{at}"
            connection.execute("INSERT INTO studies VALUES (?, 'n', 'p', '', '', '', '', '', '', 5)", (uid,))
            connection.execute("INSERT INTO series VALUES (?, ?, 'DX', 1, '', '')", (f"{uid}.1", uid))
            content = json.dumps({"template": template, "model": model})
            job = connection.execute(
                "INSERT INTO jobs (kind, key, payload, study, priority, state, begun, ended, created) "
                "VALUES ('report', ?, '{}', ?, 0, 'done', 100, ?, 1)", (uid, uid, 110.0 + at),
            ).lastrowid  # fmt: skip
            connection.execute("INSERT INTO results (job, kind, study, content, created) VALUES (?, 'report', ?, ?, 1)",
                               (job, uid, content))  # fmt: skip
            texts = [DRAFT, DRAFT + " x", CHANGED] if at - first < changed else [DRAFT]
            for version, text in enumerate(texts, 1):
                connection.execute(
                    "INSERT INTO reports (study, version, text, author, model, job, written, signed_by, signed_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)",
                    (uid, version, text, "station" if version == 1 else "ann", model, job if version == 1 else None,
                     "Dr Ann" if version == len(texts) else "", 9.0 if version == len(texts) else None),
                )  # fmt: skip


def test_agreement_as_numbers(store: Path) -> None:
    add_reports(store, 20, changed=8)
    found = told(store, lambda name: name, 10**9)
    [agreement] = found.agreement
    assert (agreement.template, agreement.model, agreement.signed, agreement.unchanged) == (
        "chest-xray",
        "reader",
        20,
        0.6,
    )
    changed = {one.region: one.changed for one in agreement.findings if one.changed is not None}
    assert changed == {"lungs": 0.0, "pleura": 0.4, "heart": 0.0, "impression": 0.4}
    assert {one.region: one.drafts for one in agreement.findings}["mediastinum"] == "<5"  # drafts had no such line
    assert (agreement.words_kept, agreement.edits.median, agreement.edits.p90) == (1.0, 0.0, 2.0)
    assert (found.held.studies, found.held.reports, found.held.unsigned) == (20, 20, "<5")
    assert found.held.series == {"DX": 20}
    [work] = found.work
    assert (work.kind, work.model, work.states, work.seconds.median) == ("report", "reader", {"done": 20}, 20.0)
    add_reports(store, 6, changed=6, template="ct")
    other = next(one for one in told(store, str, 0).agreement if one.template == "ct")
    assert (other.signed, other.unchanged, other.words_kept) == (5, 0.0, pytest.approx(0.64, abs=0.07))


def test_a_report_that_was_reopened_counts_as_it_was_first_signed(store: Path) -> None:
    add_reports(store, 5, changed=0)
    with rows(store) as connection:
        connection.execute(
            "INSERT INTO reports (study, version, text, author, model, written, signed_by, signed_at) "
            "VALUES ('1.2.0', 2, 'all is new', 'ann', 'reader', 1, 'Dr Ann', 9)"
        )
    assert told(store, str, 0).agreement[0].unchanged == 1.0


def test_parts_of_a_report() -> None:
    text = "Findings\nLungs: Clear\n  on both  sides.\nNote: none\nHEART:Normal.\n\nIMPRESSION\nWell.\nLungs: see above"
    assert parts_of(text, "chest-xray") == {
        "lungs": "Clear on both sides. Note: none", "heart": "Normal.", "impression": "Well. Lungs: see above",
    }  # fmt: skip
    assert parts_of(text, "other") == {"impression": "Well. Lungs: see above"}


@pytest.mark.parametrize("number", [0, 1, 4])
def test_few_are_not_told(store: Path, number: int) -> None:
    add_reports(store, number, changed=number)
    found = told(store, str, 0)
    assert found.held.studies == found.held.reports == "<5"
    assert found.held.series in ({}, {"other": "<5"})
    assert all(
        (one.signed, one.unchanged, one.words_kept, one.findings) == ("<5", None, None, []) for one in found.agreement
    )
    assert all((one.states, one.seconds.median) == ({"done": "<5"}, None) for one in found.work)


def test_the_difference_of_two_files_tells_of_nobody() -> None:
    assert [count(number) for number in (0, 4, 5, 9, 10, 10_003)] == ["<5", "<5", 5, 5, 10, 10_000]
    assert [share(1, 4), share(1, 6), share(10, 13), share(7, 7)] == [None, 0.15, 0.75, 1.0]
    assert spread([1.234, 2, 3, 4]).median is None
    assert spread([-100.0, 1, 2, 3, 4, 5.678]).p90 == 5.7  # of a clock that was set back
    assert two_digits(float("nan")) == 0


def test_faults_are_types_and_places(store: Path) -> None:
    try:
        Station.join(store / "nowhere")
    except StationError as error:
        said = fault_of(error)
    assert re.fullmatch(r"StationError medge\.runtime\.station\.store\.database:\d+", said)
    assert known.fault(said) == ("StationError", said.split()[1])
    with rows(store) as connection:
        for number in range(7):
            connection.execute(
                "INSERT INTO jobs (kind, key, payload, priority, state, reason, fault, failures, created) "
                "VALUES ('classify', ?, '{}', 0, 'parked', 'Mwangi.dcm is damaged', ?, 3, 1)", (str(number), said),
            )  # fmt: skip
    found = told(store, str, 0)
    assert [(one.kind, one.error, one.count) for one in found.faults] == [("classify", "StationError", 5)]
    assert found.work[0].tried_again == 5


@pytest.mark.parametrize(
    ("said", "told_as"),
    [
        ("Mwangi", ("other", "")),
        ("MwangiGraceError medge.runtime.pictures.dicom:2", ("other", "medge.runtime.pictures.dicom:2")),
        ("ImageError medge.mwangi.grace:19", ("ImageError", "")),
        ("ImageError medge.runtime.pictures.dicom:19840", ("ImageError", "")),
        ("ImageError /home/mwangi/grace.dcm", ("other", "")),
        ("ImageError", ("ImageError", "")),
        ("", ("other", "")),
        ("KeyError medge.runtime.json_text:3\nMwangi", ("other", "")),
    ],
)
def test_a_fault_that_somebody_has_written(said: str, told_as: tuple[str, str]) -> None:
    assert known.fault(said) == told_as


def fill_with_secrets(store: Path, draw: random.Random) -> list[str]:
    """Put a patient's words into every text field of every table, and into files' names; the words."""
    words: list[str] = []

    def word() -> str:
        words.append(secret(draw))
        return words[-1]

    with rows(store) as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        for name in [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA foreign_keys = OFF")
        for at in range(12):
            uid, job = word(), 1000 + at
            given: dict[str, dict[str, Any]] = {
                "studies": {"uid": uid}, "series": {"study": uid, "uid": f"{uid}.1"}, "instances": {"series": f"{uid}.1"},
                "jobs": {"id": job, "study": uid, "state": "done" if at % 3 else "parked", "begun": 1.0, "ended": 3.0,
                         "kind": ("classify", "report", "deliver", word())[at % 4]},
                "results": {"job": job, "study": uid, "content": json.dumps(
                    {"model": word(), "template": "ct" if at % 2 else word(), word(): word(), "instances": [word()]})},
                "reports": {"study": uid, "version": 1, "job": job, "signed_at": 5.0 if at % 5 else None},
                "users": {"role": "reader"}, "tokens": {"role": "reader"},
                "settings": {"key": word(), "value": json.dumps(word())},
            }  # fmt: skip
            for table in tables:
                columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
                fields = {}
                for _, column, kind, required, *_ in columns:
                    if column in given.get(table, {}):
                        fields[column] = given[table][column]
                    elif kind == "TEXT":
                        fields[column] = word()
                    elif required or kind == "BLOB":
                        fields[column] = word().encode() if kind == "BLOB" else at + 1
                marks = ", ".join("?" * len(fields))
                connection.execute(
                    f"INSERT OR IGNORE INTO {table} ({', '.join(fields)}) VALUES ({marks})", [*fields.values()]
                )
    for _ in range(3):
        (store / "objects" / f"{word().replace('/', '')}.dcm").write_text(word())
    return words


@pytest.mark.parametrize("seed", range(3))
def test_nothing_of_patients_leaves(store: Path, bundle: Path, tmp_path: Path, seed: int) -> None:
    """Names, numbers, dates of birth, free texts and file names in every field of a store, and as a bundle."""
    words = fill_with_secrets(store, random.Random(seed))
    bundles = tmp_path / "bundles Mwangi^Grace"
    bundles.mkdir()
    (bundles / "Zx777777777qv Mwangi").symlink_to(bundle)
    words.append("Zx777777777qv Mwangi")
    source = Source(bundles, store, device=words[0], given={}, replay=False)
    text = text_of(gather(source, "0.1.0"))
    parts = {part for word in words for part in (word, word.split()[0])} | set(SECRETS) - {"CT"}
    assert [part for part in parts if part.lower() in text.lower()] == []
    body = json.loads(text)
    assert body["held"]["studies"] == 10  # there was something to tell
    assert body["work"]
    assert body["held"]["series"] == {"other": 10}
    assert {one["model"] for one in body["agreement"]} == {"another"}
    assert {one["template"] for one in body["agreement"]} <= {"ct", "other"}


def test_every_text_that_is_told_is_on_a_list(store: Path, bundle: Path, tmp_path: Path) -> None:
    """A field that is added to the form later must be thought about here."""
    fill_with_secrets(store, random.Random(1))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "eyes").symlink_to(bundle)
    body = gather(Source(tmp_path / "b", store, device="x"), "0.1.0").as_dict()
    allowed = {
        "day", "medge", "python", "packages.*", "device.id", "device.label", "device.architecture", "device.system",
        "device.release",
        "device.features", "device.target", "models.name", "models.digest", "models.kind", "models.recipes.*", "models.parity",
        "models.replay.what", "models.fault", "held.studies", "held.series.*", "held.instances", "held.reports", "held.unsigned",
        "work.kind", "work.model", "work.states.*", "work.seconds.count", "work.tried_again", "faults.kind", "faults.error",
        "faults.place", "faults.count", "agreement.template", "agreement.model", "agreement.signed", "agreement.edits.count",
        "agreement.findings.region", "agreement.findings.drafts",
    }  # fmt: skip

    def texts(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name, one in value.items():
                open_ended = path in ("packages", "models.recipes", "held.series", "work.states")
                yield from texts(one, f"{path}.{'*' if open_ended else name}" if path else name)
        elif isinstance(value, list):
            for one in value:
                yield from texts(one, path)
        elif isinstance(value, str):
            yield path

    assert set(texts(body, "")) <= allowed
    assert body["models"][0]["replay"]
    assert all(row["holds"] for row in body["models"][0]["replay"])


def test_a_store_is_not_changed_by_looking(store: Path) -> None:
    add_reports(store, 6, changed=2)

    def content() -> list[str]:
        with rows(store) as connection:
            return list(connection.iterdump())

    before = content()
    with Station.open(store):  # also while it runs
        told(store, str, 0)
    assert content() == before


def test_a_bundle_that_computes_wrongly_or_not_at_all(bundle: Path, tmp_path: Path) -> None:
    from medge.runtime.bundles.bundle import Bundle

    folder = tmp_path / "bundles" / "eyes"
    shutil.copytree(bundle, folder)
    model = next(folder / one.path for one in Bundle.open(folder).manifest.files if one.path.endswith(".onnx"))
    with model.open("r+b") as stream:
        stream.write(b"\0" * 64)
    [found] = gather(Source(folder.parent, None), "0.1.0").models
    assert (found.good, found.replay) == (False, [])
    assert re.fullmatch(r"BundleError medge\.runtime\.bundles\.bundle:\d+", found.fault)
    assert found.name == f"bundle-{found.digest[:8]}"


def collected() -> Collected:
    return gather(Source(None, None, device="a word", label="Station 2"), "0.1.0")


def test_sealed_and_opened(tmp_path: Path) -> None:
    public = new_key(tmp_path / "private")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    sealed = tmp_path / "sealed.age"
    seal(text_of(collected()), public_key(public), sealed)
    assert b"Station 2" not in sealed.read_bytes()
    assert unseal(sealed, private_key(tmp_path / "private")) == collected()
    new_key(tmp_path / "other")
    with pytest.raises(KitError, match="sealed to another one, or was changed"):
        unseal(sealed, private_key(tmp_path / "other"))
    content = bytearray(sealed.read_bytes())
    for at in range(0, len(content), 37):
        changed = bytes(content[:at]) + bytes([content[at] ^ 1]) + bytes(content[at + 1 :])
        (tmp_path / "changed.age").write_bytes(changed)
        with pytest.raises(KitError, match="can't be opened"):
            unseal(tmp_path / "changed.age", private_key(tmp_path / "private"))
    (tmp_path / "public").write_text(f"{public}\n")
    assert str(public_key(str(tmp_path / "public"))) == public
    with pytest.raises(MedgeError, match="exists"):
        new_key(tmp_path / "private")


@pytest.mark.parametrize("given", ["age1notakey", "nowhere", "empty"])
def test_a_key_that_is_none(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(KitError):
        public_key(given if given.startswith("age1") else str(tmp_path / given))
    with pytest.raises(KitError):
        private_key(tmp_path / given)


def test_what_is_opened_is_read_strictly(tmp_path: Path) -> None:
    """Whoever has the makers' public key can send them anything."""
    good = collected().as_dict()
    path = tmp_path / "x"
    assert read(json.dumps(good).encode(), path) == collected()
    for change in (
        {"format": 2}, {"more": 1}, {"medge": "x" * 500}, {"models": [{}]}, {"day": None},
        {"device": {**good["device"], "label": "<script>"}}, {"device": {**good["device"], "cores": 0}},
    ):  # fmt: skip
        with pytest.raises(KitError, match="holds nothing that medge kit collect has written"):
            read(json.dumps({**good, **change}).encode(), path)
    fields = {one.name for one in dataclasses.fields(Collected)}
    assert fields == msgspec.to_builtins(collected()).keys()


def test_the_commands(store: Path, bundle: Path, tmp_path: Path) -> None:
    """Shown in full before it is written; what is shown is what is written; nothing without a yes."""
    add_reports(store, 6, changed=2)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "eyes").symlink_to(bundle)
    made = command_line.medge("kit", "key", tmp_path / "private")
    public, stick = made.stdout.strip(), tmp_path / "stick"
    stick.mkdir()
    where = ("--store", store, "--bundles", tmp_path / "bundles", "--no-replay")
    shown = command_line.medge("kit", "collect", *where, "--show")
    assert json.loads(shown.stdout)["held"]["studies"] == 5
    refused = command_line.medge("kit", "collect", *where, "--to", public, "--out", stick, code=1)
    assert "nobody is there to say yes" in refused.stderr
    assert list(stick.iterdir()) == []
    written = command_line.medge("kit", "collect", *where, "--to", public, "--out", stick, "--yes", "--label", "Ward 2")
    [path] = stick.iterdir()
    assert re.fullmatch(r"medge-[0-9a-f]{12}-\d{4}-\d\d-\d\d\.age", path.name)
    opened = command_line.medge("kit", "open", path, "--key", tmp_path / "private")
    assert json.loads(opened.stdout) == json.loads(written.stdout)
    assert json.loads(written.stdout)["device"]["label"] == "Ward 2"
    wrong = command_line.medge("kit", "collect", *where, "--show", "--label", "Grace Mwangi, born 1984", code=1)
    assert "a label has at most 40" in wrong.stderr
