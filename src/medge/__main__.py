"""The command line: a table of commands, each imported only when it is called for."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import platform
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

import typer

from .no_telemetry import stay_offline
from .runtime.errors import MedgeError, MissingExtraError, ParityWarning


@dataclass(frozen=True)
class Command:
    """Where a command lives, and what the overview says of it."""

    module: str
    attribute: str
    help: str
    panel: str


HELP = {"help_option_names": ["-h", "--help"]}  # commands inherit it
USE, MAKE = "Use a bundle (no torch, no network)", r"Make a bundle (pip install 'medge\[export]')"
COMMANDS: dict[str, Command] = {
    "demo": Command(
        "export.commands.demo", "demo", "Export the stand-in at int8, gate it, classify real images.", MAKE
    ),
    "standin": Command("export.commands.standin", "standin", "Write a stand-in checkpoint.", MAKE),
    "export": Command("export.commands.export", "app", "Checkpoint to a quantized, measured bundle.", MAKE),
    "calibrate": Command(
        "export.commands.calibrate", "calibrate", "Gather a language model's importance matrix.", MAKE
    ),
    "distill": Command(
        "export.commands.distill", "app", "Train a smaller model to give what a larger one gives.", MAKE
    ),
    "parity": Command("export.commands.parity", "parity", "Measure a bundle against full-precision PyTorch.", MAKE),
    "classify": Command("runtime.commands.classify", "classify", "Score images against labels, zero-shot.", USE),
    "embed": Command("runtime.commands.embed", "embed", "Write embeddings of images or texts.", USE),
    "index": Command("runtime.commands.index", "app", "Build and search a single-file vector index.", USE),
    "probe": Command("runtime.commands.probe", "app", "Fit and apply a classifier on embeddings.", USE),
    "ask": Command("runtime.commands.ask", "ask", "Ask a language model about images, or without.", USE),
    "report": Command(
        "runtime.commands.radiology_report", "radiology_report", "Findings and impression of an image.", USE
    ),
    "chat": Command("runtime.commands.chat", "chat", "Talk with a language model in the terminal.", USE),
    "record": Command("runtime.commands.record", "record", "Questions over a FHIR record, with sources.", USE),
    "doctor": Command("runtime.commands.doctor", "doctor", "What this device is, and which bundles fit it.", USE),
    "inspect": Command("runtime.commands.inspect", "inspect", "Say what is in a bundle.", USE),
    "verify": Command("runtime.commands.verify", "verify", "Check hashes and replay golden embeddings here.", USE),
    "golden": Command("runtime.commands.golden", "golden", "Files that another runtime must reproduce.", USE),
    "bench": Command("runtime.commands.bench", "bench", "Latency, throughput, cold start, peak memory.", USE),
    "help": Command("runtime.commands.help", "explain", "Explain a term, or the exit codes.", USE),
}


def build_app(chosen: str | None) -> typer.Typer:
    """The whole command line, with only the chosen command's module imported; the others are outlines for the overview.

    No command imports a package of an extra before it runs, so that each has its help on the bare install.
    """
    app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", context_settings=HELP)
    app.callback()(overview)
    for name, entry in COMMANDS.items():
        found = _import(entry) if name == chosen else _outline
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=entry.help, rich_help_panel=entry.panel)
        else:
            text = found.__doc__ if name == chosen else entry.help
            app.command(name, help=text, short_help=entry.help, rich_help_panel=entry.panel)(found)
    return app


def _outline() -> None:
    """Stands in for a command that was not asked for."""


def _import(entry: Command) -> Any:
    return getattr(importlib.import_module(f"medge.{entry.module}"), entry.attribute)


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"medge {__version__}")
        raise typer.Exit


def overview(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Open medical AI as small files that run offline, each with its measured distance from the original.

    Start with [bold]medge demo[/], or make a bundle of your own:

        medge export medsiglip --checkpoint medsiglip-448 --out bundle --recipe int8
        medge classify bundle film.dcm --label "normal chest x-ray" --label pneumonia

        medge export medgemma --checkpoint medgemma-4b-it --out reader --recipe q4_k_m
        medge ask reader "Is there a pleural effusion?" --image film.dcm

    What a word means, and what an exit code: [bold]medge help "KL divergence"[/], [bold]medge help exit-codes[/].
    """


def main() -> None:
    """Run the command line; whatever goes wrong ends in one sentence on stderr, and in exit code 1."""
    stay_offline()
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, ParityWarning):
            print(f"medge: {_printable(str(message))}", file=sys.stderr)
        else:
            others(message, category, *place, **options)

    warnings.showwarning = show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a file's name shows its code
    try:
        _run()
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at the end is quiet, too
        sys.exit(1)
    except MedgeError as error:
        _say(str(error))
    except MemoryError:
        _say("not enough memory for this; a smaller recipe needs less, and so does leaving out --fast")
    except OSError as error:
        _say(f"{error.filename or 'standard output'}: {error.strerror or error}")
    except Exception as error:
        _say(
            f"a fault in medge itself ({type(error).__name__}); what happened is in {_write_report(error)}: please read it "
            "for names that should not leave the house, and send it to medge's developers"
        )


def _run() -> None:
    """Run the command that was asked for, and see that what it printed has arrived."""
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
    """Write a fault down: where it happened and in which versions; no argument of the command, which may name patients."""
    from . import __version__

    text = "".join(traceback.format_exception(error))
    facts = f"medge {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    with tempfile.NamedTemporaryFile(
        "w", prefix="medge-fault-", suffix=".txt", delete=False, encoding="utf-8"
    ) as report:
        report.write(facts + text)
    return report.name


if __name__ == "__main__":
    main()
