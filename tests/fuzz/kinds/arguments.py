"""The command line: commands with options and values at random, among sound and odd files of an own folder."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from ..base import ENCODER, READER
from ..bundles import lay_out, phantom
from ..mutate import NUMBERS, TEXTS
from ..verdict import Kind, WrongError
from . import manifest

COMMANDS = (
    "classify",
    "embed",
    "index",
    "probe",
    "ask",
    "report",
    "record",
    "inspect",
    "verify",
    "golden",
    "doctor",
    "help",
    "",
)
# Nothing here leads out of the case's folder: some of these are written to.
_PLACES = ("bundle", "reader", "film.png", "film.dcm", "labels.txt", "labels.json", "films", "empty", "nothing.png",
    "record.json", "out.json", "out.csv",
           "out", "films.index", "a b", "é.png", "-", "", ".", "x" * 300, "deep/er/out.json", "pipe",
           "bundle/manifest.json", "a.probe", "link.png", "dangling.png")  # fmt: skip
_WORDS = tuple(
    text
    for text in TEXTS
    if "/" not in text and "\x00" not in text and not text.startswith("~") and "\ud800" not in text
)
_MARK = re.compile(r"where it happened is in (\S+?), ")


@functools.cache
def _options(command: str) -> list[tuple[list[str], list[tuple[str, str, bool]]]]:
    """Of a command, or of each of its own commands: (words, [(option, what it takes, whether it is a flag)])."""
    import typer

    from medge.command_line import build_app

    whole: Any = typer.main.get_command(build_app(command or None))
    chosen = whole.commands[command]
    found = (
        [([command, name], sub) for name, sub in chosen.commands.items()]
        if hasattr(chosen, "commands")
        else [([command], chosen)]
    )
    return [
        (
            words,
            [
                (param.opts[0], str(param.type_descriptor.annotation), getattr(param, "is_flag", False))
                for param in sub.params
            ],
        )
        for words, sub in found
    ]


def make(rng: random.Random, base: Path) -> bytes:
    command = rng.choice(COMMANDS)
    if not command:
        return json.dumps(
            rng.choices((*_WORDS, "--version", "--help", "-h", "classify", "export"), k=rng.choice((0, 1, 2)))
        ).encode()
    words, params = rng.choice(_options(command))
    words = list(words)
    for name, takes, flag in params:
        if name.startswith("-"):
            if rng.random() < 0.25:
                words += [name] if flag else [name, _value(rng, takes, name)]
        elif rng.random() < 0.95:
            sound = "reader" if command in ("ask", "report", "record") else "bundle"
            words.append(sound if name == "bundle" and rng.random() < 0.8 else _value(rng, takes, name))
    if rng.random() < 0.1:
        words.insert(rng.randrange(1, len(words) + 1), rng.choice((*_WORDS, "--nonsense", "--", "-")))
    return json.dumps(words).encode()


def _value(rng: random.Random, takes: str, name: str) -> str:
    if "int" in takes or "float" in takes:
        return str(rng.choice((*NUMBERS[:-1], "x", "", 1, 2, 4)))
    if "Path" in takes or rng.random() < 0.3:
        return rng.choice(_PLACES)
    return rng.choice(
        (*_WORDS, "normal", "pneumonia", "auto", "cpu", "lung", "40,400", "nan,inf", "1,0", "json", "csv", "chest-xray")
    )


def _furnish(place: Path, base: Path) -> None:
    from PIL import Image

    lay_out(base / ENCODER, place / "bundle", "", None)
    lay_out(base / READER, place / "reader", "", None)
    Image.fromarray(phantom()).save(place / "film.png")
    shutil.copy(base / "dicom" / "grey16-explicit.dcm", place / "film.dcm")
    (place / "labels.txt").write_text("normal\npneumonia\n")
    (place / "labels.json").write_text('{"normal": ["a normal film"], "pneumonia": []}')
    for name in ("normal", "pneumonia"):
        (place / "films" / name).mkdir(parents=True)
        for number in range(2):
            shutil.copy(place / "film.png", place / "films" / name / f"{number}.png")
    (place / "empty").mkdir()
    (place / "nothing.png").touch()
    (place / "record.json").write_text('{"resourceType": "Patient", "id": "x", "gender": "male"}')
    shutil.copy(base / "films.index", place / "films.index")
    shutil.copy(base / "probe.safetensors", place / "a.probe")
    os.mkfifo(place / "pipe")
    (place / "link.png").symlink_to("film.png")
    (place / "dangling.png").symlink_to("gone.png")


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.__main__ import main
    from medge.runtime.errors import MedgeError

    words = json.loads(content)
    _furnish(place, base)
    told, complained = io.StringIO(), io.StringIO()
    sys.argv = ["medge", *words]
    os.environ |= {"COLUMNS": "200", "NO_COLOR": "1"}
    code: Any = 0
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(complained):
        try:
            main()
        except SystemExit as error:
            code = error.code
    text = complained.getvalue()
    if fault := _MARK.search(text):
        report = Path(fault[1]).read_text(encoding="utf-8")
        Path(fault[1]).unlink()
        at = re.findall(r'File ".*?/(\w+/\w+/\w+\.py)", line (\d+)', report)
        own = [f"{path}:{line}" for path, line in at if "site-packages" not in path]
        raise RuntimeError(f"at {own[-1] if own else '?'}: {report.strip().splitlines()[-1]}")
    if code not in (0, 1, 2, 3) and code is not None:
        raise WrongError(f"exit code {code!r}")
    if code and "Traceback" in text:
        raise RuntimeError(text[-400:])
    if code and not text.strip() and not told.getvalue().strip():
        raise WrongError(f"exit code {code} without a word")
    if code == 1 and any(ord(letter) < 32 and letter not in "\n\t\r" for letter in text):
        raise WrongError(f"control characters in {text[:200]!r}")
    if code in (1, 2):
        raise MedgeError(" ".join((text or told.getvalue()).split())[:400])  # without a word, medge prints its help


KIND = Kind(make, run, modules=(*manifest.KIND.modules, "typer", "medge.__main__"), batch=10)
