"""STOW-RS: objects are stored before they are answered for, and what is refused says why."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from fastapi.testclient import TestClient
from station_fakes import catalogue, shelf
from station_films import PNG, film

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.station import Station
from medge.runtime.station.store.objects import Space

REASON = "00081197"


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station.open(tmp_path / "s") as opened:
        yield opened


@pytest.fixture
def client(station: Station) -> Iterator[TestClient]:
    return client_of(station)


def client_of(station: Station) -> TestClient:
    service = Service(catalogue(), shelf(), station=station)
    return TestClient(create_app(service), base_url="http://localhost")


def body(*parts: bytes, kind: str = "application/dicom", boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    made = (
        b"".join(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + part + b"\r\n" for part in parts)
        + f"--{boundary}--\r\n".encode()
    )
    return made, {"Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}'}


def store(client: TestClient, *parts: bytes, path: str = "/dicomweb/studies", **how: str) -> tuple[int, dict[str, Any]]:
    content, headers = body(*parts, **how)
    found = client.post(path, content=content, headers=headers)
    return found.status_code, found.json()


def uids(items: dict[str, Any]) -> list[str]:
    return [item["00081155"]["Value"][0] for item in items["Value"]]


def reasons(items: dict[str, Any]) -> list[int]:
    return [item[REASON]["Value"][0] for item in items["Value"]]


def test_objects_are_stored_with_their_jobs(client: TestClient, station: Station) -> None:
    large = film(2, pixels=bytes(range(256)) * 9000)  # larger than what is kept in memory, and with every byte
    status, said = store(client, film(1), large)
    assert (status, list(said)) == (200, ["00081199"])
    assert uids(said["00081199"]) == ["1.2.1.1.9.1", "1.2.1.1.9.2"]
    assert said["00081199"]["Value"][0]["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.7"]
    kept = station.instance("1.2.1.1.9.2")
    assert kept is not None
    with station.read(kept) as stream:
        assert stream.read() == large
    assert station.queue.counts() == {"waiting": 1}
    assert store(client, film(1), large)[0] == 200
    assert station.queue.counts() == {"waiting": 1}
    assert list((station.folder / "arriving").iterdir()) == []


def test_some_are_refused_each_with_its_reason(client: TestClient) -> None:
    status, said = store(client, film(1), film(1, pixels=b"\1" * 16), b"no DICOM", PNG + b"0" * 200)
    assert status == 202
    assert uids(said["00081199"]) == ["1.2.1.1.9.1"]
    assert (uids(said["00081198"]), reasons(said["00081198"])) == (["1.2.1.1.9.1"], [0xC111])
    assert reasons(said["0008119A"]) == [0xC000, 0xC000]


def test_another_study_than_the_address_names(client: TestClient, station: Station) -> None:
    status, said = store(client, film(1), path="/dicomweb/studies/1.2.1.2")
    assert (status, reasons(said["00081198"])) == (409, [0xA900])
    assert station.studies() == []
    assert store(client, film(1), path="/dicomweb/studies/1.2.1.1")[0] == 200
    assert store(client, film(1), path="/dicomweb/studies/..%2fx")[0] in (400, 404)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Station.open(tmp_path / "full", space=Space(reserve=0, ballast=0, free=lambda folder: 0)) as full:
        status, said = store(client_of(full), film(1))
        assert (status, reasons(said["00081198"])) == (507, [0xA700])
    with Station.open(tmp_path / "filling") as filling:

        def no_space(*_: Any, **__: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", no_space)
        status, said = store(client_of(filling), film(1))
        assert (status, reasons(said["0008119A"])) == (507, [0xA700])
        assert filling.studies() == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (body(film(1))[0], "multipart/related", 400),
        (body(film(1))[0], 'multipart/related; type="application/dicom+json"; boundary=b0undary', 415),
        (body(film(1))[0][:-20], "multipart/related; boundary=b0undary", 400),
        (b"--b0undary--\r\n", "multipart/related; boundary=b0undary", 400),
        (b"nothing", "multipart/related; boundary=b0undary", 400),
        (b"--b0undary\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "multipart/related; boundary=b0undary", 400),
    ],
)
def test_what_is_no_request(client: TestClient, content: bytes, kind: str, status: int) -> None:
    found = client.post("/dicomweb/studies", content=content, headers={"Content-Type": kind})
    assert (found.status_code, bool(found.json()["error"]["message"])) == (status, True)


def test_without_a_store(tmp_path: Path) -> None:
    client = TestClient(create_app(Service(catalogue(), shelf())), base_url="http://localhost")
    status, said = store(client, film(1))
    assert (status, said["error"]["code"]) == (404, "no_store")
