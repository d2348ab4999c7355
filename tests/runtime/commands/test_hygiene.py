"""Promises about processes: no torch, no network, quick help, lazily imported commands."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import medge, medge_process

from medge.command_line import COMMANDS

HEAVY = ("torch", "transformers", "onnx", "coremltools", "sklearn", "matplotlib", "tensorflow")


def python(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_running_a_bundle_loads_no_heavy_package(bundle: Path, few_images: Path) -> None:
    code = (
        "import sys, json, medge\n"
        "encoder = medge.load(sys.argv[1])\n"
        "encoder.classify(sys.argv[2]); encoder.embed_texts('chest x-ray')\n"
        "import medge.runtime.encoder.vector_index, medge.runtime.encoder.linear_probe\n"
        "import medge.runtime.bundles.parity_report, medge.runtime.golden.encoder\n"
        "import medge.runtime.bench.in_turns\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(python(code, str(bundle), str(few_images / "CT_small.dcm"))))
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_running_a_language_model_loads_no_heavy_package_and_opens_no_network(reader: Path, few_images: Path) -> None:
    code = (
        "import json, socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse; socket.create_connection = refuse\n"
        "import medge; generator = medge.load_generator(sys.argv[1], context=512)\n"
        "generator.ask(sys.argv[2], 'What kind of image is this?', medge.Sampling(limit=4))\n"
        "import medge.runtime.assistants.agent, medge.runtime.assistants.health_record\n"
        "import medge.runtime.assistants.ct_question, medge.runtime.golden.generator\n"
        "import medge.runtime.bench.generator\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(python(code, str(reader), str(few_images / "CT_small.dcm"))))
    assert "llama_cpp" in loaded
    assert loaded.isdisjoint({*HEAVY, "gguf", "sentencepiece", "onnxruntime"})


def test_running_a_bundle_opens_no_network(bundle: Path, few_images: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse; socket.create_connection = refuse\n"
        "import medge; print(medge.load(sys.argv[1]).classify(sys.argv[2])[0].best)"
    )
    assert python(code, str(bundle), str(few_images / "CT_small.dcm")).strip()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['medge', *{words}]\n"
        "from medge.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', ' '.join(sorted(sys.modules)))"
    )
    for words in (["--help"], ["classify", "--help"]):
        loaded = set(python(code.replace("{words}", repr(words))).split("LOADED")[1].split())
        assert loaded.isdisjoint({*HEAVY, "numpy", "onnxruntime", "PIL", "pydicom", "tokenizers", "usearch"}), words


def pages(name: str) -> list[list[str]]:
    """The words of a command, or of each of its sub-commands."""
    app = importlib.import_module(f"medge.{COMMANDS[name].module}").__dict__[COMMANDS[name].attribute]
    return parts([name], app) if isinstance(app, typer.Typer) else [[name]]


def parts(words: list[str], app: typer.Typer) -> list[list[str]]:
    own = [[*words, str(command.name or command.callback.__name__)] for command in app.registered_commands]
    return [
        *own,
        *(page for one in app.registered_groups for page in parts([*words, str(one.name)], one.typer_instance)),
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_an_example(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")
    for words in pages(name):
        page = re.sub(r"\s+", " ", medge(*words, "--help").stdout)
        assert f"Example: medge {' '.join(words)}" in page


def test_commands_with_sub_commands() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")
    found = {name: {" ".join(words[1:]) for words in pages(name)} for name in COMMANDS if len(pages(name)[0]) > 1}
    assert found == {
        "distill": {"medsiglip", "medgemma", "finish", "answers"}, "export": {"medsiglip", "medgemma"},
        "index": {"build", "add", "search", "remove", "info"},
        "keys": {"new", "show", "sign", "trust", "rotate", "revoke"},
        "kit": {
            "build", "install", "apply", "rollback", "status", "update", "collect", "open", "key", "fleet", "selftest", "migrate",
        },
        "probe": {"fit", "predict", "evaluate"},
        "station": {
            "user add", "user list", "user remove", "user password", "token add", "token list", "token remove",
            "backup", "restore", "audit", "connect", "find", "fetch",
        },
    }  # fmt: skip


def test_overview_tells_the_story() -> None:
    page = medge("--help").stdout
    assert all(name in page for name in COMMANDS)
    assert "medge[export]" in page


def test_a_command_in_the_tests_process_is_what_a_process_of_its_own_is(bundle: Path, few_images: Path) -> None:
    """Tests run commands in their own process: what they see there is what a user sees."""
    image = few_images / "CT_small.dcm"
    for words, code in (
        (["--version"], 0),
        (["classify", bundle, image, "--label", "chest x-ray", "--label", "word " * 90], 0),
        (["classify", bundle, image, "no/such.png", "--json"], 3),
        (["classify", "no-such-bundle", image], 1),
        (["classify", bundle, image, "--no-such-option"], 2),
    ):
        inside, outside = medge(*words, code=code), medge_process(*words, code=code)
        assert (inside.stdout, inside.stderr) == (outside.stdout, outside.stderr), words


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['medge', 'standin', 'medsiglip-mini', 'x']\n"
        "import builtins; real = builtins.__import__\n"
        "def no_torch(name, *a, **k):\n"
        "    if name.split('.')[0] in ('torch', 'onnx', 'jinja2'): raise ModuleNotFoundError(name=name.split('.')[0])\n"
        "    return real(name, *a, **k)\n"
        "builtins.__import__ = no_torch; sys.argv = ['medge', 'demo']\n"
        "from medge.__main__ import main; main()"
    )
    # In an empty folder: where `make demo` has run, the demo's place is taken, and that is said first.
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'medge[export]'" in done.stderr
    assert "Traceback" not in done.stderr
