"""Help needs no extra, and what can be refused is refused before torch is imported: in fresh processes that have neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ENVIRONMENT

from medge.command_line import COMMANDS

# Not in the bare install, or seconds of import.
ABSENT = (
    "torch", "transformers", "onnx", "onnxscript", "coremltools", "llama_cpp", "gguf", "sentencepiece", "jinja2",
    "matplotlib", "sklearn", "accelerate", "peft", "litert_torch", "ai_edge_litert",
)  # fmt: skip
PRELUDE = f"""
import sys, importlib.abc
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from medge.__main__ import main
"""


def bare(*words: object) -> subprocess.CompletedProcess[str]:
    code = f"{PRELUDE}sys.argv = ['medge', *sys.argv[1:]]\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip


def test_every_command_has_its_help_on_the_bare_install() -> None:
    code = (
        f"{PRELUDE}import contextlib, io\n"
        "import typer\n"
        "from medge.command_line import COMMANDS, build_app\n"
        "def leaves(command, words):\n"
        "    for name, sub in getattr(command, 'commands', {}).items():\n"
        "        yield from leaves(sub, [*words, name])\n"
        "    if not getattr(command, 'commands', {}):\n"
        "        yield words\n"
        "for name, entry in COMMANDS.items():\n"
        "    app = typer.main.get_command(build_app(name)).commands[name]\n"
        "    for words in leaves(app, [name]):\n"
        "        page = io.StringIO()\n"
        "        with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):\n"
        "            build_app(name)([*words, '--help'], prog_name='medge')\n"
        "        assert 'Example: medge' in page.getvalue(), words\n"
        "        print(*words)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(COMMANDS)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders whose names the cases below stand for."""
    import json

    import numpy as np
    from PIL import Image
    from safetensors.numpy import save_file

    base = tmp_path_factory.mktemp("places")
    made = {name: base / name for name in ("siglip", "gemma", "empty", "there", "gone")}
    for name, kind in (("siglip", "siglip"), ("gemma", "gemma3")):
        made[name].mkdir()
        config = {"model_type": kind, "vision_config": {}, "text_config": {}}
        (made[name] / "config.json").write_text(json.dumps(config))
        save_file({"x": np.zeros(1, np.float32)}, made[name] / "model.safetensors")
    made["empty"].mkdir()
    made["there"].mkdir()
    (base / "bad.jsonl").write_text('{"no": "text"}\n')
    for label in ("hip", "knee"):
        (base / "films" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(base / "films" / label / "a.png")
    (base / "labels.txt").write_text("hip\nhand\n")
    others = {name: base / name for name in ("bad.jsonl", "out", "films", "labels.txt")}
    return {**made, **{path.stem: path for path in others.values()}}


SIGLIP = ("export", "medsiglip", "--checkpoint", "@siglip", "--out", "@out")
LABELLED = ("--images", "@films", "--labelled", "--labels", "@labels")
GEMMA = ("export", "medgemma", "--checkpoint", "@gemma", "--out", "@out")
SMALLER = ("distill", "medsiglip", "--teacher", "@siglip", "--out", "@out", "--images")
EVALUATE = ("evaluate", "--task", "folder", "--data", "@empty", "--out", "@out")
SHALLOWER = ("distill", "medgemma", "--teacher", "@gemma", "--out", "@out", "--data")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((*SIGLIP, "--recipe", "int7"), "there is no recipe 'int7'"),
        ((*SIGLIP, "--recipe", "int8", "--recipe", "int7"), "there is no recipe 'int7'"),
        ((*SIGLIP, "--format", "tflite"), "there is no format 'tflite'"),
        ((*SIGLIP, "--target", "z80"), "there is no target 'z80'"),
        ((*SIGLIP, "--labels", "@gone"), "can't be read as text"),
        ((*SIGLIP, "--calibration", "@gone"), "No such file"),
        ((*SIGLIP, "--images", "@empty"), "no image (PNG, JPEG, TIFF, DICOM) in there"),
        ((*SIGLIP, "--images", "@empty", "--checkpoint", "@gone"), "is not a folder"),
        ((*SIGLIP, "--checkpoint", "@gemma"), "a language model: use 'medge export medgemma'"),
        ((*SIGLIP, *LABELLED), "films: no label for the folder(s) knee; the labels are hip, hand"),
        ((*SIGLIP, *LABELLED, "--recipe", "int8", "--recipe", "fast"), "no label for the folder(s) knee"),
        ((*SIGLIP, "--out", "@there"), "exists; choose another place"),
        ((*GEMMA, "--recipe", "q7"), "there is no recipe 'q7'"),
        (
            (*GEMMA, "--vocabulary", "latin,fr"),
            "there is no script 'fr' for --vocabulary, which takes scripts, not languages",
        ),
        ((*GEMMA, "--checkpoint", "@siglip"), "expected 'gemma3'"),
        ((*GEMMA, "--importance", "@gone"), "No such file"),
        ((*GEMMA, "--calibration", "@gone"), "No such file"),
        ((*GEMMA, "--texts", "@bad"), "line 1: 'text' is missing"),
        ((*GEMMA, "--task", "@bad"), "line 1: 'options' is missing"),
        (("parity", "@gone", "--reference", "@siglip"), "is not a folder"),
        ((*SMALLER, "@gone"), "No such file"),
        ((*SMALLER, "@gone", "--student", "huge"), "'huge' names no student"),
        ((*SMALLER, "@gone", "--profile", "odd"), "odd"),
        ((*SHALLOWER, "@gone", "--student", "layers=2"), "No such file"),
        ((*SHALLOWER, "@bad", "--student", "half"), "is no checkpoint folder"),
        (("distill", "finish", "@gone", "--teacher", "@gemma", "--out", "@out", "--data", "@bad"), "is not a folder"),
        (("distill", "finish", "@gone", "--teacher", "@gemma", "--out", "@there", "--data", "@bad"), "exists; choose"),
        (("distill", "answers", "@gone", "--out", "@bad"), "no question in there"),
        (("calibrate", "--checkpoint", "@gone", "--out", "@out"), "is not a folder"),
        (("calibrate", "--checkpoint", "@gemma", "--out", "@out", "@gone"), "No such file"),
        (("calibrate", "--checkpoint", "@gemma", "--out", "@out", "@bad"), "line 1: 'text' is missing"),
        (("demo", "--out", "@there"), "exists; choose another place"),
        (("bench", "@gone"), "is not a folder"),
        ((*EVALUATE, "@siglip"), "this needs the package 'torch': pip install 'medge[export]'"),
        ((*EVALUATE, "@gemma"), "is a language model, and the task 'folder' has no prompt for one"),
        ((*EVALUATE, "@gemma", "--task", "medqa"), "this needs the package 'torch': pip install 'medge[export]'"),
        ((*EVALUATE, "@gone"), "is not a folder"),
    ],
)
def test_what_is_wrong_is_said_before_torch(places: dict[str, Path], words: tuple[str, ...], reason: str) -> None:
    given = [places[word[1:]] if word.startswith("@") else word for word in words]
    done = bare(*given)
    assert done.returncode == 1, done.stderr
    assert reason in done.stderr
    assert "\n" not in done.stderr.strip()
    assert not places["out"].exists()


def test_a_bundle_is_evaluated_on_the_bare_install(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    for name in ("CT_small", "MR_small"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.dcm").write_bytes((few_images / f"{name}.dcm").read_bytes())
    done = bare(
        "evaluate", bundle, "--task", "folder", "--data", tmp_path / "data", "--items", "csv", "--out", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "items.csv").read_text().splitlines()) == 3


def test_parity_and_bench_of_a_bundle(bundle: Path, checkpoint: Path, places: dict[str, Path], tmp_path: Path) -> None:
    labelled = [places[word[1:]] if word.startswith("@") else word for word in LABELLED]
    asked = ("parity", bundle, "--reference", checkpoint, *labelled)
    baked = asked[:-2]  # by the labels of the bundle
    for words, reason in (
        (asked, "no label for the folder(s) knee; the labels are hip, hand"),
        (baked, "no label for the folder(s) hip, knee; the labels are "),
        (("parity", bundle, "--reference", places["gone"]), "is not a folder"),
        (("parity", bundle, "--reference", places["siglip"]), "is not what"),
        (("bench", bundle, "--against", "pytorch", "--reference", places["gone"]), "is no checkpoint folder"),
    ):
        done = bare(*words)
        assert done.returncode == 1
        assert reason in done.stderr
        assert "medge[export]" not in done.stderr
