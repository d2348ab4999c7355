"""The fleet's page: what runs where, what is slow, what computes wrongly, where drafts were overruled."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import command_line
import pytest
from fleets import device, fleet, older, sticks
from pages_in_browser import DESK, PHONE

from medge.runtime.errors import KitError
from medge.runtime.kit.collected.report import Check
from medge.runtime.kit.collected.sealed import private_key
from medge.runtime.kit.fleet.compare import compared
from medge.runtime.kit.fleet.read import Read, read_all

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install 'medge[pages]'")


def facts_of(*sent: Any) -> dict[str, Any]:
    files: dict[str, list[Any]] = {}
    for one in sent:
        files.setdefault(one.device.id, []).append(one)
    return compared(Read(files))


def test_what_stands_out() -> None:
    facts = facts_of(*fleet())
    by_label = {one["label"]: one for one in facts["devices"]}
    assert by_label["Old laptop ward 3"]["slow"] == ["medsiglip-448-int8", "medgemma-4b-q4_k_m"]
    assert [name for name, one in by_label.items() if one["slow"]] == ["Old laptop ward 3"]
    assert [(name, one["trouble"]) for name, one in by_label.items() if one["trouble"]] == [
        ("Clinic 7", ["medsiglip-448-int8 fails its golden results"])
    ]
    assert (facts["newest_kit"], by_label["Clinic 8"]["kit"], by_label["Clinic 3"]["since"]) == (5, 4, "2026-09-04")
    first = facts["overruled"][0]
    assert (first["region"], first["template"], first["devices"]) == ("pleura", "chest-xray", 8)
    sent = [one.agreement[0].findings[1] for one in fleet()]
    assert first["changed"] == round(sum(f.drafts * f.changed for f in sent) / sum(f.drafts for f in sent), 3)  # type: ignore[operator]  # none is None or "<5" here
    assert first["most"]["changed"] == max(f.changed for f in sent)  # type: ignore[type-var]  # likewise
    assert facts["faults"] == [
        {
            "kind": "classify",
            "error": "ImageError",
            "place": "medge.runtime.pictures.dicom:212",
            "devices": 2,
            "jobs": 20,
        }
    ]


def test_two_devices_are_too_few_to_call_one_slow() -> None:
    facts = facts_of(device(1), device(2, slow=9))
    assert [model["slowness"] for one in facts["devices"] for model in one["models"]] == [None] * 4


def test_only_the_very_same_bundle_is_compared() -> None:
    other = device(4, slow=9)
    models = [dataclasses.replace(model, digest="c" * 64) for model in other.models]
    facts = facts_of(device(1), device(2), device(3), dataclasses.replace(other, models=models))
    assert [model["slowness"] for model in facts["devices"][3]["models"]] == [None, None]
    assert all(model["slowness"] is not None for model in facts["devices"][0]["models"])


def test_a_bound_of_zero() -> None:
    one = device(1)
    checks = [Check("token ids that differ", 0.0, 0.0, True)]
    models = [dataclasses.replace(one.models[0], replay=checks)]
    assert facts_of(dataclasses.replace(one, models=models))["devices"][0]["models"][0]["nearness"] == 0
    wrong = [dataclasses.replace(models[0], replay=[Check("token ids that differ", 3.0, 0.0, False)])]
    assert facts_of(dataclasses.replace(one, models=wrong))["devices"][0]["models"][0]["nearness"] == 2


def test_the_newest_of_a_device_counts(tmp_path: Path) -> None:
    now = device(1)
    private = sticks(tmp_path / "sticks", [now, older(now), device(2)])
    read = read_all(tmp_path / "sticks", private_key(private))
    facts = compared(read)
    assert [(one["kit"], one["times"], one["medge"]) for one in facts["devices"]] == [(5, 2, "0.2.0"), (5, 1, "0.2.0")]


def test_no_sticks(tmp_path: Path) -> None:
    private = sticks(tmp_path / "sticks", [])
    with pytest.raises(KitError, match="holds no collected file"):
        read_all(tmp_path, private_key(private))


def test_the_command(tmp_path: Path) -> None:
    private = sticks(tmp_path / "sticks", fleet())
    (tmp_path / "sticks" / "torn.age").write_bytes(b"age-encryption.org/v1\n")
    done = command_line.medge(
        "kit", "fleet", tmp_path / "sticks", "--key", private, "--out", tmp_path / "f.html", code=3
    )
    assert "8 devices" in done.stdout
    assert "torn.age can't be opened with this key" in done.stderr
    text, facts = (tmp_path / "f.html").read_text(), json.loads((tmp_path / "f.json").read_text())
    assert "torn.age" in text
    assert len(facts["devices"]) == 8
    assert "http" not in text.replace("http-equiv", "")
    again = command_line.medge(
        "kit", "fleet", tmp_path / "sticks", "--key", private, "--out", tmp_path / "f.html", code=1
    )
    assert "--force" in again.stderr


class Heard:
    """What a page has complained of."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, what: Any) -> None:
        self.heard.append(what)


def page_of(facts: dict[str, Any], folder: Path) -> Path:
    from medge.runtime.kit.fleet.page import render

    path = folder / "fleet.html"
    path.write_text(render(facts), encoding="utf-8")
    return path


def test_what_a_device_says_is_shown_as_text(tmp_path: Path) -> None:
    one = device(1)
    models = [dataclasses.replace(one.models[0], name="<script>alert(1)</script>", fault="<img src=x>")]
    text = page_of(facts_of(dataclasses.replace(one, models=models)), tmp_path).read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    "devices", [fleet(), [device(1)], [dataclasses.replace(device(1), models=[], held=None, work=[], agreement=[])]]
)
def test_in_a_browser(browser: Any, tmp_path: Path, devices: list[Any]) -> None:
    """On a phone and a desk nothing is wider than the screen; dark where the reader wants it; light on paper."""
    path = page_of(facts_of(*devices), tmp_path)
    for size in (PHONE, DESK):
        for scheme in ("light", "dark"):
            page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
            errors = Heard()
            page.on("pageerror", errors.hear)
            page.on("requestfailed", errors.hear)
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            lead = page.locator(".verdict > p").bounding_box()
            assert lead["y"] + lead["height"] < size["height"]
            for cell in page.locator("td.pass, td.warn, td.fail").all():
                box = cell.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= size["width"]
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            assert dark == (scheme == "dark")
            page.emulate_media(media="print", color_scheme=scheme)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert errors.heard == []
            page.context.close()
