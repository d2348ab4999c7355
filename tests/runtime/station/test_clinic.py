"""A clinic on loopback: Debian's Orthanc sends to `medge serve`, and what the station found and a person signed comes back to it.

`bash tests/station_tools/prepare ~/.cache/medge/dicom` gets Orthanc, dcmtk and dicom3tools; without them these are skipped.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import station_process

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medge[station]'")
pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'medge[station]'")

import httpx
from clinic import Orthanc, free_port, needed, orthanc, tool
from command_line import medge
from fhir.resources.R4B.bundle import Bundle
from pydicom import dcmread
from station_films import film

from medge.runtime.errors import PeerError, StationError
from medge.runtime.station.delivery.deliver import Deliverer
from medge.runtime.station.delivery.facts import SignedReport
from medge.runtime.station.dicom import pacs, web
from medge.runtime.station.dicom.asked import Pacs, Sought
from medge.runtime.station.dicom.node import Node
from medge.runtime.station.dicom.peers import Peers
from medge.runtime.station.station import Station
from medge.runtime.station.work.worker import Worker

PATIENT = 60.0  # seconds
TEXT = "Findings:\nUne opacité à droite, œdème.\n\nImpression:\nPneumonie."


@pytest.fixture(scope="module")
def pacs_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    needed()
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station.open(tmp_path / "s") as opened:
        yield opened


def by_dimse(running: Orthanc) -> Pacs:
    return Pacs("ORTHANC", "127.0.0.1", running.dicom, "MEDGE")


def files(*contents: bytes) -> list[io.BytesIO]:
    return [io.BytesIO(content) for content in contents]


def test_storescu_and_echoscu(station: Station, tmp_path: Path) -> None:
    needed()
    sent = [tmp_path / f"{number}.dcm" for number in range(3)]
    for number, path in enumerate(sent):
        path.write_bytes(film(number))
    with Node(station, "MEDGE", Peers.of(["STORESCU@127.0.0.1", "ECHOSCU@127.0.0.1"]), port=0) as node:
        tool("echoscu", "-aec", "MEDGE", "127.0.0.1", node.port)
        tool("storescu", "-aec", "MEDGE", "127.0.0.1", node.port, *sent)
        assert "Rejected" in tool(
            "storescu", "-aet", "OTHER", "-aec", "MEDGE", "127.0.0.1", node.port, sent[0], fine=False
        )
    assert station.studies()[0].instances == 3


def test_a_pacs_is_searched_and_gives_its_studies(pacs_here: Orthanc, tmp_path: Path) -> None:
    at, over = by_dimse(pacs_here), Pacs(web=pacs_here.root)
    pacs.echo(at)
    study = "1.2.1.71"
    named = {
        "PatientName": "Zöe^Ann",
        "PatientID": "P71",
        "StudyDate": "20260105",
        "SpecificCharacterSet": "ISO_IR 192",
    }
    assert pacs.send(at, files(*(film(number, study, **named) for number in (1, 2)))) == 2
    assert web.send(over, files(film(3, study, **named), film(1, study, **named))) == 2  # one of them again
    for ask in (lambda sought: pacs.find(at, sought), lambda sought: web.find(over, sought)):
        [found] = ask(Sought(patient_id="P7*", date="20260101-20260201"))
        assert (found.uid, found.patient_name, found.date, found.modalities) == (study, "Zöe^Ann", "20260105", ("DX",))
        assert found.instances == 3
        assert ask(Sought(modality="CT", patient_id="P71")) == []
        assert len(ask(Sought(limit=1))) == 1
    for number, fetch in enumerate((lambda to: pacs.fetch(at, study, to), lambda to: web.fetch(over, study, to))):
        with Station.open(tmp_path / f"{number}") as held:
            first, again = fetch(held), fetch(held)
            assert (first.stored, first.failed, again.stored) == (3, 0, 3)
            assert held.studies()[0].instances == 3
    with Station.open(tmp_path / "moved") as held, Node(held, "MEDGE", Peers.of(["ORTHANC@127.0.0.1"]), port=0) as node:
        pacs_here.knows("MEDGE", node.port)
        assert pacs.move(at, study, "MEDGE") == 0
        assert held.studies()[0].instances == 3


def test_a_pacs_that_refuses_or_is_not_there(pacs_here: Orthanc, station: Station) -> None:
    at = by_dimse(pacs_here)
    nowhere = replace(at, port=free_port())
    for ask, words in (
        (lambda: pacs.fetch(at, "1.2.9", station), "no such study"),
        (lambda: web.fetch(Pacs(web=pacs_here.root), "1.2.9", station), "no such study"),
        (lambda: pacs.move(at, "1.2.9", "NOBODY"), "refused to send the study to NOBODY"),
        (lambda: pacs.echo(replace(at, title="OTHER")), "its own title is OTHER"),
        (lambda: pacs.echo(nowhere), "does not answer"),
        (lambda: web.find(Pacs(web=f"http://127.0.0.1:{nowhere.port}/x"), Sought()), "does not answer"),
        (lambda: web.send(Pacs(web=pacs_here.root + "/x"), files(film(1))), "no DICOMweb at this address"),
    ):
        with pytest.raises(PeerError, match=words):
            ask()
    for wrong in ({"host": "x"}, {"web": "ftp://x"}, {"title": "A", "host": "h", "port": "x"}, [], {"other": 1}):
        with pytest.raises(StationError):
            Pacs.of(wrong)


def test_what_is_delivered_is_in_the_pacs_and_valid(
    pacs_here: Orthanc, station: Station, pydicom_files: Path, tmp_path: Path
) -> None:
    """By STOW-RS, then by C-STORE, drafts among it; dsrdump prints it, dciodvfy finds no error."""
    picture = (pydicom_files / "CT_small.dcm").read_bytes()
    pacs.send(by_dimse(pacs_here), files(picture))
    kept = station.put(picture, who="ann").instance
    study = station.studies()[0].study.uid
    content = {
        "model": "eyes", "parity": "passed", "recipes": {"vision": "int8"}, "sha256": "ab" * 32,
        "instances": [{
            "instance": kept.uid, "frame": 0, "note": None,
            "labels": [{"label": "pneumonia", "probability": 0.9}, {"label": "own", "probability": 0.2}],
            "decision": {"unlike": False, "findings": [{"label": "pneumonia", "says": "present", "probability": 0.8}]},
        }],
    }  # fmt: skip
    station.queue.add("classify", key="c", study=study)
    report = [SignedReport(study, 1, TEXT, "ann", "reader", language="fr")]
    deliverer = Deliverer(station, lambda uid: report[-1], "0.1.0")
    worker = Worker(station.queue, {"classify": lambda task: content, "deliver": deliverer.deliver})
    assert worker.run_one()

    def delivered() -> dict[str, Any]:
        job = station.queue.add("deliver", {"study": study}, study=study)
        assert worker.run_one()
        found = station.result(job.id)
        assert found is not None, [one.reason for one in station.queue.list(kind="deliver")]
        return dict(found.content)

    refused = station.queue.add("deliver", {"study": study}, study=study)
    assert worker.run_one()
    asked = station.queue.get(refused.id)
    assert asked is not None
    assert asked.reason == "no person has signed the report; nothing was sent"
    station.queue.cancel(refused.id)

    station.set("deliver_unsigned", True, who="ann")
    station.set("pacs", {"web": pacs_here.root}, who="ann")
    station.set("fhir", {"folder": str(tmp_path / "fhir")}, who="ann")
    station.set("language", "fr", who="ann")
    draft = delivered()
    assert (draft["signed"], draft["sent"]) == (False, ["pacs", "fhir"])
    report.append(replace(report[0], version=2, signed_by="Zoë Müller", signed_at=1.8e9, released_at=1.8e9))
    station.set("pacs", {"title": "ORTHANC", "host": "127.0.0.1", "port": pacs_here.dicom}, who="ann")
    signed = delivered()
    assert delivered() == signed
    assert draft["sr"] != signed["sr"]
    there = pacs_here.series(study)
    assert (sorted(there["SR"]), sorted(there["DOC"])) == (
        sorted([draft["sr"], signed["sr"]]), sorted([draft["pdf"], signed["pdf"]]),
    )  # fmt: skip

    for uid in (*there["SR"], *there["DOC"]):
        path = tmp_path / f"{uid}.dcm"
        path.write_bytes(pacs_here.file(uid))
        said = tool("dciodvfy", "-new", path, fine=False)
        assert [line for line in said.splitlines() if line.startswith("Error")] == []
    final = dcmread(tmp_path / f"{signed['sr']}.dcm")
    assert final.VerificationFlag == "VERIFIED"
    assert (
        final.PredecessorDocumentsSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
        == draft["sr"]
    )
    printed = tool("dsrdump", "+U8", tmp_path / f"{signed['sr']}.dcm", fine=False)
    for words in (
        "Verification Flag   : VERIFIED",
        "Müller^Zoë",
        "Pneumonia",
        '"80.0"',
        "Une opacité à droite",
        "Pneumonie",
    ):
        assert words in printed
    [written] = (tmp_path / "fhir").iterdir()
    transaction = json.loads(written.read_text())
    Bundle.model_validate(transaction)
    assert [one.action for one in station.history() if one.action == "delivered"] == ["delivered"] * 3


@dataclass
class Served:
    """A running `medge serve`."""

    url: str
    dicom: int

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, self.url + path, json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def wait_for(self, study: str, kind: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENT
        while True:
            with contextlib.suppress(AssertionError):  # it is not there yet
                found = self.ask("GET", f"/v1/studies/{study}")
                results = [one["content"] for one in found["results"] if one["kind"] == kind]
                if results:
                    return dict(results[-1])
            assert time.monotonic() < until, self.ask("GET", "/v1/jobs")
            time.sleep(0.1)


@contextlib.contextmanager
def served(bundle: Path, folder: Path) -> Iterator[Served]:
    (folder / "bundles").mkdir(parents=True)
    (folder / "bundles/eyes").symlink_to(bundle)
    words = ("--store", str(folder / "store"), "--dicom-port", "0", "--allow", "ORTHANC@127.0.0.1", "--threads", "1")
    with station_process.station(folder / "bundles", *words) as running:
        yield Served(running.told["url"], running.told["dicom"]["port"])
        _, said = running.end(signal.SIGTERM)
        assert "Traceback" not in said, said
        assert "Roe" not in said
        assert "CompressedSamples" not in said


def test_a_study_goes_through_the_station_and_back(
    pacs_here: Orthanc, bundle: Path, pydicom_files: Path, tmp_path: Path
) -> None:
    """Orthanc sends, the int8 bundle judges, a person signs and releases, and the report is in Orthanc under the same study."""
    changed = dcmread(pydicom_files / "MR_small.dcm")
    study = str(changed.StudyInstanceUID)
    with served(bundle, tmp_path) as running:
        pacs_here.knows("MEDGE", running.dicom)
        out = io.BytesIO()
        changed.save_as(out)
        sent = pacs_here.ask("/instances", out.getvalue())
        pacs_here.ask("/modalities/medge/store", [sent["ParentStudy"]])
        judged = running.wait_for(study, "classify")
        assert [one["instance"] for one in judged["instances"]] == [str(changed.SOPInstanceUID)]
        medge("station", "connect", tmp_path / "store", "--pacs", f"ORTHANC@127.0.0.1:{pacs_here.dicom}")
        path = f"/v1/studies/{study}/report"
        version = running.ask("GET", path)["version"]
        version = running.ask("PUT", path, {"text": TEXT, "version": version})["version"]
        running.ask("POST", f"{path}/sign", {"name": "Zoë Roe", "version": version})
        running.ask("POST", f"{path}/release")
        told = running.wait_for(study, "deliver")
        there = pacs_here.series(study)
        assert (there["SR"], there["DOC"]) == ([told["sr"]], [told["pdf"]])
        report = dcmread(io.BytesIO(pacs_here.file(told["sr"])))
        assert (report.VerificationFlag, report.PatientID) == ("VERIFIED", changed.PatientID)
        machine = report.ContributingEquipmentSequence[-1]
        assert machine.ManufacturerModelName == "eyes"
        assert "manifest SHA-256" in machine.ContributionDescription
        # Orthanc sends the study once more, the report among it: nothing is judged again, and nothing is there twice.
        pacs_here.ask("/modalities/medge/store", [sent["ParentStudy"]])
        again = running.ask("GET", f"/v1/studies/{study}")
        assert again["instances"] == 3
        assert {job["kind"] for job in again["jobs"]} == {"classify", "deliver"}


def test_commands_connect_find_and_fetch(pacs_here: Orthanc, tmp_path: Path) -> None:
    named = {"PatientName": "Sow^Awa", "PatientID": "P91", "StudyDate": "20260107"}
    pacs.send(by_dimse(pacs_here), files(film(1, "1.2.1.91", **named)))
    store = tmp_path / "clinic"
    Station.open(store).close()
    assert "knows no PACS" in medge("station", "find", store, code=1).stderr
    for written, words in (
        ("ORTHANC@127.0.0.1", "write TITLE@host:port"), ("ORTHANC@127.0.0.1:x", "is no number"),
        ("ftp://x", "begins with http"), ("@h:1", "is no AE title"),
    ):  # fmt: skip
        assert words in medge("station", "connect", store, "--pacs", written, code=1).stderr
    for at in (f"ORTHANC@127.0.0.1:{pacs_here.dicom}", pacs_here.root):
        told = json.loads(medge("station", "connect", store, "--pacs", at, "--fhir", tmp_path / "f", "--json").stdout)
        assert (told["fhir"], told["deliver_unsigned"]) == ({"folder": str(tmp_path / "f")}, None)
        found = json.loads(medge("station", "find", store, "--name", "Sow*", "--json").stdout)
        assert [(one["uid"], one["date"]) for one in found["studies"]] == [("1.2.1.91", "20260107")]
        got = json.loads(medge("station", "fetch", store, "1.2.1.91", "--json").stdout)
        assert got["fetched"] == [{"study": "1.2.1.91", "stored": 1, "failed": 0, "reason": ""}]
    with Station.open(store) as station:
        assert station.studies()[0].study.patient_name == "Sow^Awa"
        assert station.queue.counts() == {"waiting": 1}
