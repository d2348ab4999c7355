"""What a machine is, against what a kit needs; looked at before anything is written."""

from __future__ import annotations

import datetime
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ...bundles.bundle import Bundle
from ...bundles.manifest import MANIFEST, Manifest
from ...device.cpu import cpu_features, pick_target
from ...generator.planner import Device, Opening
from ...kinds import KINDS
from ..admission import this_target
from ..installation import VERSIONS
from ..layout import Entry, Kit, moment_of, read_small
from ..tree import partial_of

# Exit codes of install.sh and `medge kit install`, one for each kind of refusal; docs/guides/stick.md lists them.
MACHINE, MEMORY, DISK, CLOCK, DAMAGED, DECLINED, UNSIGNED, SELFTEST, SERVICE = 20, 22, 23, 24, 25, 27, 28, 29, 30
_MOST_MANIFEST = 16 << 20
_SPARE = 128 << 20  # bytes of the disk that stay free
_SAMPLE = 32 << 20  # bytes that are read to learn how fast a stick is
_DAY = datetime.timedelta(days=1)  # a clock of another time zone's, set by hand


@dataclass(frozen=True)
class Found:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        said: what was found, for a person.
        refused: the exit code where the machine can't be a station so; 0 where it can.
        warned: a person should know it.
    """

    what: str
    said: str
    refused: int = 0
    warned: bool = False


def look(kit: Kit, prefix: Path, now: datetime.datetime) -> list[Found]:
    """Everything about this machine that decides whether the kit can be put in.

    Args:
        kit: whose signature has been checked.
        prefix: where it shall go; it, or a folder above it, is there.
        now: by this machine's clock.
    """
    device = Device.here()
    return [_processor(kit), _memory(device), *_bundles(kit, device), _disk(kit, prefix), _clock(kit, now)]


def _processor(kit: Kit) -> Found:
    here = this_target()
    if here != kit.target:
        return Found("processor", f"this machine is {here} and the kit is for {kit.target}; ask for its kit", MACHINE)
    target, _ = pick_target()
    slow = target.name == "avx2" and "avx2" not in cpu_features() and here.endswith("x86_64")
    said = f"{here}, number formats for {target.name}"
    return Found(
        "processor", f"{said}; it has no AVX2, so models run several times slower" if slow else said, warned=slow
    )


def _memory(device: Device) -> Found:
    return Found("memory", f"{device.memory_total / 1e9:.1f} GB, {device.memory_free / 1e9:.1f} GB of it free")


def _bundles(kit: Kit, device: Device) -> list[Found]:
    """Whether each model fits, by the planner; a machine that none fits is refused."""
    found, fitting = list[Found](), 0
    for name, entry in _manifests(kit).items():
        assert entry.sha256 is not None
        manifest = Manifest.parse(read_small(kit.piece(entry.sha256), _MOST_MANIFEST), Path(entry.path).parent)
        plan = KINDS[manifest.kind].plan(Bundle(Path(entry.path).parent, manifest), device, Opening())
        fitting += plan.fits
        need = f"needs {plan.need.total / 1e9:.2f} GB of memory"
        said = f"{need}, fits" if plan.fits else f"{need}, and {plan.room / 1e9:.2f} GB can be used: it will not run"
        found.append(Found(f"model {name}", said, warned=not plan.fits))
    if found and not fitting:
        said = "no model of this kit fits into this machine's memory: close other programs, or take a larger machine"
        found.append(Found("models", said, MEMORY))
    return found


def _manifests(kit: Kit) -> dict[str, Entry]:
    """{bundle's name: its manifest's entry}."""
    return {
        entry.component.removeprefix("bundles/"): entry
        for entry in kit.entries
        if entry.component.startswith("bundles/") and entry.path == f"{entry.component}/{MANIFEST}"
    }


def _disk(kit: Kit, prefix: Path) -> Found:
    place, versions = prefix, prefix / VERSIONS
    while not place.exists():
        place = place.parent
    wanted = sum(kit.statement.contents().values())
    there = sum(
        path.lstat().st_size for folder in (partial_of(versions, kit.counter), versions / str(kit.counter))
        for path in folder.rglob("*") if not path.is_dir()
    )  # fmt: skip
    needed, free = max(0, wanted - there) + _SPARE, shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free at {place}, {needed / 1e9:.2f} GB needed"
    return Found(
        "disk",
        said if free > needed else f"{said}: make room, or choose another --prefix",
        0 if free > needed else DISK,
    )


def _clock(kit: Kit, now: datetime.datetime) -> Found:
    made = moment_of(kit.statement.created)
    said = f"{now:%d %B %Y, %H:%M} UTC"
    if now < made - _DAY:
        return Found("clock", f"{said}, before the kit was made ({made:%d %B %Y}); set date and time", CLOCK)
    return Found("clock", said)


def minutes(kit: Kit) -> float:
    """About how long putting it in takes: reading the stick, of which a sample is read now, and a self-test."""
    largest = max((entry for entry in kit.entries if entry.sha256), key=lambda one: one.size or 0)
    assert largest.sha256 is not None
    begun = time.monotonic()
    with kit.piece(largest.sha256).open("rb") as stream:
        read = len(stream.read(_SAMPLE))
    per_second = max(read / max(time.monotonic() - begun, 1e-3), 1e6)
    whole = sum(kit.statement.contents().values())
    return (whole / min(per_second, 200e6) + 60) / 60
