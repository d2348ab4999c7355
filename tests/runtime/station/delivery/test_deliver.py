"""When a report leaves the station: released, or a draft where the clinic has turned that on; never another version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from station_fakes import FakeGenerator
from station_films import PNG, film

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'medge[station]'")

from station_clinic import Clinic, clinic

from medge.runtime.station.delivery.facts import SignedReport
from medge.runtime.station.delivery.outgoing import outgoing

STUDY = "1.2.1.1"
REPORT = f"/v1/studies/{STUDY}/report"
SAID = json.dumps({"findings": {"description": "The heart is large."}, "impression": "Cardiomegaly."})


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Clinic]:
    with clinic(tmp_path / "station", FakeGenerator(SAID)) as opened:
        opened.upload(("1", film(1)))
        opened.work()
        opened.station.set("fhir", {"folder": str(tmp_path / "fhir")}, who="ann")
        yield opened


def delivered(at: Clinic) -> list[dict[str, Any]]:
    at.work()
    return [dict(one.content) for one in at.station.results(STUDY) if one.kind == "deliver"]


def signed(at: Clinic, text: str) -> None:
    version = at.ask("PUT", REPORT, {"text": text, "version": at.ask("GET", REPORT)["version"]})["version"]
    at.ask("POST", f"{REPORT}/sign", {"name": "Zoë Roe", "version": version})


def test_a_released_report_goes_out_and_a_draft_stays(at: Clinic, tmp_path: Path) -> None:
    at.ask("POST", f"/v1/studies/{STUDY}/jobs", {"kind": "report"}, 201)
    assert delivered(at) == []
    signed(at, "Impression\nOne.")
    assert (delivered(at), outgoing(at.station, STUDY)) == ([], None)
    at.ask("POST", f"{REPORT}/release")
    [first] = delivered(at)
    assert (first["version"], first["signed"], first["sent"]) == (2, True, ["fhir"])
    at.ask("POST", f"{REPORT}/reopen")
    going = outgoing(at.station, STUDY)
    assert going is not None
    assert (going.version, going.text, going.signed_by, going.model) == (2, "Impression\nOne.", "Zoë Roe", "reader")
    signed(at, "Impression\nTwo.")
    at.ask("POST", f"{REPORT}/release")
    _, second = delivered(at)
    assert second["version"] == 4
    assert first["sr"] != second["sr"]
    assert first["fhir"] == second["fhir"]
    [place] = (tmp_path / "fhir").iterdir()
    report = next(
        entry["resource"]
        for entry in json.loads(place.read_text())["entry"]
        if entry["resource"]["resourceType"] == "DiagnosticReport"
    )
    assert (report["status"], report["conclusion"]) == ("amended", "Two.")
    objects = at.ask("GET", f"/v1/studies/{STUDY}")
    assert {one["modality"]: len(one["instances"]) for one in objects["series"]} == {"DX": 1, "SR": 2, "DOC": 2}
    assert [job["kind"] for job in objects["jobs"] if job["state"] != "done"] == []


def test_drafts_go_out_where_the_clinic_turned_that_on(at: Clinic) -> None:
    at.station.set("deliver_unsigned", True, who="ann")
    at.ask("POST", f"/v1/studies/{STUDY}/jobs", {"kind": "report"}, 201)
    [found] = delivered(at)
    assert (found["signed"], found["version"]) == (False, 1)
    signed(at, "Impression\nOne.")
    assert outgoing(at.station, STUDY) is None  # signed, and whoever signed it has not released it


def test_a_study_without_dicom_goes_out_as_fhir_only(at: Clinic, tmp_path: Path) -> None:
    got = at.station.put(PNG + b"0" * 100, who="ann", study="1.2.1.3")
    at.station.set("deliver_unsigned", True, who="ann")
    from medge.runtime.station.delivery.deliver import Deliverer
    from medge.runtime.station.work.worker import Worker

    report = SignedReport("1.2.1.3", 1, "One.", "ann")
    handlers = {"deliver": Deliverer(at.station, lambda uid: report, "0.1.0").deliver}
    job = at.station.queue.add("deliver", {"study": "1.2.1.3"}, study="1.2.1.3")
    assert Worker(at.station.queue, handlers).run_one()
    result = at.station.result(job.id)
    assert result is not None
    assert (result.content["sr"], result.content["pdf"], result.content["sent"]) == ("", "", ["fhir"])
    assert [one.uid for one in at.station.instances(got.instance.series)] == [got.instance.uid]


def test_a_system_that_is_away_is_the_reason(at: Clinic) -> None:
    at.station.set("pacs", {"web": "http://127.0.0.1:9/dicom-web"}, who="ann")
    signed(at, "Impression\nOne.")
    at.ask("POST", f"{REPORT}/release")
    assert delivered(at) == []
    [job] = at.station.queue.list(kind="deliver")
    assert (job.state, job.failures) == ("parked", 3)
    assert "the PACS's DICOMweb does not answer" in job.reason
    assert (at.station.folder.parent / "fhir").is_dir()  # the other way was gone all the same
