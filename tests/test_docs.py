"""Docs that are generated are up to date, and numbers in pages are those that the scripts recorded."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_command_reference_is_generated(export_extra: None) -> None:
    rendered = script("make_commands").render()
    assert (ROOT / "docs" / "commands.md").read_text() == rendered, "run python docs/make_commands.py"


def test_tables_are_what_the_scripts_recorded() -> None:
    pages = script("make_tables").render()
    assert len(pages) > 10
    old = [str(path) for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert not old, "run python docs/make_tables.py"


def test_every_link_in_the_readme_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert targets
    for target in targets:
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md", ".pre-commit-config.yaml"])
def test_the_house_is_complete(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200


def test_readme_names_the_libraries_of_the_page_at_their_versions() -> None:
    from medge.export.pages.web_page import PACKAGES

    readme = (ROOT / "README.md").read_text()
    assert all(f"{name}@{version}" in readme for name, version in PACKAGES.items())
