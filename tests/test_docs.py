"""Docs that are generated are up to date, and the README's numbers are those that the scripts recorded."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_command_reference_is_generated(export_extra: None) -> None:
    spec = importlib.util.spec_from_file_location("make_commands", ROOT / "docs" / "make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "commands.md").read_text() == module.render(), "run python docs/make_commands.py"


def test_readme_tables_are_what_the_scripts_recorded() -> None:
    readme = (ROOT / "README.md").read_text()
    results = ROOT / "benchmarks" / "results"
    for row in json.loads((results / "standin_parity.json").read_text()):
        expected = (row["recipe"], row["images"], f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}")
        assert re.search(r"\| *" + r" *\| *".join(map(re.escape, expected)) + r" *\|", readme), expected
    full = json.loads((results / "full_size.json").read_text())
    for recipe, size in full["sizes"].items():
        assert re.search(rf"\| {recipe} \|[^\n]*\b{size['ratio']:.3f}\b", readme), recipe


def test_every_link_in_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md", ".pre-commit-config.yaml"])
def test_the_house_is_complete(name: str) -> None:
    assert (ROOT / name).stat().st_size > 200
