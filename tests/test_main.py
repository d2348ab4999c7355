"""What becomes of errors that no command foresaw: one sentence, and a file for the developers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import command_line
import pytest

from medge import __main__ as command


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    def run() -> None:
        raise error

    monkeypatch.setattr(command, "_run", run)
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("medge: ")
    assert told.count("\n") == 1
    return told


def test_a_fault_is_one_sentence_and_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["medge", "classify", "MUSTERMANN.dcm"])
    fault = ValueError("no number: 'MUSTERMANN'")
    fault.__cause__ = KeyError("MUSTERMANN")
    told = ended(monkeypatch, capsys, fault)
    assert "a fault in medge itself (ValueError)" in told
    [report] = tmp_path.iterdir()
    assert str(report) in told
    text = report.read_text()
    assert "Traceback" in text
    assert "builtins.KeyError" in text
    assert "in run" in text  # the line of code
    assert re.search(r"^medge \d+\.\d+", text)
    assert "MUSTERMANN" not in text + told  # arguments, and what errors quote, stay in the house


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (command.Ended(15), 143)])
def test_a_stop_that_a_library_turns_into_another_error_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, stop: BaseException, code: int
) -> None:
    """As numpy does where an extension module that needs it is imported just then."""

    def run() -> None:
        try:
            raise stop
        except BaseException as error:
            raise ImportError("numpy._core.multiarray failed to import") from error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(command, "_run", run)
    monkeypatch.setattr(command, "_hear_endings", lambda: [stop] if code == 143 else [])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == code
    assert capsys.readouterr().err == "medge: stopped\n"
    assert list(tmp_path.iterdir()) == []  # no report of a fault


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_in_a_destructor_is_a_stop(name: str, code: int) -> None:
    """Python prints and drops what a destructor raises; the command would go on to its end."""
    program = f"""
import signal, time
from medge import __main__ as command

class Closed:
    def __del__(self):
        signal.raise_signal(signal.{name})
        for _ in range(10):
            pass

def run():
    Closed()
    time.sleep(20)
    print("went on")

command._run = run
command.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=command_line.hears_ctrl_c,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "medge: stopped\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(13, "Permission denied", "/b/x.onnx"), "medge: /b/x.onnx: Permission denied\n"),
        (OSError(28, "No space left on device"), "medge: standard output: No space left on device\n"),
        (MemoryError(), "medge: not enough memory"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, sentence: str
) -> None:
    assert ended(monkeypatch, capsys, error).startswith(sentence)


def medge(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medge", *map(str, words)], stderr=subprocess.PIPE, text=True, check=False, **options
    )  # type: ignore[call-overload]  # options of `run` that the types can't see through


def test_a_full_disk_and_a_reader_that_left(bundle: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = medge("inspect", bundle, stdout=full)
    assert (done.returncode, done.stderr) == (1, "medge: standard output: No space left on device\n")
    done = subprocess.run(
        f"{sys.executable} -m medge inspect {bundle} | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_a_name_that_the_terminal_can_not_write(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    film = tmp_path / "żółć-\udcff.dcm"  # a byte that is no UTF-8, as old archives have them
    film.write_bytes((few_images / "CT_small.dcm").read_bytes())
    done = command_line.medge_process("classify", bundle, film, environment={"PYTHONIOENCODING": "ascii"})
    assert r"\u017c" in done.stdout
    done = command_line.medge_process("classify", bundle, film, "--json")
    assert r"\udcff" in done.stdout
