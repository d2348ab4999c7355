"""Every name of `import medge`: documented, with an example that runs, and useful to look at."""

from __future__ import annotations

import doctest
import inspect
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medge
from medge.runtime.bundles.manifest import Manifest

# Their docstrings say all that there is; an example of a base class of errors would say nothing.
WITHOUT_EXAMPLE = {"MedgeError", "__version__"}
PUBLIC = sorted(name for name in medge.__all__ if name not in WITHOUT_EXAMPLE)


def ours(thing: Any) -> list[Any]:
    """A class with those of medge that it is made of; anything else alone."""
    return (
        [kind for kind in thing.__mro__ if kind.__module__.startswith("medge.")] if inspect.isclass(thing) else [thing]
    )


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in (entry for one in ours(kind) for entry in vars(one).items()):
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


@pytest.fixture(scope="module")
def place(bundle: Path, tiny_reader: Path, pydicom_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name: two bundles, of which the language model babbles, and a film."""
    from gemma_checkpoints import say_passed

    folder = tmp_path_factory.mktemp("examples")
    (folder / "bundle").symlink_to(bundle)
    say_passed(Path(shutil.copytree(tiny_reader, folder / "reader")))
    (folder / "film.dcm").write_bytes((pydicom_files / "CT_small.dcm").read_bytes())
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_its_examples_run(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    names = {"medge": medge, "np": np, "Path": Path, "json": json}
    finder = doctest.DocTestFinder()
    tests = [
        test for one in ours(getattr(medge, name)) for test in finder.find(one, name, module=False, extraglobs=names)
    ]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    for test in tests:
        test.globs = dict(names)
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert runner.summarize(verbose=False).attempted > 0


@pytest.mark.parametrize("name", PUBLIC)
def test_it_and_its_methods_are_documented(name: str) -> None:
    thing = getattr(medge, name)
    documented = [(name, thing), *(methods(thing) if inspect.isclass(thing) else ())]
    assert [what for what, one in documented if not (one.__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(medge, name))])
def test_every_method_has_an_example(name: str) -> None:
    kind = getattr(medge, name)
    named = {what for one in ours(kind) for what in vars(one) if not what.startswith("_")}
    functions = {what: getattr(getattr(kind, what), "__func__", getattr(kind, what)) for what in named}
    without = [
        what for what, one in functions.items() if inspect.isfunction(one) and ">>>" not in (inspect.getdoc(one) or "")
    ]
    assert without == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if not inspect.isclass(getattr(medge, name))])
def test_every_argument_is_described(name: str) -> None:
    function = getattr(medge, name)
    described = inspect.getdoc(function) or ""
    parameters = [p for p in inspect.signature(function).parameters if len(inspect.signature(function).parameters) > 1]
    assert [p for p in parameters if f"{p}:" not in described and f"{p}," not in described] == []


def test_dir_lists_what_is_public() -> None:
    assert dir(medge) == sorted(medge.__all__)
    assert all(hasattr(medge, name) for name in medge.__all__)


def test_what_is_shown_of_results() -> None:
    scores = medge.Classification(
        ("no pneumonia", "<b>pneumonia</b>"), np.float32([0.1, 0.3]), np.float32([0.2, 0.8]), np.float32([0.05, 0.6])
    )
    assert repr(scores) == "<Classification: <b>pneumonia</b> 0.800, no pneumonia 0.200>"
    shown = scores._repr_html_()
    assert "&lt;b&gt;pneumonia" in shown
    assert shown.index("0.800") < shown.index("0.200")
    answer = medge.Answer("No.\nNot at all.", "why", "limit", 10, 0, 4)._repr_html_()
    assert "<p>No.<br>Not at all.</p>" in answer
    assert "Cut off at the limit" in answer


def test_what_is_shown_of_bundles(bundle: Path, tiny_reader: Path) -> None:
    assert repr(medge.load_encoder(bundle)).startswith("<Encoder ")
    assert f"parity {Manifest.read(bundle).verdict}" in repr(medge.load(bundle))
    reader = medge.load_generator(tiny_reader, allow_failed_parity=True)
    assert "tokens an image" in repr(reader)
    agent = medge.Agent(reader, medge.encoder_tools(medge.load_encoder(bundle)))
    for shown, title in ((medge.load(bundle), "Encoder "), (reader, "Generator "), (agent, "Agent")):
        html = shown._repr_html_()
        assert html.startswith(f"<table><caption>{title}")
        assert html.count("<tr>") > 1
    assert "llama_cpp" in sys.modules or reader._engine is None  # it was not opened to be shown
