"""The table of commands, each imported only when it is called for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import typer


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
    "calibrate-scores": Command(
        "runtime.commands.scores.calibrate_scores", "calibrate_scores", "Set thresholds for a bundle's labels.", USE
    ),
    "evaluate": Command(
        "export.commands.evaluate", "evaluate", "Score a bundle or a checkpoint on a public set, or your own.", USE
    ),
    "compare": Command(
        "runtime.commands.evaluation.comparison.compare",
        "compare",
        "Compare finished runs of evaluate with one another.",
        USE,
    ),
    "ask": Command("runtime.commands.ask", "ask", "Ask a language model about images, or without.", USE),
    "report": Command(
        "runtime.commands.radiology_report", "radiology_report", "Findings and impression of an image.", USE
    ),
    "chat": Command("runtime.commands.chat", "chat", "Talk with a language model in the terminal.", USE),
    "record": Command("runtime.commands.record", "record", "Questions over a FHIR record, with sources.", USE),
    "serve": Command(
        "runtime.commands.station.serve", "serve", "Serve bundles over HTTP, on this machine or beyond.", USE
    ),
    "station": Command(
        "runtime.commands.station.station", "app", "Users, backup, history, PACS and FHIR of a station.", USE
    ),
    "kit": Command("runtime.commands.kit.kit", "app", "Make a stick that makes an offline machine a station.", USE),
    "doctor": Command("runtime.commands.doctor", "doctor", "What this device is, and which bundles fit it.", USE),
    "inspect": Command("runtime.commands.inspect", "inspect", "Say what is in a bundle.", USE),
    "verify": Command("runtime.commands.verify", "verify", "Check hashes and replay golden embeddings here.", USE),
    "keys": Command("runtime.commands.kit.keys", "app", "Sign bundles and kits, and decide whom a device trusts.", USE),
    "golden": Command("runtime.commands.golden", "golden", "Files that another runtime must reproduce.", USE),
    "bench": Command("runtime.commands.bench", "bench", "Latency, throughput, cold start, peak memory.", USE),
    "help": Command("runtime.commands.help", "explain", "Explain a term, or the exit codes.", USE),
}


def build_app(chosen: str | None) -> typer.Typer:
    """The whole command line, with only the chosen command's module imported; the others are outlines for the overview.

    No command imports a package of an extra before it runs, so that each has its help on the bare install.
    """
    from .runtime.console.help.words import PlainCommand, PlainGroup

    app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", context_settings=HELP, cls=PlainGroup)
    app.callback()(overview)
    for name, entry in COMMANDS.items():
        found = _import(entry) if name == chosen else _outline
        if isinstance(found, typer.Typer):
            _show_examples(found, name)
            app.add_typer(found, name=name, help=entry.help, rich_help_panel=entry.panel, cls=PlainGroup)
        else:
            text = _with_output(found.__doc__ or "", name) if name == chosen else entry.help
            app.command(name, help=text, short_help=entry.help, rich_help_panel=entry.panel, cls=PlainCommand)(found)
    return app


def every_command() -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """("index build", its function, whether the help lists it) of each command, and of the parts of those that have some."""
    for name, entry in COMMANDS.items():
        found = _import(entry)
        if isinstance(found, typer.Typer):
            yield from _parts(found, name)
        else:
            yield name, found, True


def _parts(app: typer.Typer, name: str) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    for one in app.registered_commands:
        assert one.callback is not None
        yield f"{name} {one.name or one.callback.__name__}", one.callback, not one.hidden
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _parts(group.typer_instance, f"{name} {group.name}")


def _show_examples(app: typer.Typer, name: str) -> None:
    """Put what the example in the help of each of a command's parts prints below it."""
    from .runtime.console.help.words import PlainCommand, PlainGroup

    for part in app.registered_commands:
        assert part.callback is not None
        part.cls = PlainCommand
        part.help = _with_output(part.callback.__doc__ or "", f"{name} {part.name or part.callback.__name__}")
    for group in app.registered_groups:
        assert group.typer_instance is not None
        group.cls = PlainGroup
        _show_examples(group.typer_instance, f"{name} {group.name}")


def _with_output(text: str, command: str) -> str:
    from .runtime.console.help.examples import with_output

    return with_output(text, command)


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
