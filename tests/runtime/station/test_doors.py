"""What the station refuses before it works: other names, other pages, bodies that are too large, what is no request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from station_fakes import FakeGenerator, catalogue, shelf

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from fastapi.testclient import TestClient

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service

HELLO = {"model": "reader", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    service = Service(catalogue(), shelf())
    with TestClient(create_app(service, most_bytes=4096), base_url="http://localhost:8642") as opened:
        yield opened


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8642", "", "127.0.0.1.nip.io", "[::2]:8642"])
def test_another_name_is_refused(client: TestClient, host: str) -> None:
    found = client.get("/healthz", headers={"Host": host})
    assert found.status_code == 421
    assert "not called by this name" in found.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8642", "[::1]:8642", "[::1]"])
def test_its_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).json() == {"status": "ok"}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999"])
def test_a_page_of_another_origin_is_refused(client: TestClient, origin: str) -> None:
    found = client.post("/v1/chat/completions", json=HELLO, headers={"Origin": origin})
    assert found.status_code == 403
    assert "access-control-allow-origin" not in found.headers


def test_its_own_page_is_answered(client: TestClient) -> None:
    found = client.post("/v1/chat/completions", json=HELLO, headers={"Origin": "http://localhost:8642"})
    assert found.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/nothing"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["cache-control"] == "no-store"


def test_a_body_that_is_too_large_is_refused_by_its_length_and_while_it_is_read(client: TestClient) -> None:
    large = b'{"model": "' + b"x" * 5000 + b'"}'

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    for content in (large, pieces()):
        found = client.post("/v1/embeddings", content=content, headers={"Content-Type": "application/json"})
        assert found.status_code == 413
        assert "send fewer or smaller images" in found.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 2000, b'{"model": "\\ud800", "input": "x"}', b'{"model": NaN}', b"\xff\xfe", b"null", b"[]"],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/v1/classify", "/predict"])
def test_what_is_no_request_is_refused(client: TestClient, path: str, body: bytes) -> None:
    found = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert found.status_code in (400, 404), found.text  # 404 where half a character is the model's name
    assert found.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v1/models/..%2f..%2fetc%2fpasswd", "/%2e%2e/etc/passwd", "//etc/passwd", "/docs/../x"]
)
def test_a_path_reaches_no_file(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 405)


def test_the_log_holds_neither_names_nor_prompts(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "medge")
    said: dict[str, Any] = {"model": "reader", "messages": [{"role": "user", "content": "Jane Doe"}]}
    client.post("/v1/chat/completions", json=said)
    client.get("/v1/models/Jane%20Doe?patient=Jane%20Doe")
    client.get("/Jane-Doe")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("medge")]
    assert any(line.startswith("POST /v1/chat/completions 200") for line in lines)
    assert any(line.startswith("GET /v1/models/{model} 404") for line in lines)
    assert not any("Jane" in line for line in lines)


def test_a_fault_ends_neither_the_station_nor_in_words(caplog: pytest.LogCaptureFixture) -> None:
    generator = FakeGenerator()
    generator.error = RuntimeError("Jane Doe")
    with TestClient(create_app(Service(catalogue(), shelf(generator))), base_url="http://localhost") as client:
        found = client.post("/v1/chat/completions", json=HELLO)
        assert found.status_code == 500
        assert found.json()["error"]["message"] == "a fault in medge itself (RuntimeError)"
        assert client.get("/healthz").status_code == 200
    assert "Jane" not in caplog.text


def test_counts_and_readiness(client: TestClient) -> None:
    client.post("/v1/chat/completions", json=HELLO)
    ready = client.get("/readyz").json()
    assert ready["models"] == ["eyes", "reader", "writer"]
    assert "reader" in ready["loaded"]
    assert ready["refused"] == {"old": "old: parity failed"}
    text = client.get("/metrics").text
    assert 'medge_requests_total{method="POST",route="/v1/chat/completions",status="200"}' in text
    assert 'medge_tokens_total{of="answers"}' in text


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "<script" not in page
    assert "//" not in page
    assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")
