"""The page's files: served under their own addresses and no other, and its sentences in every language."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
from fastapi.testclient import TestClient
from station_fakes import catalogue, shelf

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.page import serve
from medge.runtime.station.store import audit

FOLDER = Path(serve.__file__).parent
MODULES = {path.name: path.read_text() for path in (FOLDER / "app").glob("*.js")}
# Sentences whose end is a word of the API's.
BY_WORD = ("state", "says", "parity", "job", "template", "view", "action")


def words(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((FOLDER / "words" / f"{language}.json").read_text())
    return found


@pytest.mark.parametrize("language", serve.LANGUAGES)
def test_every_language_says_the_same(language: str) -> None:
    english, found = words("en"), words(language)
    assert list(found) == list(english)
    for key, sentence in found.items():
        assert sorted(re.findall(r"\{\w+\}", sentence)) == sorted(re.findall(r"\{\w+\}", english[key])), key
        assert sentence.strip() == sentence != ""
    same = [key for key in found if found[key] == english[key]]
    assert language == "en" or len(same) < len(english) / 10, same  # "DICOM", "CT" and the like


@pytest.mark.parametrize("language", serve.LANGUAGES)
def test_every_action_of_the_audit_log_has_its_words(language: str) -> None:
    said = {key.removeprefix("action.") for key in words(language) if key.startswith("action.")}
    assert said == set(get_args(audit.Action))  # mypy lets a station note no other
    assert len({words(language)[f"action.{one}"] for one in said}) == len(said)


def test_every_sentence_is_said_and_every_key_is_there() -> None:
    source = "\n".join(MODULES.values())
    used = set(re.findall(r"""\bt\(\s*"([^"]+)\"""", source)) | set(re.findall(r"""["']([a-z]+\.[\w-]+)["']""", source))
    used &= {key for key in used if key.split(".")[0] in {one.split(".")[0] for one in words("en")}}
    used -= set(MODULES)
    assert used <= set(words("en"))
    silent = {key for key in set(words("en")) - used if key.split(".")[0] not in BY_WORD}
    assert silent == set()


def test_each_file_has_its_address_and_the_page_its_policy() -> None:
    service = Service(catalogue(), shelf())
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        for address, path in serve.files().items():
            answer = client.get(address)
            assert answer.content == path.read_bytes()
            assert answer.headers["content-security-policy"] == serve.POLICY
            assert answer.headers["content-type"].endswith("charset=utf-8")
        assert client.get("/").content == (FOLDER / "index.html").read_bytes()
        for wrong in (
            "/page/",
            "/page/serve.py",
            "/page/../serve.py",
            "/page/%2e%2e/serve.py",
            "/page/app/../serve.py",
        ):
            assert client.get(wrong).status_code == 404
        assert "script-src" not in client.get("/docs").headers["content-security-policy"]


def test_nothing_is_written_into_the_page_as_html() -> None:
    """Names of patients, files and models come from outside: they are text. The policy would refuse scripts in the HTML."""
    for name, source in MODULES.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", source), (
            name
        )
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", html)
    everything = html + (FOLDER / "style.css").read_text() + "".join(MODULES.values())
    assert not re.search(r"https?://|//cdn|@import|url\(", everything)
