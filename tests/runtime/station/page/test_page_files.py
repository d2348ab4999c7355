"""The page's files: who gets them, under which policy, and that all languages say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
from fastapi.testclient import TestClient
from station_fakes import catalogue, shelf

from medge.runtime.assistants.radiology_report import TEMPLATES
from medge.runtime.pictures.view import CT_WINDOWS
from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.page.files import FILES

LANGUAGES = {name: json.loads(path.read_text("utf-8")) for name, path in FILES.items() if name.startswith("lang/")}
SCRIPTS = {name: path.read_text("utf-8") for name, path in FILES.items() if name.endswith(".js")}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Service(catalogue(), shelf())), base_url="http://localhost:8642") as opened:
        yield opened


def test_the_page_has_a_policy_of_its_own(client: TestClient) -> None:
    page, api = (client.get(path).headers["content-security-policy"] for path in ("/", "/healthz"))
    assert "script-src 'self'" in page
    assert "unsafe" not in page
    assert "script-src" not in api
    assert client.get("/page/app/app.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/files.py", "/page/../files.py", "/page/%2e%2e/files.py", "/page/app", "/page//etc/passwd"]
)
def test_nothing_but_its_files_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_all_languages_have_the_same_keys_and_places() -> None:
    assert {name[5:7] for name in LANGUAGES} == {"en", "fr", "es", "pt", "sw"}
    english = LANGUAGES["lang/en.json"]
    for name, words in LANGUAGES.items():
        assert list(words) == list(english), name
        for key, text in words.items():
            assert text.strip(), (name, key)
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key])), (name, key)


def test_every_word_that_the_page_says_is_in_the_languages() -> None:
    said = {key for text in SCRIPTS.values() for key in re.findall(r"\bt\('([^']+)'", text)}
    assert len(said) > 100
    assert said - set(LANGUAGES["lang/en.json"]) == set()


def test_what_the_page_offers_is_what_the_station_takes() -> None:
    templates = re.search(r"TEMPLATES = \[(.*?)\]", SCRIPTS["study/report.js"])
    windows = re.search(r"WINDOWS = \{(.*?)\};", SCRIPTS["study/pictures.js"])
    assert templates is not None
    assert windows is not None
    assert set(re.findall(r"'([^']+)'", templates[1])) == set(TEMPLATES)
    found = {
        name: (float(centre), float(width))
        for name, centre, width in re.findall(r"(\w+): \[(-?\d+), (\d+)\]", windows[1])
    }
    assert found == CT_WINDOWS


def test_nothing_that_is_said_is_read_as_html() -> None:
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", text), name


def test_the_wheel_has_the_files() -> None:
    import tomllib

    root = Path(__file__).parents[4]
    wheel = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "runtime" in wheel["only-include"]  # whole, whatever the files' endings
    assert not {"exclude", "include"} & set(wheel)
