"""`medge help`, and completion in shells."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import command_line
import pytest
from command_line import medge, medge_process
from scripts import load_script

from medge.runtime.console.help.examples import read_examples, with_output
from medge.runtime.console.help.glossary import read_glossary

ROOT = Path(__file__).parents[3]
# What is cheap to run again, and prints the same of every int8 bundle of the stand-in but for numbers.
RUN_AGAIN = (
    "classify", "embed", "index build", "index add", "index search", "index remove", "help", "station user add",
    "station user list",
)  # fmt: skip


def test_terms_are_found_however_they_are_written() -> None:
    said = medge("help", "KL divergence").stdout
    assert said.startswith("KL divergence: How far one probability distribution is from another.")
    for term in ("kl-divergence", "Kl Divergences"):
        assert medge("help", term).stdout == said
    assert "did you mean KL divergence" in medge("help", "KL divergense", code=1).stderr
    assert "there is no term" in medge("help", "zzz", code=1).stderr
    told = json.loads(medge("help", "gate", "--json").stdout)
    assert [row["term"] for row in told["results"]] == ["gate"]
    listed = " ".join(medge("help").stdout.split())
    assert all(term in listed for term in (*read_glossary(), "exit-codes"))


def test_the_glossary_explains_what_commands_say() -> None:
    glossary = read_glossary()
    assert list(glossary) == sorted(glossary, key=str.casefold)
    wanted = {"KL divergence", "centred cosine", "recipe", "bundle", "gate", "flip", "perplexity", "importance matrix",
              "projector", "tower", "golden", "parity", "profile", "probe"}  # fmt: skip
    assert wanted <= set(glossary)
    assert all(text.endswith((".", "?")) and len(text) > 40 for text in glossary.values())


def test_exit_codes_are_those_of_the_commands() -> None:
    from medge.export.commands.options import FAILED_GATE
    from medge.runtime.commands.help import EXIT_CODES
    from medge.runtime.console.terminal import SOME_FAILED

    assert {0, 1, 2, SOME_FAILED, FAILED_GATE, 130, 143} == set(EXIT_CODES)
    said = medge("help", "exit-codes").stdout
    assert medge("help", "Exit code").stdout == said
    assert all(f"{code}: " in said for code in EXIT_CODES)
    assert "exit-codes" in medge("--help").stdout


def test_prose_is_broken_by_the_terminal_alone() -> None:
    text = """First.

    A sentence that the source
    breaks, and goes on.

    Example: medge help --json
    gate

        code
          keeps its lines
    """
    shown = with_output(text, "no command").split("\n\n")
    assert shown[1:] == [
        "A sentence that the source breaks, and goes on.",
        "Example: medge help --json gate",
        "    code\n      keeps its lines",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    def completed(line: str) -> str:
        given = {
            "_MEDGE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": line.split(" ")[-1],
            "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")),
        }  # fmt: skip
        return medge_process(environment=given, code=None).stdout

    assert "classify" in completed("medge cl")
    assert "--labels" in completed("medge classify --lab")
    assert "search" in completed("medge index se")
    assert "medsiglip" in completed("medge export med")


def test_examples_in_help_print_what_the_help_says(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("data_store", reason="pydicom-data is not installed")
    script = load_script(ROOT / "docs" / "make_examples.py")
    known, kept = dict(script.examples()), read_examples()
    assert set(kept) | set(script.NOT_RUN) == set(known), "run python docs/make_examples.py"
    assert all(sum(map(len, lines)) >= 3 and len(lines) <= script.MOST + 2 for lines in kept.values())
    monkeypatch.setitem(command_line.ENVIRONMENT, "COLUMNS", str(script.WIDTH))
    script.prepare(tmp_path)
    (tmp_path / "bundle").symlink_to(demo / "bundle")
    for command in RUN_AGAIN:
        script.before(command, tmp_path)
        done = medge(*shlex.split(known[command])[1:], cwd=tmp_path, said=script.TYPED.get(command, ""))
        printed = script.masked(script.shortened(done.stdout + done.stderr, tmp_path))
        assert printed == script.masked(kept[command]), f"{known[command]}: run python docs/make_examples.py"


def test_help_shows_the_example_with_its_output() -> None:
    for command in ("classify", "index search"):
        page = " ".join(medge(*command.split(), "--help").stdout.split())
        assert all(" ".join(line.split()) in page for line in read_examples()[command]), command
