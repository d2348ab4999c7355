"""`medge doctor` says what an installation lacks, and the line that mends it: each extra, a library that does not open."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import medge

from medge.runtime.commands.doctor import told_shortly
from medge.runtime.console import parts
from medge.runtime.device import llama_library
from medge.runtime.errors import GeneratorError

WANTED = [
    "numpy>=1.26", "pyjpegls>=1.4; python_version < '3.0'", "jinja2>=3; extra == 'llm'",
    "llama-cpp-python==0.3.36; extra == 'llm'", "fastapi>=0.115; extra == 'station'",
]  # fmt: skip


def here(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], *, compiler: bool = True) -> None:
    """Let these packages be the ones that are installed."""

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    extras = SimpleNamespace(get_all=lambda _: ["llm", "station"])
    monkeypatch.setattr(parts.metadata, "version", version)
    monkeypatch.setattr(parts.metadata, "distribution", lambda _: SimpleNamespace(requires=WANTED, metadata=extras))
    programs = {"pip", *(["g++"] if compiler else [])}
    monkeypatch.setattr(parts.shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(parts, "_opened", lambda: ([], "with kernels for haswell"))


COMPLETE = {"numpy": "2.0", "jinja2": "3.1", "llama-cpp-python": "0.3.36+cpus.1", "fastapi": "0.116"}


def told(name: str) -> parts.Part:
    return next(part for part in parts.parts() if part.extra == name)


def test_nothing_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, COMPLETE)
    assert [part.extra for part in parts.parts()] == ["", "llm", "station"]
    assert not any(part.lacks or part.mend for part in parts.parts())
    assert told("llm").remark == "with kernels for haswell"


@pytest.mark.parametrize(
    ("gone", "extra", "mend"),
    [
        ("numpy", "", "pip install --upgrade medge"),
        ("jinja2", "llm", "pip install 'medge[llm]'"),
        ("llama-cpp-python", "llm", "pip install 'medge[llm]'"),
        ("fastapi", "station", "pip install 'medge[station]'"),
    ],
)
def test_each_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, gone: str, extra: str, mend: str
) -> None:
    here(monkeypatch, {name: version for name, version in COMPLETE.items() if name != gone})
    assert told(extra).lacks == [f"{gone} is not installed"]
    assert told(extra).mend == mend
    assert sum(bool(part.lacks) for part in parts.parts()) == 1


def test_a_version_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, COMPLETE | {"llama-cpp-python": "0.3.20"})
    assert told("llm").lacks == ["llama-cpp-python is 0.3.20, and ==0.3.36 is needed"]


def test_without_a_compiler_the_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, {name: v for name, v in COMPLETE.items() if name != parts.ENGINE}, compiler=False)
    assert told("llm").mend == (
        "pip install 'medge[llm]' --find-links PAGE, the page of wheels of medge's release: there is no C++ compiler here"
    )


def test_without_pip_on_the_path_the_interpreter_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert parts.mend("station") == f"{sys.executable} -m pip install 'medge[station]'"


def test_in_a_kit_its_makers_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = tmp_path / "versions" / "7"
    version.mkdir(parents=True)
    (version / "kit.json").write_text("{}")
    monkeypatch.setattr(parts.sys, "prefix", str(version / "python"))
    here(monkeypatch, {name: v for name, v in COMPLETE.items() if name != parts.ENGINE}, compiler=False)
    mend = "this is version 7 of a kit: ask its makers for one that holds this, and run: medge kit apply STICK"
    assert told("llm").mend == mend
    monkeypatch.setattr(parts, "_opened", lambda: (["the library libgomp.so.1 is missing"], None))
    here_with_engine = {**COMPLETE}
    monkeypatch.setattr(parts.metadata, "version", lambda name: here_with_engine[name])
    assert told("llm").mend == mend


@pytest.mark.parametrize(
    ("said", "lack"),
    [
        (
            "llama.cpp's library can't be opened: Failed to load shared library '/a/libllama.so': libgomp.so.1: cannot open "
            "shared object file: No such file or directory; medge doctor says more",
            "the library libgomp.so.1 is missing",
        ),
        (
            "this llama-cpp-python has no kernels for this CPU; medge doctor says more",
            "this llama-cpp-python has no kernels for this CPU",
        ),
    ],
)
def test_a_library_that_does_not_open_is_named(monkeypatch: pytest.MonkeyPatch, said: str, lack: str) -> None:
    opened = parts._opened
    here(monkeypatch, COMPLETE)
    monkeypatch.setattr(parts, "_opened", opened)

    def refuse() -> None:
        raise GeneratorError(said)

    monkeypatch.setattr(llama_library, "library", refuse)
    assert told("llm").lacks == [lack]
    assert "--force-reinstall --no-deps --find-links PAGE" in (told("llm").mend or "")


def test_a_broken_engine_is_a_sentence_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What llama-cpp-python raises where a library of its is missing reaches nobody as it is."""
    import builtins

    real = builtins.__import__

    def broken(name: str, *rest: object, **more: object) -> object:
        if name.startswith("llama_cpp"):
            raise RuntimeError(
                "Failed to load shared library '/a/libllama.so': libgomp.so.1: cannot open shared object"
            )
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(GeneratorError, match=r"can't be opened: .*libgomp\.so\.1"):
        llama_library.library()
    assert llama_library.gpu_memory() == 0


def test_packages_that_are_missing_are_named_together() -> None:
    assert told_shortly(["a is not installed"]) == "a is not installed"
    lacks = ["a is not installed", "b is 1, and >=2 is needed", "c is not installed"]
    assert told_shortly(lacks) == "not installed: a, c; b is 1, and >=2 is needed"


def test_doctor_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, {name: v for name, v in COMPLETE.items() if name != "fastapi"})
    shown = medge("doctor").stdout
    assert "fastapi is not installed" in shown
    assert "the station: pip install 'medge[station]'" in shown
    facts = {part["extra"]: part for part in json.loads(medge("doctor", "--json").stdout)["parts"]}
    assert facts["station"]["mend"] == "pip install 'medge[station]'"
    assert facts["llm"]["lacks"] == []
