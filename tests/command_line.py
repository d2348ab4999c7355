"""Run the command line as a user does: inside the tests' process, or in one of its own where the process is what is tested."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from medge.__main__ import main

# Wide enough that no table breaks a word that a test looks for.
ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1"}
Done = subprocess.CompletedProcess[str]


def hears_ctrl_c() -> None:
    """For `preexec_fn`: a test run that was started in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def medge(*words: object, code: int | None = 0, cwd: Path | None = None, said: str = "") -> Done:
    """Run a command in this process, with `said` typed into it.

    The exit code must be `code` (any where None). An error that a user would see as a traceback is raised.
    """
    command = ["medge", *map(str, words)]
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complained:
        with contextlib.chdir(cwd or Path.cwd()), _fresh_process(command, said), _written_to(told, complained):
            reached = _exit_code()
        texts = [_text(stream) for stream in (told, complained)]
    return _checked(Done(command, reached, *texts), code)


def medge_process(*words: object, code: int | None = 0, environment: dict[str, str] | None = None) -> Done:
    """Run a command in a process of its own, as `python -m medge`; its exit code must be `code` (any where None)."""
    done = subprocess.run(
        [sys.executable, "-m", "medge", *map(str, words)], capture_output=True, text=True, check=False,
        env={**os.environ, **ENVIRONMENT, **(environment or {})},
    )  # fmt: skip
    return _checked(done, code)


def _checked(done: Done, code: int | None) -> Done:
    assert code is None or done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    fault = re.search(r"where it happened is in (\S+),", done.stderr)
    assert fault is None, Path(fault[1]).read_text(encoding="utf-8")
    return done


def _exit_code() -> int:
    """Of `main`, as the interpreter would make one of what it raises."""
    try:
        main()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    return 0


@contextlib.contextmanager
def _fresh_process(command: list[str], said: str) -> Iterator[None]:
    """What a new process has of its own: arguments, environment, input, warnings, logging, and the commands' modules.

    The commands are imported anew because their consoles read the environment when they are made.
    """
    held = [name for name in sys.modules if name.startswith("medge.") and _belongs_to_the_command_line(name)]
    ours = {name: sys.modules.pop(name) for name in held}
    importlib.invalidate_caches()
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    root.handlers, root.level = [], logging.WARNING
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode()), "utf-8")),
        mock.patch.dict(os.environ, ENVIRONMENT),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            sys.modules.update(ours)  # of a class that a test has imported, annotations are looked up there
            root.handlers, root.level, sys.excepthook = handlers, level, hook
            for number, handler in signals.items():
                signal.signal(number, handler)


def _belongs_to_the_command_line(module: str) -> bool:
    return ".commands" in module or ".console" in module


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, line_number: int, file: object = None,
    line: str | None = None,
) -> None:  # fmt: skip
    """As the interpreter does; pytest keeps warnings for its summary."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, line_number, line))


@contextlib.contextmanager
def _written_to(told: io.BufferedRandom, complained: io.BufferedRandom) -> Iterator[None]:
    """Standard output and error go into these files, what C libraries write there included."""
    kept = [os.dup(number) for number in (1, 2)]
    _flush()
    try:
        for number, target in ((1, told), (2, complained)):
            os.dup2(target.fileno(), number)
        with (
            open(1, "w", encoding="utf-8", closefd=False) as out,
            open(2, "w", encoding="utf-8", closefd=False, buffering=1) as error,
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", error),
        ):
            yield
            _flush()
    finally:
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


def _text(stream: io.BufferedRandom) -> str:
    stream.seek(0)
    return stream.read().decode()
