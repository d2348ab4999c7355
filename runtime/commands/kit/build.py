"""`medge kit build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...console.options import ForceOption, JsonOption
from ...console.terminal import err, out, print_json, progress
from .keys import asked_passphrase

Station = Annotated[bool, typer.Option("--station", help="A kit for a clinic's station; there is no other kind yet.")]
Bundles = Annotated[
    list[Path], typer.Option("--bundle", help="A bundle's folder; repeat it for several.", show_default=False)
]
Key = Annotated[Path, typer.Option(help="The makers' private key, which signs the kit.", show_default=False)]
Target = Annotated[str, typer.Option(help="What the kit runs on: linux-x86_64 or linux-aarch64.")]
CounterOption = Annotated[
    int | None,
    typer.Option(min=1, help="Grows with each kit; a device refuses a lower one.", show_default="by date and time"),
]
Created = Annotated[
    str | None,
    typer.Option(help="The kit's moment, as 2026-11-27T09:00:00Z.", show_default="SOURCE_DATE_EPOCH, or now"),
]
Expires = Annotated[
    str | None, typer.Option(help="The moment after which no device installs it.", show_default="never")
]
TrustFolder = Annotated[
    Path | None,
    typer.Option(
        "--trust", help="A folder with *.rotation and revoked.json, which devices shall learn.", show_default=False
    ),
]
Docs = Annotated[Path | None, typer.Option(help="The built documentation site.", show_default="none")]
Apk = Annotated[list[Path] | None, typer.Option(help="An app for Android phones; repeat it.", show_default="none")]
Web = Annotated[Path | None, typer.Option(help="The folder of a web page for phones.", show_default="none")]
Wheel = Annotated[Path | None, typer.Option(help="medge's own wheel.", show_default="made of this checkout")]


def build(
    bundles: Bundles,
    key: Key,
    out_folder: Annotated[
        Path, typer.Option("--out", help="The kit's folder, such as an empty one on the stick.", show_default=False)
    ],
    station: Station = True,
    target: Target = "linux-x86_64",
    name: Annotated[str, typer.Option(help="What people call the kit.")] = "station",
    counter: CounterOption = None,
    created: Created = None,
    expires: Expires = None,
    trust: TrustFolder = None,
    docs: Docs = None,
    apk: Apk = None,
    web: Web = None,
    wheel: Wheel = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a kit: everything that a machine without a network needs to be a station, in one folder. It is signed, and the same
    input gives the same kit, byte for byte. Interrupted, the same command goes on.

    Example: medge kit build --bundle bundle --key makers.key --out /media/usb/medge
    """
    from ...bundles.origin import made_at
    from ...errors import KitError
    from ...kit.building.job import BuildJob, build_kit
    from ...kit.building.makers import Makers
    from ...kit.layout import facts, moment_of, moment_text, target_named

    moment = created or moment_text(int(made_at().timestamp()))
    for one in filter(None, (moment, expires)):
        try:
            moment_of(one)
        except ValueError as error:
            raise KitError(f"{one} is no moment; write it as 2026-11-27T09:00:00Z, in UTC") from error
    makers = Makers.read(key, trust, lambda: asked_passphrase(key))
    number = counter or int(moment_of(moment).strftime("%Y%m%d%H%M"))
    job = BuildJob(
        out_folder,
        tuple(bundles),
        target_named(target),
        moment,
        number,
        name,
        expires,
        docs,
        tuple(apk or ()),
        web,
        wheel,
    )
    with progress() as advance:
        kit = build_kit(job, makers, force=force, progress=advance)
    size = sum(path.stat().st_size for path in out_folder.rglob("*") if path.is_file())
    if as_json:
        print_json(
            {"out": str(out_folder), "bytes": size, "fingerprint": makers.public.fingerprint, **facts(kit.statement)}
        )
        return
    for component, many in kit.statement.components.items():
        out.print(f"{many / 1e6:10.1f} MB  {component}", soft_wrap=True)
    out.print(f"{size / 1e6:10.1f} MB  {out_folder}: kit {kit.counter} for {kit.target}", soft_wrap=True)
    err.print(f"Tell the technician the fingerprint of your key: {makers.public.fingerprint}", soft_wrap=True)
