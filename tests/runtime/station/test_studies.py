"""Studies over HTTP: sent, listed, judged, seen, searched and removed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image
from station_films import film

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from fastapi.testclient import TestClient
from station_clinic import Clinic, clinic, png
from station_fakes import catalogue, shelf

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.clinic.multipart import larger
from medge.runtime.station.api.service import Service
from medge.runtime.station.store.objects import Space


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Clinic]:
    with clinic(tmp_path / "station") as opened:
        yield opened


def archive(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries:
            packed.writestr(name, content)
    return out.getvalue()


def test_a_body_goes_on_in_larger_pieces() -> None:
    async def coming(sizes: list[int]) -> AsyncIterator[bytes]:
        for number, size in enumerate(sizes):
            yield bytes([number]) * size

    async def taken(*sizes: int) -> list[bytes]:
        return [piece async for piece in larger(coming([*sizes]))]

    sizes = [1 << 19, (1 << 19) - 1, 2, 0, 3]
    pieces = anyio.run(taken, *sizes)
    assert [*map(len, pieces)] == [(1 << 20) + 1, 3]
    assert b"".join(pieces) == b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert anyio.run(taken) == []


def test_sent_judged_and_shown(at: Clinic) -> None:
    sent = at.upload(("a.dcm", film(1, pixels=b"\x40" * 16)), ("b.dcm", film(2)), ("notes.txt", b"no image"))
    assert [one.get("instance") for one in sent["received"]] == ["1.2.1.1.9.1", "1.2.1.1.9.2", None]
    assert sent["received"][0] == {
        "name": "a.dcm", "instance": "1.2.1.1.9.1", "study": "1.2.1.1", "new": True, "differs": False,
    }  # fmt: skip
    assert "neither DICOM nor PNG" in sent["received"][2]["error"]["message"]
    [listed] = at.ask("GET", "/v1/studies")["studies"]
    assert (listed["uid"], listed["state"], listed["instances"], listed["modalities"]) == (
        "1.2.1.1", "waiting", 2, ["DX"],
    )  # fmt: skip
    assert listed["patient"] == {"name": "Mark^Ann", "id": "P1", "birth_date": "", "sex": ""}
    assert listed["picture"] == "1.2.1.1.9.2"
    at.work()
    found = at.ask("GET", "/v1/studies/1.2.1.1")
    assert (found["state"], found["report"]) == ("done", "none")
    assert [one["uid"] for one in found["series"][0]["instances"]] == ["1.2.1.1.9.1", "1.2.1.1.9.2"]
    [job] = found["jobs"]
    assert (job["kind"], job["state"], job["done"], job["steps"], job["ahead"]) == ("classify", "done", 2, 2, 0)
    [result] = found["results"]
    content = result["content"]
    assert (content["model"], content["parity"], content["labels"]) == ("eyes", "passed", ["grey", "red"])
    assert content["maps"] is False  # so that the page has no button that could only fail
    assert content["series"] == [{"uid": "1.2.1.1.8", "frames": 2, "of": 2, "note": ""}]
    assert [(one["instance"], one["frame"]) for one in content["instances"]] == [("1.2.1.1.9.1", 0), ("1.2.1.1.9.2", 0)]
    assert content["instances"][0]["labels"][0]["label"] == "grey"
    assert 0.5 < content["instances"][0]["labels"][0]["probability"] <= 1
    assert at.ask("GET", "/v1/audit", what="1.2.1.1")["entries"][0]["action"] == "classified"


def test_a_series_that_goes_on_after_it_was_judged_is_judged_again_and_shown_once(at: Clinic) -> None:
    for number in (1, 2):
        at.upload(("a", film(number)))
    assert len(at.ask("GET", "/v1/jobs")) == 1  # one job, which waited for the second
    at.work()
    at.upload(("a", film(2)))  # sent twice: nothing new
    assert len(at.ask("GET", "/v1/jobs")) == 1
    at.upload(("a", film(3)))
    at.work()
    found = at.ask("GET", "/v1/studies/1.2.1.1")
    assert [job["state"] for job in found["jobs"]] == ["done", "done"]
    [result] = found["results"]
    assert len(result["content"]["instances"]) == 3


def test_slices_are_sampled_and_it_says_which(at: Clinic) -> None:
    at.upload(*((f"{n}", film(n, Modality="CT")) for n in range(1, 21)))
    at.upload(("cine", film(1, "1.2.1.2", b"\0" * 16 * 30, NumberOfFrames="30", Modality="US")))
    at.upload(("mask", film(1, "1.2.1.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")))
    at.work()
    [result] = at.ask("GET", "/v1/studies/1.2.1.1")["results"]
    assert result["content"]["series"][0]["note"] == "9 of 20 frames were looked at, sampled evenly by their numbers"
    numbers = [int(one["instance"].rpartition(".")[2]) for one in result["content"]["instances"]]
    assert numbers == [2, 4, 6, 8, 11, 13, 15, 17, 19]
    [result] = at.ask("GET", "/v1/studies/1.2.1.2")["results"]
    assert [one["frame"] for one in result["content"]["instances"]] == [1, 5, 8, 11, 15, 18, 21, 25, 28]
    masked = at.ask("GET", "/v1/studies/1.2.1.3")
    assert (masked["state"], masked["jobs"]) == ("new", [])


def test_a_study_that_can_not_be_read_needs_a_look_and_is_tried_again(at: Clinic) -> None:
    at.upload(("short", film(1, pixels=b"\0" * 7)))
    at.work()
    [listed] = at.ask("GET", "/v1/studies", state="needs a look")["studies"]
    [job] = at.ask("GET", "/v1/jobs", study=listed["uid"], state="parked")
    assert (job["failures"], "can't be decoded" in job["reason"]) == (3, True)
    assert at.ask("POST", f"/v1/jobs/{job['id']}/retry")["state"] == "waiting"
    assert at.ask("POST", f"/v1/jobs/{job['id']}/retry", status=409)["error"]["code"] == "conflict"
    assert at.ask("POST", f"/v1/jobs/{job['id']}/cancel")["state"] == "cancelled"
    assert at.ask("GET", f"/v1/jobs/{job['id']}")["state"] == "cancelled"
    at.ask("GET", "/v1/jobs/99", status=404)


def test_judged_anew_when_someone_asks(at: Clinic) -> None:
    at.upload(("a", film(1)))
    at.work()
    job = at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "classify"}, 201)
    assert at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "classify"}, 201)["id"] == job["id"]
    at.work()
    assert at.ask("GET", f"/v1/jobs/{job['id']}")["state"] == "done"
    assert len(at.ask("GET", "/v1/studies/1.2.1.1")["results"]) == 1  # the newer one
    at.ask("POST", "/v1/studies/9.9/jobs", {"kind": "classify"}, 404)
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "paint"}, 400)


def test_filters_of_the_worklist(at: Clinic) -> None:
    at.upload(("a", film(1, StudyDate="20260101")), ("b", film(1, "1.2.2", Modality="CT", PatientName="Lee^Bo")))
    uids = [one["uid"] for one in at.ask("GET", "/v1/studies")["studies"]]
    assert sorted(uids) == ["1.2.1.1", "1.2.2"]
    page = at.ask("GET", "/v1/studies", limit=1)
    assert ([one["uid"] for one in page["studies"]], page["more"]) == (uids[:1], True)
    rest = at.ask("GET", "/v1/studies", limit=1, offset=1)
    assert ([one["uid"] for one in rest["studies"]], rest["more"]) == (uids[1:], False)
    for wanted in ({"text": "lee"}, {"modality": "CT"}):
        assert [one["uid"] for one in at.ask("GET", "/v1/studies", **wanted)["studies"]] == ["1.2.2"]
    assert [one["uid"] for one in at.ask("GET", "/v1/studies", since="20251231")["studies"]] == ["1.2.1.1"]
    at.ask("GET", "/v1/studies", since="yesterday", status=400)


def test_pictures_and_objects(at: Clinic) -> None:
    sent = film(1, pixels=bytes(range(0, 160, 10)))
    at.upload(("a", sent), ("b.png", png(200, 10, 10)))
    whole = at.client.get("/v1/instances/1.2.1.1.9.1/object")
    assert (whole.content, whole.headers["content-type"]) == (sent, "application/dicom")
    assert whole.headers["content-disposition"] == 'attachment; filename="1.2.1.1.9.1.dcm"'
    grey = at.client.get("/v1/instances/1.2.1.1.9.1/picture")
    assert grey.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(grey.content)))
    assert (shown.shape, shown.ravel().tolist()) == ((4, 4), list(range(0, 160, 10)))
    dark = at.client.get("/v1/instances/1.2.1.1.9.1/picture?window=1000,20")
    assert np.asarray(Image.open(io.BytesIO(dark.content))).max() == 0
    [coloured] = [one for one in at.ask("GET", "/v1/studies")["studies"] if one["modalities"] == ["XC"]]
    small = Image.open(io.BytesIO(at.client.get(f"/v1/instances/{coloured['picture']}/picture?side=16").content))
    assert (small.size, small.getpixel((0, 0))) == ((16, 8), (200, 10, 10))
    at.ask("GET", "/v1/instances/1.2.1.1.9.1/picture", frame=7, status=400)
    at.ask("GET", "/v1/instances/1.2.1.1.9.1/picture", window="dark", status=400)
    at.ask("GET", "/v1/instances/9.9/picture", status=404)
    assert at.ask("GET", "/v1/instances/1.2.1.1.9.1/map", status=404)["error"]["code"] == "no_maps"


def test_similar_pictures(at: Clinic) -> None:
    at.upload(*((f"{red}.png", png(red, 90, 90)) for red in (90, 120, 250)))
    at.upload(("a", film(1)))
    at.work()
    studies = {one["uid"]: one["picture"] for one in at.ask("GET", "/v1/studies", modality="XC")["studies"]}
    order = []
    for red in (90, 120, 250):
        [got] = at.upload(("again", png(red, 90, 90)))["received"]
        assert not got["new"]
        order.append(got["instance"])
    found = at.ask("POST", "/v1/search", {"instance": order[0], "count": 2})["found"]
    assert len(found) == 2
    assert order[0] not in [one["instance"] for one in found]
    found = at.ask("POST", "/v1/search", {"instance": order[2], "count": 9})["found"]
    assert [one["instance"] for one in found if one["instance"] in order] == [order[1], order[0]]
    assert len(found) == 3
    assert sorted(found, key=lambda one: -one["similarity"]) == found
    assert studies[found[0]["study"]] == found[0]["instance"] == order[1]
    assert len(at.ask("POST", "/v1/search", {"text": "a red film"})["found"]) == 4
    at.ask("POST", "/v1/search", {"text": "red", "instance": "1.2"}, 400)
    at.ask("DELETE", f"/v1/studies/{found[0]['study']}", status=204)  # and its embeddings
    assert order[1] not in [one["instance"] for one in at.ask("POST", "/v1/search", {"instance": order[2]})["found"]]


def test_removed(at: Clinic) -> None:
    at.upload(("a", film(1)))
    at.ask("DELETE", "/v1/studies/1.2.1.1", status=204)
    at.ask("DELETE", "/v1/studies/1.2.1.1", status=404)
    at.ask("GET", "/v1/studies/1.2.1.1", status=404)
    assert at.ask("GET", "/v1/jobs") == []
    actions = [one["action"] for one in at.ask("GET", "/v1/audit", what="1.2.1.1")["entries"]]
    assert actions == ["removed", "sent a study"]
    assert {one["who"] for one in at.ask("GET", "/v1/audit")["entries"]} == {"local"}


def test_a_cd(at: Clinic) -> None:
    """DICOM of a zip is taken; the viewer, its pictures, the directory and paths that lead elsewhere are not what they seem."""
    cd = archive(
        ("../../etc/passwd", film(1)), ("/IMAGES/IM2", film(2)), ("viewer/logo.png", png()), ("autorun.exe", b"MZ" * 99),
        ("DICOMDIR", film(3)),
    )  # fmt: skip
    sent = at.upload(("cd.zip", cd))
    assert [one["instance"] for one in sent["received"]] == ["1.2.1.1.9.1", "1.2.1.1.9.2"]
    assert (sent["received"][0]["name"], sent["left_out"]) == ("cd.zip/../../etc/passwd", 3)
    photos = at.upload(("photos.zip", archive(("1.png", png(1)), ("2.png", png(2)), ("readme", b"-"))), study="1.2.77")
    assert ({one["study"] for one in photos["received"]}, photos["left_out"]) == ({"1.2.77"}, 1)
    written = [path for path in at.station.folder.rglob("*") if path.is_file() and path.parent.parent.name == "objects"]
    assert len(written) == 4
    assert all(len(path.name) == 64 for path in written)
    assert not any("passwd" in path.name or "IM2" in path.name for path in at.station.folder.parent.rglob("*"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (archive(("bomb", b"\0" * (80 << 20))), "unpacks to far more than it holds"),
        (archive(("a", b"x"))[:-30], "the zip is damaged"),
        (
            archive(("a", film(1))).replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"),
            "encrypted",
        ),
        (archive(("a", film(1))).replace(b"\0\0\x08\0", b"\0\0\x0e\0"), "packed in a way"),
    ],
    ids=["bomb", "cut", "encrypted", "lzma"],
)
def test_an_archive_that_is_none(at: Clinic, content: bytes, sentence: str) -> None:
    sent = at.upload(("a.zip", content), ("b", film(1)))
    assert sentence in sent["received"][0]["error"]["message"]
    assert sent["received"][1]["new"]


def test_pictures_of_a_patient(at: Clinic) -> None:
    at.upload(("1.png", png(1)), ("2.png", png(2)), study="1.2.99", patient_name="Lee^Bo", patient_id="7")
    [listed] = at.ask("GET", "/v1/studies")["studies"]
    assert (listed["uid"], listed["patient"]["name"], listed["patient"]["id"]) == ("1.2.99", "Lee^Bo", "7")
    assert listed["instances"] == 2
    assert at.upload(("1.png", png(1)), study="../../etc", status=400)["error"]["param"] == "study"


def test_bodies_that_are_none(at: Clinic) -> None:
    for content, kind in (
        (b"", "multipart/form-data"), (b"--x\r\n", "multipart/form-data; boundary=x"), (b"{}", "application/json"),
        (b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\nab", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"), (b"nothing", "multipart/form-data; boundary=x"),
    ):  # fmt: skip
        found = at.client.post("/v1/studies", content=content, headers={"Content-Type": kind})
        assert found.status_code == 400, (content, found.text)
    assert at.ask("GET", "/v1/studies")["studies"] == []
    assert list((at.station.folder / "arriving").iterdir()) == []


def test_a_client_that_goes_away_leaves_nothing(at: Clinic, caplog: pytest.LogCaptureFixture) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    coming = [{"type": "http.request", "body": head + film(1), "more_body": True}, {"type": "http.disconnect"}]
    headers = {"host": "localhost:8642", "content-type": "multipart/form-data; boundary=x"}
    said: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/studies", "raw_path": b"/v1/studies", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "http_version": "1.1",
        "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8642),
    }  # fmt: skip
    anyio.run(at.client.app, scope, receive, send)
    assert said[0]["status"] == 499
    assert "a fault in medge" not in caplog.text
    assert at.ask("GET", "/v1/studies")["studies"] == []
    assert list((at.station.folder / "arriving").iterdir()) == []


def test_a_full_disk_refuses_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    free = [1 << 30]
    with clinic(tmp_path / "s", space=Space(reserve=0, ballast=0, free=lambda _: free[0])) as at:
        at.upload(("a", film(1)))
        free[0] = 100
        assert at.upload(("b", film(2)), status=507)["error"]["code"] == "station_full"
        at.work()
        assert at.ask("GET", "/v1/studies/1.2.1.1")["state"] == "done"


def test_no_path_of_a_request_reaches_a_file(at: Clinic) -> None:
    at.upload(("../../../etc/cron.d/x", film(1)))
    secret = at.station.folder / "secret"
    secret.write_text("secret")
    for uid in ("..%2f..%2fsecret", "..", str(secret).replace("/", "%2f"), "station.sqlite", "%00", "*"):
        for path in (f"/v1/instances/{uid}/object", f"/v1/instances/{uid}/picture", f"/v1/studies/{uid}"):
            found = at.client.get(path)
            assert found.status_code == 404, path
            assert "secret" not in found.text
    assert [path.name for path in at.station.folder.parent.iterdir()] == ["station"]


def test_changes_are_told_as_they_happen(at: Clinic) -> None:
    at.service.listening = 0.3
    at.upload(("a", film(1)))
    said = at.client.get("/v1/events", headers={"Last-Event-ID": "0"}).text
    events = [block.split("\n") for block in said.split("\n\n") if "event:" in block]
    kinds = [(lines[1], json.loads(lines[2].removeprefix("data: "))) for lines in events]
    assert ("event: study", {"uid": "1.2.1.1"}) in kinds
    [job] = [data for kind, data in kinds if kind == "event: job"]
    assert (job["kind"], job["state"]) == ("classify", "waiting")
    last = events[-1][0].removeprefix("id: ")
    assert "event:" not in at.client.get("/v1/events").text  # only what is new
    at.work()
    at.ask("DELETE", "/v1/studies/1.2.1.1", status=204)
    said = at.client.get("/v1/events", headers={"Last-Event-ID": last}).text
    assert said.count("event: study") == 1


def test_without_a_store_there_are_no_studies() -> None:
    with TestClient(create_app(Service(catalogue(), shelf())), base_url="http://localhost") as client:
        for path in ("/v1/studies", "/v1/jobs", "/v1/events", "/v1/audit", "/v1/instances/1/object"):
            found = client.get(path)
            assert (found.status_code, found.json()["error"]["code"]) == (404, "no_store")
