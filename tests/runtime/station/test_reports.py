"""Reports over HTTP: drafted by a model, written, signed, released and reopened; and questions over records."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from station_fakes import FakeGenerator
from station_films import film

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from station_clinic import Clinic, clinic

from medge.runtime.station.work.worker import Worker

SAID = json.dumps({"findings": {"description": "The heart is large."}, "impression": "Cardiomegaly."})
REPORT = "/v1/studies/1.2.1.1/report"


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator(SAID)


@pytest.fixture
def at(tmp_path: Path, generator: FakeGenerator) -> Iterator[Clinic]:
    with clinic(tmp_path / "station", generator) as opened:
        opened.upload(*((str(number), film(number)) for number in range(1, 8)))
        opened.work()
        yield opened


def test_a_draft_is_written_corrected_signed_and_released(at: Clinic, generator: FakeGenerator) -> None:
    assert at.ask("GET", REPORT) | {"history": []} == {
        "state": "none", "text": "", "version": 0, "author": "", "model": "", "signed_by": "", "signed_at": None,
        "released_at": None, "history": [],
    }  # fmt: skip
    job = at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report", "clinical": "Short of breath."}, 201)
    at.work()
    drafted = at.ask("GET", REPORT)
    assert (drafted["state"], drafted["version"], drafted["author"], drafted["model"]) == (
        "draft",
        1,
        "station",
        "reader",
    )
    assert drafted["text"] == "Findings\nDescription: The heart is large.\n\nImpression\nCardiomegaly."
    [(turns, _, _, schema)] = generator.asked
    assert len(turns[0].parts) == 5  # four of the seven films, and the question
    assert "Short of breath." in turns[0].parts[-1]
    assert "findings" in schema["properties"]
    result = next(one for one in at.ask("GET", "/v1/studies/1.2.1.1")["results"] if one["job"] == job["id"])
    assert result["content"]["entered"]
    assert [one["instance"][-1] for one in result["content"]["frames"]] == ["1", "3", "5", "7"]

    written = at.ask("PUT", REPORT, {"text": "Findings\nNone.", "version": 1})
    assert (written["version"], written["author"], written["model"]) == (2, "local", "reader")
    assert "at version 2 now" in at.ask("PUT", REPORT, {"text": "late", "version": 1}, 409)["error"]["message"]
    at.ask("POST", f"{REPORT}/release", status=409)
    at.ask("POST", f"{REPORT}/reopen", status=409)
    at.ask("POST", f"{REPORT}/sign", {"name": "Dr Ann Lee", "version": 1}, 409)
    signed = at.ask("POST", f"{REPORT}/sign", {"name": " Dr Ann Lee ", "version": 2})
    assert (signed["state"], signed["signed_by"]) == ("signed", "Dr Ann Lee")
    assert at.ask("GET", "/v1/studies")["studies"][0]["report"] == "signed"
    for body in ({"text": "changed", "version": 2}, {"text": "changed", "version": 0}):
        at.ask("PUT", REPORT, body, 409)
    at.ask("POST", f"{REPORT}/sign", {"name": "Other", "version": 2}, 409)
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report"}, 409)
    released = at.ask("POST", f"{REPORT}/release")
    assert released["state"] == "released"
    assert released["released_at"] >= released["signed_at"]
    at.ask("POST", f"{REPORT}/release", status=409)
    [delivery] = at.ask("GET", "/v1/jobs", study="1.2.1.1", state="waiting")
    assert (delivery["kind"], delivery["study"]) == ("deliver", "1.2.1.1")

    again = at.ask("POST", f"{REPORT}/reopen")
    assert (again["state"], again["version"], again["text"]) == ("draft", 3, "Findings\nNone.")
    assert [one["action"].removeprefix("report ") for one in again["history"]] == [
        "reopened", "released", "signed", "changed", "drafted",
    ]  # fmt: skip
    with at.station.database.read() as connection:
        kept = connection.execute("SELECT version, text, signed_by FROM reports ORDER BY version").fetchall()
    assert [tuple(row)[1:] for row in kept][1:] == [("Findings\nNone.", "Dr Ann Lee"), ("Findings\nNone.", "")]


def test_what_is_signed_can_not_be_changed_even_in_the_database(at: Clinic) -> None:
    at.ask("PUT", REPORT, {"text": "as read", "version": 0})
    at.ask("POST", f"{REPORT}/sign", {"name": "Dr Lee", "version": 1})
    for change in ("text = 'other'", "signed_by = 'Other'", "signed_at = NULL", "author = 'other'"):
        with pytest.raises(sqlite3.IntegrityError), at.station.database.write() as connection:
            connection.execute(f"UPDATE reports SET {change}")
    assert at.ask("GET", REPORT)["text"] == "as read"


def test_a_draft_does_not_replace_what_a_person_wrote(at: Clinic, generator: FakeGenerator) -> None:
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report"}, 201)
    at.work()
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report"}, 201)  # another draft in the place of the first
    at.work()
    assert at.ask("GET", REPORT)["version"] == 2
    at.ask("PUT", REPORT, {"text": "mine", "version": 2})
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report"}, 201)
    at.work()
    assert at.ask("GET", REPORT)["text"] == "mine"
    assert [one["content"].get("entered") for one in at.ask("GET", "/v1/studies/1.2.1.1")["results"]][1:] == [
        True, True, False,
    ]  # fmt: skip


def test_reports_that_can_not_be_asked_for(at: Clinic) -> None:
    jobs = "/v1/studies/1.2.1.1/jobs"
    assert "choose from general" in at.ask("POST", jobs, {"kind": "report", "template": "x"}, 400)["error"]["message"]
    at.ask("POST", jobs, {"kind": "report", "model": "eyes"}, 404)
    other = REPORT.replace("1.2.1.1", "9.9")
    at.ask("GET", other, status=404)
    at.ask("PUT", other, {"text": "", "version": 0}, 404)
    at.ask("POST", f"{other}/sign", {"name": "x", "version": 0}, 404)
    at.ask("POST", f"{other}/release", status=404)
    at.ask("POST", f"{REPORT}/sign", {"name": "x", "version": 0}, 409)
    at.ask("POST", f"{REPORT}/sign", {"name": "  ", "version": 0}, 400)
    at.ask("PUT", REPORT, {"text": "half \ud83d", "version": 0}, 400)


def test_a_report_waits_its_turn_and_can_be_stopped(at: Clinic, generator: FakeGenerator) -> None:
    """While another answer is made it waits; while it is made, somebody cancels it."""
    other = at.service.queue.join()
    other.wait()
    job = at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "report"}, 201)
    handlers = at.service.lanes()[1]
    thread = threading.Thread(target=Worker(at.station.queue, handlers).run_one)
    thread.start()
    _until(lambda: "answers before it" in at.ask("GET", f"/v1/jobs/{job['id']}")["doing"])
    generator.gate = threading.Event()
    other.leave()
    _until(lambda: generator.asked)
    at.ask("POST", f"/v1/jobs/{job['id']}/cancel")
    _until(lambda: at.ask("GET", f"/v1/jobs/{job['id']}")["state"] == "running" and time.sleep(1.2) is None)
    generator.gate.set()
    thread.join(20)
    assert at.ask("GET", f"/v1/jobs/{job['id']}")["state"] == "cancelled"
    assert generator.left.is_set()
    assert len(at.service.queue) == 0
    assert at.ask("GET", REPORT)["state"] == "none"


def _until(holds: Any) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


RECORD = {
    "resourceType": "Bundle", "type": "collection",
    "entry": [
        {"resource": {"resourceType": "AllergyIntolerance", "id": "a1", "code": {"text": "penicillin"}}},
        {"resource": {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "Haemoglobin"},
                      "valueQuantity": {"value": 9.1, "unit": "g/dL"}}},
    ],
}  # fmt: skip


def test_a_question_over_a_record(at: Clinic, generator: FakeGenerator) -> None:
    generator.script = json.dumps({"answer": "To penicillin.", "sources": ["R1"]})
    asked = {"bundle": RECORD, "question": "Any allergy?", "model": "writer"}
    found = at.ask("POST", "/v1/record", asked)
    assert (found["answer"], found["shown"], found["of"], found["complete"]) == ("To penicillin.", 2, 2, True)
    assert len(found["sources"]) == 1
    assert found["sources"][0] in ("AllergyIntolerance/a1", "Observation/o1")
    assert "penicillin" in generator.asked[-1][0][0].parts[0]
    assert len(at.service.queue) == 0
    at.ask("POST", "/v1/record", {**asked, "model": None}, 404)  # two language models: name one
    at.ask("POST", "/v1/record", {**asked, "bundle": {"type": "collection"}}, 400)
    at.ask("POST", "/v1/record", {**asked, "bundle": {"a": "half \ud83d"}}, 400)
    at.ask("POST", "/v1/record", {**asked, "bundle": "/etc/passwd"}, 400)
    for _ in range(16):
        at.service.queue.join()
    at.ask("POST", "/v1/record", asked, 429)
