"""The Android app's resources and catalog: translated, used, readable by screen readers; without building anything."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

DEMO = Path(__file__).parents[2] / "android_demo"
RESOURCES = DEMO / "app/src/main/res"
ANDROID_NAMESPACE = "{http://schemas.android.com/apk/res/android}"
LANGUAGES = ("es", "fr", "pt", "sw")  # beside English: the station's


def strings(folder: str) -> dict[str, str]:
    root = ElementTree.parse(RESOURCES / folder / "strings.xml").getroot()
    return {e.get("name", ""): e.text or "" for e in root if e.get("translatable") != "false"}


ALIKE = {("values-fr", "says_absent")}  # a word of both languages


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\d\$s", text))


def sources() -> str:
    """Kotlin, layouts and manifest: where resources are used."""
    paths = [*(DEMO / "app/src/main/kotlin").rglob("*.kt"), *RESOURCES.glob("layout*/*.xml")]
    paths += [DEMO / "app/src/main/AndroidManifest.xml", *RESOURCES.glob("mipmap*/*.xml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_every_string_is_translated_with_its_placeholders() -> None:
    english = strings("values")
    translations = [folder.name for folder in RESOURCES.glob("values-*") if (folder / "strings.xml").is_file()]
    assert sorted(translations) == [f"values-{language}" for language in LANGUAGES]
    for folder in translations:
        other = strings(folder)
        assert other.keys() == english.keys()
        for name, text in english.items():
            assert placeholders(other[name]) == placeholders(text), name
            assert other[name].strip(), name
            assert other[name] != text or (folder, name) in ALIKE, f"{name} is not translated"


def test_every_string_is_used_and_every_one_that_is_used_is_there() -> None:
    used = set(re.findall(r"(?:R\.string\.|@string/)(\w+)", sources()))
    assert used == {*strings("values"), "app_name"}


def test_every_problem_of_the_core_is_said_in_its_own_words() -> None:
    source = (DEMO / "core/src/main/kotlin/org/medge/core/Problem.kt").read_text()
    problems = dict(re.findall(r'^    ([A-Z_0-9]+)\("((?:[^"\\]|\\.)*)"\),$', source, re.MULTILINE))
    assert len(problems) > 30
    english = {
        name: text.replace("\\'", "'") for name, text in strings("values").items() if name.startswith("problem_")
    }
    assert english == {f"problem_{name.lower()}": text.replace("\\$", "$") for name, text in problems.items()}


def layouts() -> list[tuple[str, ElementTree.Element]]:
    return [
        (f"{path.name}: {element.tag}", element)
        for path in sorted(RESOURCES.glob("layout*/*.xml"))
        for element in ElementTree.parse(path).getroot().iter()
    ]


def test_nothing_that_a_person_reads_is_written_into_layouts_or_code() -> None:
    for name, element in layouts():
        for attribute in ("text", "hint", "contentDescription", "title", "label"):
            value = element.get(ANDROID_NAMESPACE + attribute)
            assert value is None or value.startswith("@string/"), f"{name}: {value}"
    for path in (DEMO / "app/src/main/kotlin").rglob("*.kt"):
        shown = re.findall(r'(?:\.text = |setTitle\(|setText\(|makeText\([^,]*, )"[^"]*[A-Za-z]', path.read_text())
        assert not shown, f"{path.name}: {shown}"


def test_screen_readers_large_text_and_fingers_are_served() -> None:
    said = {
        "ImageView": "contentDescription",
        "ImageButton": "contentDescription",
        "Spinner": "contentDescription",
        "ProgressBar": "contentDescription",
        "EditText": "hint",
    }
    for name, element in layouts():
        if element.tag in said and element.get(ANDROID_NAMESPACE + "importantForAccessibility") != "no":
            assert element.get(ANDROID_NAMESPACE + said[element.tag]), f"{name} says nothing to a screen reader"
        if element.tag == "Button":
            assert element.get(ANDROID_NAMESPACE + "minHeight") == "48dp", name
            assert element.get(ANDROID_NAMESPACE + "layout_height") == "wrap_content", f"{name} would cut large text"
        for attribute, value in element.attrib.items():
            assert not (attribute.endswith("textSize") and not value.endswith("sp")), name
    for screen in ("layout/main", "layout-w600dp/main", "layout/ask", "layout/bundles"):
        included = [e.get("layout") for e in ElementTree.parse(RESOURCES / f"{screen}.xml").getroot().iter("include")]
        assert "@layout/notice" in included, f"{screen} lacks the line that this is no medical device"


def test_colours_of_the_day_have_a_night_and_icons_exist() -> None:
    def colours(folder: str) -> set[str | None]:
        return {
            e.get("name") for e in ElementTree.parse(RESOURCES / folder / "styles.xml").getroot() if e.tag == "color"
        }

    assert colours("values") == colours("values-night")
    shapes = "\n".join(path.read_text() for path in RESOURCES.glob("values*/styles.xml"))
    for name in re.findall(r"@(drawable|mipmap)/(\w+)", sources() + shapes):
        assert list(RESOURCES.glob(f"{name[0]}*/{name[1]}.xml")), name


def test_every_version_of_the_catalog_is_used_and_none_is_written_elsewhere() -> None:
    catalog = tomllib.loads((DEMO / "gradle/libs.versions.toml").read_text())
    gradle = "\n".join(path.read_text() for path in DEMO.rglob("*.gradle.kts"))
    building = (DEMO / "ci/build.py").read_text() + (DEMO / "ci/prepare").read_text()
    referenced = {e["version"]["ref"] for part in ("libraries", "plugins") for e in catalog[part].values()}
    for name in catalog["versions"]:
        used = name in referenced or f"libs.versions.{name}." in gradle or re.search(rf'["( ]{name}["\])]', building)
        assert used, f"{name} is used nowhere"
    for name in catalog["libraries"]:
        assert f"libs.{name.replace('-', '.')})" in gradle, name
    for name in catalog["plugins"]:
        assert f"libs.plugins.{name.replace('-', '.')})" in gradle, name
    assert not re.search(r'"\d+\.\d+(\.\d+)?"', gradle)
