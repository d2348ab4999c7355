"""The command line as a program: what was asked for is run, and whatever goes wrong ends in one sentence.

Nothing heavy is imported before `main` runs, so that Ctrl-C is heard from the first moment.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from .no_telemetry import stay_offline
from .runtime.errors import MedgeError, MissingExtraError, ParityWarning, TrustWarning

ENDINGS = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
MOMENT = 0.02  # seconds
STOPPED = 130  # by Ctrl-C: 128 and the signal's number


class Ended(KeyboardInterrupt):
    """The system asks this process to end: work stops as at Ctrl-C, and what lies half-made is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def main() -> None:
    """Run the command line; whatever goes wrong ends in one sentence on stderr, and in exit code 1."""
    ended = _hear_endings()
    try:
        _main()
    except KeyboardInterrupt:
        _stop(ended, told=False)
    except SystemExit as end:
        if end.code == STOPPED:  # typer turns Ctrl-C into it, too, and tells nothing
            _stop(ended, told=not isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt))
        raise
    finally:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the rest is Python's own end, which would print a traceback


def _stop(ended: list[Ended], *, told: bool) -> NoReturn:
    """End as a program that was stopped; `told` where the command has said so by itself."""
    if not told:
        with contextlib.suppress(OSError):
            print("medge: stopped", file=sys.stderr)
    sys.exit(ended[0].code if ended else STOPPED)


def _hear_endings() -> list[Ended]:
    """Let a request to end be an exception, which cleans up; what this process was told to ignore stays ignored."""
    heard: list[Ended] = []

    def end(number: int, frame: FrameType | None) -> None:
        heard.append(Ended(number))
        raise heard[-1]

    if threading.current_thread() is threading.main_thread():
        for number in ENDINGS:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, end)
        sys.unraisablehook = _stop_again
    return heard


def _stop_again(dropped: sys.UnraisableHookArgs) -> None:
    """Stop a moment later where Python drops the exception of a stop: one that comes in a destructor, or in a callback from C."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    number = dropped.exc_value.args[0] if isinstance(dropped.exc_value, Ended) else signal.SIGINT
    again = threading.Timer(MOMENT, _thread.interrupt_main, (number,))
    again.daemon = True
    with contextlib.suppress(RuntimeError):  # Python is ending by itself
        again.start()


def _main() -> None:
    stay_offline()
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, ParityWarning | TrustWarning):
            print(f"medge: {_printable(str(message))}", file=sys.stderr)
        else:
            others(message, category, *place, **options)

    warnings.showwarning = show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a file's name shows its code
    try:
        _run()
    except Exception as error:
        if any(isinstance(one, KeyboardInterrupt) for one in _chain(error)):
            raise KeyboardInterrupt from error  # an extension module that is imported just then makes an ImportError of it
        _explain(error)


def _explain(error: Exception) -> NoReturn:
    """End with one sentence about what went wrong."""
    match error:
        case BrokenPipeError():  # the reader of a pipe had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at the end is quiet, too
            sys.exit(1)
        case MedgeError():
            _say(str(error))
        case MemoryError():
            _say("not enough memory for this; a smaller recipe needs less, and so does leaving out --fast")
        case OSError():
            _say(f"{error.filename or 'standard output'}: {error.strerror or error}")
    fault = f"a fault in medge itself ({type(error).__name__})"
    try:
        report = _write_report(error)
    except OSError as refusal:
        _say(f"{fault}; where it happened could not be written down ({refusal.strerror})")
    _say(
        f"{fault}; where it happened is in {report}, without names or contents of files: please send it to medge's developers"
    )


def _run() -> None:
    """Run the command that was asked for, and see that what it printed has arrived."""
    from .command_line import COMMANDS, MAKE, build_app

    try:
        chosen = next((word for word in _words() if not word.startswith("-")), None)
        build_app(chosen)(prog_name="medge")
    except ModuleNotFoundError as error:
        # What makes bundles needs one extra; the runtime names its own where it needs them.
        if error.name is None or error.name.startswith("medge") or COMMANDS[chosen or ""].panel != MAKE:
            raise
        raise MissingExtraError(error.name.split(".")[0], "export") from error
    finally:
        sys.stdout.flush()


def _words() -> list[str]:
    """What was typed after "medge": the arguments, or the line that a shell asks to complete."""
    if "_MEDGE_COMPLETE" not in os.environ:
        return sys.argv[1:]
    return (os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")).split()[1:]


def _say(sentence: str) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"medge: {_printable(sentence)}", file=sys.stderr)
    with contextlib.suppress(OSError):  # what a full disk did not take would be tried again, and told, when Python ends
        sys.stdout.flush()
    sys.exit(1)


def _printable(text: str) -> str:
    """A message may name a file, and a file's name may hold what a terminal obeys."""
    from .runtime.console.terminal import printable

    return printable(text)


def _write_report(error: Exception) -> str:
    """Write a fault down: its kinds, where it happened and in which versions.

    Neither the command's arguments nor what the errors say: both may hold a patient's name, a file's name or a text.
    """
    from . import __version__

    facts = f"medge {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    with tempfile.NamedTemporaryFile(
        "w", prefix="medge-fault-", suffix=".txt", delete=False, encoding="utf-8"
    ) as report:
        report.write(facts + "".join(_outline(error)))
    return report.name


def _outline(error: BaseException) -> Iterator[str]:
    """An error and those that led to it: each one's lines of code and its kind, without its message."""
    for number, one in enumerate(reversed([*_chain(error)])):
        yield "\nwhich led to:\n" * (number > 0)
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(one.__traceback__)
        yield f"{type(one).__module__}.{type(one).__qualname__}\n"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that led to it, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
