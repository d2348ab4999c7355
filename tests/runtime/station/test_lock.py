"""The station with users, as an attacker would try it: every route without a login, stolen and planted sessions, other sites'
pages, guesses, names, sizes, paths, headers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("argon2", reason="argon2-cffi is not installed: pip install 'medge[station]'")

from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute
from station_doors import NAMES, PASSWORD, Clock, log_in, opened, with_users
from station_films import film

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.entry.guard import HEADERS, LOOPBACK
from medge.runtime.station.api.entry.lock import Lock
from medge.runtime.station.page import serve
from medge.runtime.station.station import Station

HELLO = {"model": "reader", "messages": [{"role": "user", "content": "hello"}]}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PAGE = Path(serve.__file__).parent / "index.html"
OPEN = {("GET", "/healthz"), ("HEAD", "/healthz"), ("POST", "/v1/session")}
OPEN |= {
    (method, path) for path in ("/", *serve.files()) for method in ("GET", "HEAD")
}  # the page, which holds no data


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station.open(tmp_path / "station") as made:
        yield made


@pytest.fixture
def client(station: Station, clock: Clock) -> Iterator[TestClient]:
    with opened(station, clock) as made:
        with_users(station.doors)
        yield made


def routes(client: TestClient) -> list[APIRoute]:
    """Every route of the application, behind the guard and the lock."""
    inner: Any = client.app
    while not hasattr(inner, "routes"):
        inner = inner._app

    def all_of(found: list[BaseRoute]) -> Iterator[APIRoute]:
        for one in found:
            if isinstance(one, APIRoute):
                yield one
            yield from all_of(getattr(getattr(one, "original_router", None), "routes", []))

    return list(all_of(inner.routes))


def paths(client: TestClient, station: Station) -> list[str]:
    """Every path that is routed, and those of the OpenAPI document, with something in the place of what stands in braces."""
    documented = client.get("/openapi.json", headers=token_of(station)).json()["paths"]
    every = {
        *documented,
        *(one.path for one in routes(client)),
        "/docs",
        "/docs/style.css",
        "/openapi.json",
        "/nothing",
    }
    return sorted(path.replace("{", "").replace("}", "") for path in every)


def token_of(station: Station, role: str = "admin") -> dict[str, str]:
    """The header of a new token."""
    _, secret = station.doors.add_token(f"{role}{len(station.doors.tokens())}", role, who="test")
    return {"Authorization": f"Bearer {secret}"}


def has_headers(found: Any) -> bool:
    expected = HEADERS | ({"Content-Security-Policy": serve.POLICY} if serve.is_page(found.request.url.path) else {})
    return all(found.headers.get(name) == value for name, value in expected.items())


def test_nothing_but_health_and_login_answers_without_a_login(client: TestClient, station: Station) -> None:
    every = paths(client, station)
    assert len(every) > 12
    for path in every:
        for method in METHODS:
            found = client.request(method, path, json=HELLO if method == "POST" else None)
            if (method, path) in OPEN:
                assert found.status_code in (200, 400, 404, 405), (method, path)
                continue
            assert found.status_code == 401, (method, path)
            assert has_headers(found)
            assert found.headers["www-authenticate"] == "Bearer"
            assert method == "HEAD" or found.json()["error"]["code"] == "not_logged_in"


def test_the_document_says_how_to_enter(client: TestClient, station: Station) -> None:
    told = client.get("/openapi.json", headers=token_of(station)).json()
    assert {one["type"] for one in told["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    opened_ones = {
        (method.upper(), path)
        for path, methods in told["paths"].items()
        for method, found in methods.items()
        if found.get("security") == []
    }
    assert opened_ones == {("GET", "/healthz"), *((method, "/v1/session") for method in ("GET", "POST", "DELETE"))}
    assert "401" in told["paths"]["/v1/studies"]["get"]["responses"]


@pytest.mark.parametrize(
    "path",
    ["/v1/session/", "/v1/session/../models", "/healthz/", "/healthz/../metrics", "/HEALTHZ/../docs", "//healthz",
     "/page/../docs", "/page/..%2fdocs", "/page/%2e%2e/docs", "/healthz%00", "/healthz;x=/docs", "/%68ealthz/..",
     "/healthz?/docs#", "/page//../docs"],
)  # fmt: skip
def test_no_way_of_writing_a_path_goes_round_the_lock(client: TestClient, path: str) -> None:
    found = client.get(path)
    page = found.content == PAGE.read_bytes()  # the client takes what stands after // for a host
    assert found.status_code in (401, 404) or page or found.json() == {"status": "ok"}
    assert "openapi" not in found.text
    assert "medge_requests" not in found.text


def test_without_users_whoever_is_at_this_machine_is_let_in(station: Station, clock: Clock, tmp_path: Path) -> None:
    with Station.open(tmp_path / "other") as other, opened(other, clock) as client:
        assert client.get("/v1/session").json() == {
            "name": "local", "role": "admin", "csrf": None, "ends": None, "must_log_in": False,
        }  # fmt: skip
        assert client.get("/v1/models", headers={"Authorization": "Bearer none"}).status_code == 200
        found = client.post("/v1/session", json={"name": "Amina", "password": PASSWORD})
        assert found.status_code == 400
        assert "this station has no users" in found.json()["error"]["message"]
        assert (
            client.post("/v1/chat/completions", json=HELLO, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        )
        with_users(other.doors)  # a command, beside the running station
        assert client.get("/v1/models").status_code == 401
    with Station.open(tmp_path / "other") as other, opened(other, clock, always_locked=True) as client:
        for name in (NAMES["viewer"], NAMES["reader"], NAMES["admin"]):
            other.doors.remove_user(name, who="test", unlock=True)
        assert client.get("/v1/models").status_code == 401  # beyond this machine it stays locked


def test_a_login_and_its_cookie(client: TestClient, clock: Clock) -> None:
    found = client.post("/v1/session", json={"name": "amina", "password": PASSWORD})
    [cookie] = found.headers.get_list("set-cookie")
    value, *attributes = cookie.split("; ")
    assert value.startswith("medge=")
    assert len(value) > 40
    assert {one.lower() for one in attributes} == {"path=/", "httponly", "samesite=strict"}
    told = found.json()
    assert (told["name"], told["role"], told["ends"]) == ("Amina", "admin", clock.at + 12 * 3600)
    assert client.get("/v1/session").json() == told
    assert client.get("/v1/models").status_code == 200
    gone = client.delete("/v1/session", headers={"X-CSRF-Token": told["csrf"]})
    assert gone.status_code == 204
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    assert client.get("/v1/models", headers={"Cookie": value}).status_code == 401


def test_under_tls_the_cookie_goes_nowhere_else(station: Station, clock: Clock) -> None:
    with opened(
        station, clock, url="https://clinic.lan", hosts=frozenset({"clinic.lan"}), always_locked=True, hsts=True
    ) as client:
        with_users(station.doors)
        found = client.post("/v1/session", json={"name": "Amina", "password": PASSWORD})
        [cookie] = found.headers.get_list("set-cookie")
        value, *attributes = cookie.split("; ")
        assert value.startswith("__Host-medge=")
        assert {one.lower() for one in attributes} == {"path=/", "httponly", "samesite=strict", "secure"}
        assert client.get("/v1/models").status_code == 200
        for path in ("/healthz", "/nothing", "/v1/models"):
            assert client.get(path).headers["strict-transport-security"] == "max-age=31536000"
        refused = client.get("/healthz", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.headers["strict-transport-security"]) == (421, "max-age=31536000")


def test_a_session_that_was_planted_is_not_taken(client: TestClient) -> None:
    planted = {"Cookie": "medge=planted-by-an-attacker-0123456789abcdef"}
    found = client.post("/v1/session", json={"name": "Amina", "password": PASSWORD}, headers=planted)
    assert "planted" not in found.headers["set-cookie"]
    client.cookies.clear()
    assert client.get("/v1/models", headers=planted).status_code == 401


def test_a_login_ends_the_session_of_before(client: TestClient) -> None:
    log_in(client, "viewer")
    before = client.cookies["medge"]
    log_in(client, "admin")
    assert client.cookies["medge"] != before
    client.cookies.clear()
    assert client.get("/v1/models", headers={"Cookie": f"medge={before}"}).status_code == 401


def test_two_cookies_of_the_name_are_none(client: TestClient) -> None:
    """Another server of this host, on another port, can set one beside ours."""
    log_in(client, "viewer")
    mine = client.cookies["medge"]
    client.cookies.clear()
    assert client.get("/v1/models", headers={"Cookie": f"medge={mine}"}).status_code == 200
    for line in (
        f"medge={mine}; medge=x",
        f"medge=x; medge={mine}",
        f"medge={mine}x",
        "medge=",
        "medge",
        f"Medge={mine}",
    ):
        assert client.get("/v1/models", headers={"Cookie": line}).status_code == 401, line


def test_what_changes_something_needs_the_word_in_the_header(client: TestClient) -> None:
    right = log_in(client)
    mine = client.cookies["medge"]
    others = log_in(TestClient(client.app, base_url="http://localhost:8642"))
    for headers in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": mine},
        others,
        {"X-CSRF-Token": right["X-CSRF-Token"].upper()},
    ):
        for method, path in (("POST", "/v1/chat/completions"), ("DELETE", "/v1/session"), ("PUT", "/nothing")):
            found = client.request(method, path, headers=headers, json=HELLO)
            assert (found.status_code, found.json()["error"]["code"]) == (403, "csrf")
    assert client.post("/v1/chat/completions", headers=right, json=HELLO).status_code == 200
    for site in ("cross-site", "same-site"):
        crossed = {**right, "Sec-Fetch-Site": site}
        assert client.post("/v1/chat/completions", headers=crossed, json=HELLO).status_code == 403
    assert (
        client.post("/v1/chat/completions", headers={**right, "Origin": "http://localhost:1"}, json=HELLO).status_code
        == 403
    )
    assert (
        client.post("/v1/chat/completions", headers={**right, "Sec-Fetch-Site": "same-origin"}, json=HELLO).status_code
        == 200
    )


def test_another_site_can_log_nobody_in(client: TestClient) -> None:
    login = {"name": "Amina", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/v1/session", json=login, headers=headers).status_code == 403
    assert client.post("/v1/session", data=login).status_code == 400  # a form
    text = client.post("/v1/session", content=json.dumps(login), headers={"Content-Type": "text/plain"})
    assert text.status_code == 400
    assert "medge" not in client.cookies


def test_a_token_enters_and_is_refused_once_removed(client: TestClient, station: Station) -> None:
    _, secret = station.doors.add_token("ris", "viewer", who="test")
    right = {"Authorization": f"Bearer {secret}"}
    assert client.post("/v1/chat/completions", json=HELLO, headers=right).status_code == 200
    assert client.get("/v1/session", headers=right).json()["name"] == "token:ris"
    for wrong in (
        f"Bearer {secret}x",
        f"Bearer {secret[:-1]}",
        "Bearer",
        "Bearer ",
        f"Basic {secret}",
        secret,
        "Bearer none",
    ):
        found = client.get("/v1/models", headers={"Authorization": wrong})
        assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key"), wrong
        assert secret not in found.text
    station.doors.remove_token("ris", who="test")
    assert client.get("/v1/models", headers=right).status_code == 401


def test_openais_client_enters_with_its_api_key(client: TestClient, station: Station) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed: pip install openai")
    _, secret = station.doors.add_token("notebook", "viewer", who="test")

    def of(key: str) -> Any:
        return openai.OpenAI(base_url="http://localhost:8642/v1", api_key=key, http_client=client, max_retries=0)

    messages = HELLO["messages"]
    answer = of(secret).chat.completions.create(model="reader", messages=messages)
    assert answer.choices[0].message.content
    with pytest.raises(openai.AuthenticationError):
        of("none").models.list()


def test_guesses_wait(client: TestClient, clock: Clock) -> None:
    def guess(name: str = "Amina", password: str = "a guess at it") -> Any:
        return client.post("/v1/session", json={"name": name, "password": password})

    for _ in range(5):
        found = guess()
        assert (found.status_code, found.json()["error"]["code"]) == (401, "wrong_login")
    waiting = guess(password=PASSWORD)
    assert waiting.status_code == 429
    assert waiting.headers["retry-after"] == "1"
    assert guess("Rui", PASSWORD).status_code == 200
    clock.at += 1
    assert guess(password=PASSWORD).status_code == 200


def test_a_page_left_open_does_not_keep_a_session(client: TestClient, clock: Clock) -> None:
    log_in(client, "viewer")
    for _ in range(3):
        clock.at += 900
        found = client.get("/v1/models", headers={"Medge-Background": "1"})
    assert found.status_code == 401


def test_a_login_is_small(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 1000

    for content in (b" " * 40_000, pieces()):
        found = client.post("/v1/session", content=content, headers={"Content-Type": "application/json"})
        assert found.status_code == 413
        assert has_headers(found)
    for name, password in (("x" * 257, "y"), ("x", "y" * 1025)):
        assert client.post("/v1/session", json={"name": name, "password": password}).status_code == 400


def test_a_body_of_somebody_who_has_not_logged_in_is_not_read(client: TestClient, station: Station) -> None:
    sent: list[Any] = []

    async def never(*_: object) -> Any:
        raise AssertionError("the body was read, or the application reached")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "scheme": "http"}
    anyio.run(Lock(never, station.doors), scope, never, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize("path", ["/%0d%0aSet-Cookie:%20x=1", "/v1/models/%0d%0aX-Evil:%201", "/?x=%0d%0aX-Evil:%201"])
def test_nothing_that_is_asked_becomes_a_header(client: TestClient, station: Station, path: str) -> None:
    found = client.get(path, headers=token_of(station))
    assert not {"x-evil", "set-cookie"} & set(found.headers)
    assert has_headers(found)


@pytest.mark.parametrize(
    "name", ["\x1b[2J\x1b[31mroot", "a\nlogged in: admin", "\u202egpj.exe", "%s%s%n", "\ud800", "{0.__class__}"]
)
def test_what_is_typed_as_a_name_stands_in_no_log(
    client: TestClient, station: Station, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    content = json.dumps({"name": name, "password": name}).encode()
    found = client.post("/v1/session", content=content, headers={"Content-Type": "application/json"})
    assert found.status_code in (400, 401)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("medge")]
    assert said
    assert not any(name in line for line in (*said, *(repr(entry) for entry in station.history())))


@pytest.mark.parametrize("role", ["viewer", "reader", "admin"])
def test_what_a_role_may_is_what_its_routes_say(client: TestClient, station: Station, role: str) -> None:
    """Each route is asked by each role: refused with 403 where its `needs` lies above, and not otherwise."""
    headers = token_of(station, role)
    ranks = {"viewer": 0, "reader": 1, "admin": 2}
    asked = 0
    for one in routes(client):
        needed = max((ranks[name] for name in roles_of(one)), default=0)
        for method in one.methods - {"HEAD"}:
            path = one.path.replace("{", "").replace("}", "")
            if path == "/v1/events" or (method, path) == ("DELETE", "/v1/session"):
                continue
            found = client.request(method, path, headers=headers, json={} if method in ("POST", "PUT") else None)
            refused = found.status_code == 403 and found.json()["error"]["code"] == "not_allowed"
            assert refused == (ranks[role] < needed), (method, path, found.text)
            asked += 1
    assert asked > 10
    assert station.history_break() is None


# What is asked by POST and changes nothing; the login is for everybody.
ASKS = {"/v1/chat/completions", "/v1/embeddings", "/v1/classify", "/predict", "/v1/search", "/v1/record", "/v1/session"}


def test_what_changes_something_is_for_readers_and_what_removes_for_admins(client: TestClient) -> None:
    """A route that is added without a role fails here."""
    changing = [one for one in routes(client) if one.path not in ASKS and not one.methods <= {"GET", "HEAD"}]
    assert len(changing) > 5
    for one in changing:
        needed = {"admin"} if "DELETE" in one.methods else {"reader", "admin"}
        assert needed & set(roles_of(one)), (one.methods, one.path)
    [audit] = [one for one in routes(client) if one.path == "/v1/audit"]
    assert list(roles_of(audit)) == ["admin"]


def test_nobody_signs_under_anothers_name(client: TestClient, station: Station) -> None:
    study = station.put(film(1), who="test").instance
    uid = station.studies()[0].study.uid
    assert study
    headers = log_in(client, "reader")
    put = client.put(f"/v1/studies/{uid}/report", json={"text": "Findings", "version": 0}, headers=headers)
    assert put.status_code == 200, put.text
    path, version = f"/v1/studies/{uid}/report/sign", put.json()["version"]
    for name in (NAMES["admin"], f"{NAMES['reader']} ", "token:ris"):
        found = client.post(path, json={"name": name, "version": version}, headers=headers)
        assert (found.status_code == 200) == (name.strip() == NAMES["reader"]), name
        if found.status_code == 200:
            assert found.json()["signed_by"] == NAMES["reader"]
    program = client.post(path, json={"name": "token:reader0", "version": version}, headers=token_of(station, "reader"))
    assert program.status_code == 403
    assert "a person signs" in program.json()["error"]["message"]


def roles_of(route: APIRoute) -> Iterator[str]:
    """The roles that a route's dependencies need, as `who.needs` closes over them."""
    waiting = [route.dependant]
    while waiting:
        one = waiting.pop()
        waiting += one.dependencies
        if getattr(one.call, "__qualname__", "") == "needs.<locals>.allowed":
            names = one.call.__code__.co_freevars  # type: ignore[union-attr]  # a dependency has one
            yield dict(zip(names, one.call.__closure__, strict=True))["role"].cell_contents  # type: ignore[union-attr, arg-type]


def test_the_guard_knows_only_the_names_that_were_given(station: Station, clock: Clock) -> None:
    with opened(station, clock, url="https://clinic.lan", hosts=frozenset({"clinic.lan", "192.168.1.5"})) as client:
        for host, status in (("clinic.lan:8642", 200), ("192.168.1.5", 200), ("localhost", 421), ("clinic.lan.evil.example", 421),
                             ("evil.example, clinic.lan", 421), ("clinic.lan@evil.example", 421)):  # fmt: skip
            assert client.get("/healthz", headers={"Host": host}).status_code == status, host
    assert "localhost" in LOOPBACK


def test_a_streaming_answer_ends_with_its_session(
    client: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medge.runtime.station.api.entry.lock._AGAIN", -1.0)
    headers = log_in(client, "viewer")
    whole = client.post("/v1/chat/completions", json={**HELLO, "stream": True}, headers=headers).text
    assert whole.rstrip().endswith("[DONE]")
    looks, enter = 0, station.doors.enter

    def leaves(**given: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 4:
            station.doors.remove_user(NAMES["viewer"], who="test")
        return enter(**given)

    monkeypatch.setattr(station.doors, "enter", leaves)
    cut = client.post("/v1/chat/completions", json={**HELLO, "stream": True}, headers=headers).text
    assert 0 < len(cut) < len(whole)
    assert "[DONE]" not in cut


def test_a_store_that_cannot_be_read_lets_nobody_in(client: TestClient, station: Station) -> None:
    headers = token_of(station)
    station.close()
    found = client.get("/v1/models", headers=headers)
    assert found.status_code == 503
    assert client.get("/healthz").status_code == 200


def test_create_app_without_a_store_stays_as_it_was() -> None:
    from station_fakes import catalogue, shelf

    from medge.runtime.station.api.service import Service

    with TestClient(create_app(Service(catalogue(), shelf())), base_url="http://localhost") as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/session").json()["name"] == "local"
        assert client.delete("/v1/session").status_code == 204
