"""Docs that are generated are up to date, and numbers in pages are those that the scripts recorded."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from medge.command_line import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [
    Path("README.md"),
    Path("CONTRIBUTING.md"),
    *(page.relative_to(ROOT) for page in sorted((ROOT / "docs").rglob("*.md"))),
]


def script(name: str) -> ModuleType:
    with mock.patch.object(sys, "path", [str(ROOT / "docs"), *sys.path]):  # scripts share functions
        return importlib.import_module(name)


def test_command_reference_is_generated(export_extra: None) -> None:
    module = script("make_commands")
    rendered = module.render()
    for name in (*COMMANDS, "station fetch"):  # the last was forgotten while commands were listed by hand
        assert f"\n## medge {name}" in rendered
    assert not re.search(r"<(bool|str|int|float|list)\b", rendered), (
        "types of Python; console/help/words.py has the words"
    )
    assert (ROOT / "docs" / "reference" / "commands.md").read_text() == rendered, "run python docs/make_commands.py"


def test_tables_are_what_the_scripts_recorded() -> None:
    pages = script("make_tables").render()
    assert len(pages) > 10
    old = [str(path) for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert not old, "run python docs/make_tables.py"


def test_the_stand_ins_cards_are_what_was_measured(export_extra: None) -> None:
    card = script("make_card")
    cards = card.render()
    assert len(cards) == 2
    old = [str(path) for path, text in cards.items() if path.read_text(encoding="utf-8") != text]
    assert not old, "run python docs/make_card.py"
    found = json.loads(card.FIGURES.read_text(encoding="utf-8"))
    missed = [name for name, value in found["figures"].items() if value < found["demanded"][name]]
    assert cards[card.CARD].count("**missed**") == len(missed)


def test_reference_is_what_the_code_says(export_extra: None) -> None:
    pages = script("make_reference").render()
    assert len(pages) == 6
    old = [str(path) for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert not old, "run python docs/make_reference.py"


def test_the_stations_interface_is_what_it_says_of_itself() -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
    rendered = script("make_api").render()
    assert (ROOT / "docs" / "reference" / "api.md").read_text() == rendered, "run python docs/make_api.py"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Also where the site is not built; `make docs` checks anchors and the navigation as well."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    lost = [to for to in targets if not to.startswith("http") and not (ROOT / page).parent.joinpath(to).exists()]
    assert not lost


def test_readme_is_short_and_every_page_is_in_the_navigation() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to("docs").as_posix() for page in PAGES if page.parts[0] == "docs"]
    assert len(pages) > 30
    assert not [page for page in pages if page not in navigation]


def test_python_page_names_what_the_package_offers() -> None:
    import medge

    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    names = [name for name in medge.__all__ if not name.startswith("__")]
    assert len(names) > 15
    assert not [name for name in names if f"heading: medge.{name}," not in page]


def test_recipes_page_names_every_recipe() -> None:
    from medge.quant.recipes.coreml import COREML_RECIPES
    from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES
    from medge.quant.recipes.onnx import ONNX_RECIPES

    page = (ROOT / "docs" / "reference" / "recipes.md").read_text()
    names = [*ONNX_RECIPES, *COREML_RECIPES, *GGUF_RECIPES, *PROJECTOR_RECIPES]
    assert not [name for name in names if f"`{name}`" not in page]


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md", ".pre-commit-config.yaml"])
def test_the_house_is_complete(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200


def test_the_guide_names_the_libraries_of_the_page_at_their_versions() -> None:
    from medge.export.pages.web_page import PACKAGES

    guide = (ROOT / "docs" / "guides" / "browser.md").read_text()
    assert all(f"{name}@{version}" in guide for name, version in PACKAGES.items())


def test_the_page_on_json_names_the_version_that_is_printed() -> None:
    from medge.runtime.console.terminal import SCHEMA_VERSION

    assert f"| `schema_version` | {SCHEMA_VERSION}. " in (ROOT / "docs" / "reference" / "json.md").read_text()
