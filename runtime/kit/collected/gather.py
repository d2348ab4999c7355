"""Put together what goes home."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...bundles.bundle import Bundle
from ...bundles.manifest import MANIFEST, sha256_file
from ...bundles.origin import today
from ...device.cpu import pick_target
from ...errors import MedgeError, fault_of
from ...generator.planner import Device
from ...kinds import KINDS
from ...progress import Progress, no_progress
from . import known
from .report import Check, Collected, Machine, Model, Step, two_digits
from .station import Named, Told, told

_ANOTHER = "another"


@dataclass(frozen=True)
class Source:
    """Where to look.

    Attributes:
        bundles: the folder that holds the bundles' folders; None where none are looked at.
        store: the station's folder; None where none is looked at.
        device: a random word that the installation has; "" without, and the station's own stands in.
        label: what whoever collects calls the device.
        kit: the counter of the kit that runs; None without an installation.
        given: {SHA-256 of a manifest: the bundle's name}, of bundles that the kit's makers have given.
        history: of what was installed.
        replay: also replay golden results, which takes minutes with a language model.
    """

    bundles: Path | None
    store: Path | None
    device: str = ""
    label: str = ""
    kit: int | None = None
    given: Mapping[str, str] | None = None
    history: tuple[Step, ...] = ()
    replay: bool = True


def gather(source: Source, medge: str, progress: Progress = no_progress) -> Collected:
    """Look at the device, its bundles and its store.

    Raises:
        StationError: the store can't be read.
    """
    folders = [] if source.bundles is None else sorted(one.parent for one in source.bundles.glob(f"*/{MANIFEST}"))
    given, models, names = source.given or {}, list[Model](), dict[str, str]()
    for number, folder in enumerate(folders):
        progress("bundles", number, len(folders))
        if (model := _model(folder, given, source.replay)) is not None:
            models.append(model)
            names[folder.name] = model.name
    progress("bundles", len(folders), len(folders))
    station = None if source.store is None else _station(source.store, lambda said: names.get(said, _ANOTHER))
    word = source.device or (station.id if station else "")
    return Collected(
        1, today(), medge, platform.python_version(), _packages(), machine(word, source.label), source.kit,
        list(source.history), models,
        held=station.held if station else None, work=station.work if station else [],
        faults=station.faults if station else [], agreement=station.agreement if station else [],
    )  # fmt: skip


def _station(store: Path, named: Named) -> Told:
    return told(store, named, shutil.disk_usage(store).free if store.is_dir() else 0)


def machine(word: str, label: str) -> Machine:
    """This machine.

    Args:
        word: which installation or station it is; what is told cannot be traced back to it.
        label: what whoever collects calls it.
    """
    device = Device.here()
    return Machine(
        hashlib.sha256(f"medge device {word}".encode()).hexdigest()[:12] if word else "unknown", label,
        platform.machine(), platform.system(), _release(), device.cores, device.memory_total, list(device.features),
        pick_target()[0].name, device.gpu,
    )  # fmt: skip


def _release() -> str:
    """The distribution and its number, where both are such as distributions have."""
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return ""
    name = found.get("ID", "")
    return f"{name} {known.number(found.get('VERSION_ID', ''))}".strip() if name in known.DISTRIBUTIONS else known.OTHER


def _packages() -> dict[str, str]:
    found = {}
    for name in known.PACKAGES:
        try:
            found[name] = known.version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _model(folder: Path, given: Mapping[str, str], replay: bool) -> Model | None:
    """A bundle's facts; None where its manifest can't be read, which `medge verify` says more of."""
    try:
        digest = sha256_file(folder / MANIFEST)
        bundle = Bundle.open(folder, verify=False, allow_failed_parity=True)
    except (MedgeError, OSError):
        return None
    manifest = bundle.manifest
    checks, fault = list[Check](), ""
    begun = time.perf_counter()
    hashed = replayed = 0.0
    try:
        if replay:
            Bundle.open(folder, verify=True, allow_failed_parity=True)
            hashed = time.perf_counter() - begun
            checks = [Check(*row) for row in KINDS[manifest.kind].replay(bundle, "cpu")]
            replayed = time.perf_counter() - begun - hashed
    except Exception as error:  # whatever it is, that it happened is what the makers want to know
        fault = " ".join(filter(None, known.fault(fault_of(error))))
    return Model(
        given.get(digest, f"bundle-{digest[:8]}"), digest, manifest.kind,
        {tower: facts.recipe for tower, facts in manifest.towers.items()}, manifest.status, bundle.size(), checks,
        two_digits(hashed), two_digits(replayed), fault,
    )  # fmt: skip


def names_of(bundles: Path, names: Iterable[str]) -> dict[str, str]:
    """{SHA-256 of the manifest: name} of the bundles that a kit has brought."""
    found = {}
    for name in names:
        manifest = bundles / name / MANIFEST
        if manifest.is_file():
            found[sha256_file(manifest)] = name
    return found
