"""`medge kit collect|open|key`: what a station sends home to its makers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...console.options import ForceOption, JsonOption
from ...console.terminal import err, out, print_document, print_json, progress
from .installed import PrefixOption

if TYPE_CHECKING:
    from ...kit.collected.gather import Source


def collect(
    to: Annotated[
        str,
        typer.Option(
            help="The makers' public key, age1..., or a file that holds it.", show_default="none, with --show"
        ),
    ] = "",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The folder on the stick.", show_default="none, with --show")
    ] = None,
    prefix: PrefixOption = None,
    store: Annotated[Path | None, typer.Option(help="The station's folder.", show_default="the installation's")] = None,
    bundles: Annotated[
        Path | None, typer.Option(help="The folder that holds the bundles' folders.", show_default="the installation's")
    ] = None,
    label: Annotated[
        str, typer.Option(help="What the makers shall call this device; no patient's name.", show_default="none")
    ] = "",
    no_replay: Annotated[
        bool,
        typer.Option("--no-replay", help="Leave golden results out, whose replay takes minutes with a language model."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Only show what would be written.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write it without asking.")] = False,
) -> None:
    """Write a file for the makers: versions, the device, how its models compute here, counts, timings; nothing of patients.

    All of it is shown first, as it is written, and you are asked. Then it is sealed to the makers' key: nobody else can read it.
    Counts below five are not told, others are rounded down to fives.

    Example: medge kit collect --to makers.age --out /media/usb --label "Nurse station 2"
    """
    from .... import __version__
    from ...errors import KitError
    from ...kit.collected.gather import gather
    from ...kit.collected.report import LABEL
    from ...kit.collected.sealed import SUFFIX, public_key, seal, text_of

    if label and not re.fullmatch(LABEL, label):
        raise KitError("a label has at most 40 letters of a to z, digits, blanks, points, hyphens and underscores")
    if not show and (not to or out_folder is None):
        raise KitError("name the makers' key with --to and the stick's folder with --out, or only look with --show")
    recipient = None if show else public_key(to)
    with progress() as advance:
        collected = gather(_source(prefix, store, bundles, label, replay=not no_replay), __version__, advance)
    text = text_of(collected)
    sys.stdout.write(text)  # ASCII: it says what is written, letter by letter
    sys.stdout.flush()
    if recipient is None or out_folder is None:
        return
    path = out_folder / f"medge-{collected.device.id}-{collected.day}{SUFFIX}"
    err.print("medge: this is all that is written, sealed to the makers' key", soft_wrap=True)
    if not yes and not _agreed(path):
        err.print("medge: nothing was written")
        raise typer.Exit(1)
    seal(text, recipient, path, force=True)
    err.print(f"medge: {path}", soft_wrap=True)


def _agreed(path: Path) -> bool:
    """Whether a person says yes; who is not there can't."""
    from ...errors import KitError

    if not sys.stdin.isatty():
        raise KitError("nobody is there to say yes: give --yes once somebody has looked at what --show prints")
    return typer.confirm(f"Write it to {path}?", default=False, err=True)


def _source(prefix: Path | None, store: Path | None, bundles: Path | None, label: str, *, replay: bool) -> Source:
    """Where to look: an installation, and what is named in its place."""
    from ...errors import KitError
    from ...kit.collected.gather import Source, names_of
    from ...kit.collected.report import Step
    from ...kit.installation import CURRENT, Installation, default_prefix
    from ...kit.layout import STATEMENT

    try:
        here = Installation.open(prefix or default_prefix())
    except KitError:
        if prefix is not None or (store is None and bundles is None):
            raise
        return Source(bundles, store, label=label, replay=replay)
    current = here.current()
    names: dict[str, str] = {}
    if current is not None and (here.folder(current) / STATEMENT).is_file():
        parts = {entry.component.removeprefix("bundles/") for entry in here.version(current).entries}
        names = names_of(here.prefix / CURRENT / "bundles", sorted(parts))
    history = tuple(Step(one.counter, one.medge, one.at[:10], one.what) for one in here.state.history)
    return Source(
        bundles or here.prefix / CURRENT / "bundles", store or (here.store if here.store.exists() else None),
        here.state.device, label, current, names, history, replay,
    )  # fmt: skip


def unsealed(
    file: Annotated[Path, typer.Argument(help="A file that medge kit collect has written.", show_default=False)],
    key: Annotated[Path, typer.Option(help="The makers' private key.", show_default=False)],
) -> None:
    """Print what a collected file holds, as JSON; for the makers.

    Example: medge kit open medge-3f1c2ab09d77-2026-11-27.age --key makers.private
    """
    from ...kit.collected.sealed import private_key, unseal

    print_document(unseal(file, private_key(key)).as_dict())


def key(
    private: Annotated[
        Path, typer.Argument(help="The private key's file, which is not there yet.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Make the makers' key pair for collected files: keep the private key, give the printed public one to stations.

    It is age's; signing keys for kits are others (medge keys).

    Example: medge kit key makers.private
    """
    from ...kit.collected.sealed import new_key

    public = new_key(private)
    if as_json:
        print_json({"private": str(private), "public": public})
    else:
        out.print(public, soft_wrap=True)


def fleet(
    folder: Annotated[Path, typer.Argument(help="A folder with collected files, below it too.", show_default=False)],
    key: Annotated[Path, typer.Option(help="The makers' private key.", show_default=False)],
    page: Annotated[Path, typer.Option("--out", help="The page; its facts are written beside it, as .json.")] = Path(
        "fleet.html"
    ),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one page of what many stations have sent: which runs what since when, which are slow, where drafts were overruled.

    A file that can't be opened is named on the page and left out; the exit code is 3 then.

    Example: medge kit fleet sticks/ --key makers.private --out fleet.html
    """
    import json

    from ...bundles.atomic import refuse_existing, replace_text
    from ...console.terminal import SOME_FAILED, warn
    from ...kit.collected.sealed import private_key
    from ...kit.fleet.compare import compared
    from ...kit.fleet.read import read_all
    from ...pages.extra import require_pages

    require_pages()
    from ...kit.fleet.page import render

    facts_file = page.with_suffix(".json")
    for path in (page, facts_file):
        refuse_existing(path, force=force)
    read = read_all(folder, private_key(key))
    facts = compared(read)
    replace_text(facts_file, json.dumps(facts, indent=1) + "\n")
    replace_text(page, render(facts))
    for one in read.refused:
        warn(f"left out: {one}")
    if as_json:
        print_json({"out": str(page), **facts})
    else:
        out.print(f"{page}: {len(facts['devices'])} devices", soft_wrap=True)
    if read.refused:
        raise typer.Exit(SOME_FAILED)
