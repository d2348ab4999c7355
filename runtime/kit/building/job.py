"""Making a kit: its components gathered, hashed, signed and written.

The same input gives the same kit, byte for byte: no file carries the time of its making, all are sorted, and the one moment that
is written down is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ...bundles.bundle import Bundle
from ...bundles.claim import scratch_folder
from ...bundles.manifest import MANIFEST, SIGNATURE
from ...errors import KitError
from ...progress import Progress, no_progress
from ..layout import Entry, Kit, Statement, TargetName, moment_of
from ..writing import Content, write_kit
from . import bill, natively
from .files import Source, entries_of, sources_of, write_tar
from .makers import Makers

STICK = "stick"  # the folder with what lies on the stick as it is
# What a processor must have. NumPy's wheels for x86-64 are compiled for x86-64-v2 and end with "illegal instruction" on less.
CPU: dict[TargetName, tuple[str, ...]] = {
    "linux-x86_64": ("cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    "linux-aarch64": ("asimd",),
}
LEAST_MEMORY = 1_000_000_000  # bytes; what each bundle takes, the planner says later
# What `medge kit install` imports, and so what the interpreter of the stick has beside it before anything is installed.
BOOTSTRAP = (
    "PIL", "_cffi_backend", "annotated_doc", "annotated_types", "cryptography", "markdown_it", "mdurl", "medge", "msgspec",
    "numpy", "numpy.libs", "pillow.libs", "psutil", "pydantic", "pydantic_core", "pygments", "rich", "safetensors",
    "shellingham", "tokenizers", "typer", "typing_extensions", "typing_inspection",
)  # fmt: skip


@dataclass(frozen=True)
class BuildJob:
    """What a kit is made of.

    Attributes:
        out: the kit's folder.
        bundles: the bundles' folders.
        target: what the kit runs on.
        created: its moment, as `kit.json` has it.
        counter: grows with each kit.
        name: what people call it.
        expires: after this no device installs it.
        docs: the built documentation site.
        apks: apps for Android phones.
        web: the folder of the web page for phones.
        wheel: medge's own; made of this checkout where None.
        interpreter, packages: an unpacked interpreter and its site-packages, in the place of those that medge fetches.
    """

    out: Path
    bundles: Sequence[Path]
    target: TargetName
    created: str
    counter: int
    name: str = "station"
    expires: str | None = None
    docs: Path | None = None
    apks: Sequence[Path] = ()
    web: Path | None = None
    wheel: Path | None = None
    interpreter: Path | None = None
    packages: Path | None = None


def build_kit(
    job: BuildJob, makers: Makers, *, force: bool = False, progress: Progress = no_progress
) -> Kit:  # fmt: skip
    """Make a kit.

    Args:
        job: what of.
        makers: sign it.
        force: replace a kit that lies there.

    Raises:
        KitError: something that it shall hold is not there or can't be in a kit; a private key lies on the stick.
        BundleError: a bundle is not whole, or its parity gate failed.
        StorageError: the file system refused.
    """
    bundles = _bundles(job.bundles)
    makers.refuse_on_stick(job.out)
    with scratch_folder() as scratch:
        interpreter = job.interpreter or natively.interpreter(job.target, scratch)
        packages = job.packages or natively.packages(
            job.target, scratch, llm=any(one.manifest.kind == "generator" for one in bundles.values()), wheel=job.wheel
        )
        sources = [
            *sources_of(interpreter, "python", "python"),
            *sources_of(packages, "packages", "packages"),
            Source("bin/medge", "packages", _stick_file("medge"), program=True),
        ]
        for name, bundle in bundles.items():
            sources += _bundle(name, bundle, makers)
        sources += sources_of(job.docs, "docs", "docs") if job.docs else ()
        carried = list(_carried(job))
        sources += carried
        sources += bill.documents(job.name, interpreter, packages, bundles)
        entries, pieces = _told(sources, progress)
        makers.refuse_among(pieces)
        bootstrap = scratch / "bootstrap.tar"
        write_tar(bootstrap, _bootstrap(sources), int(moment_of(job.created).timestamp()))
        statement = Statement(
            job.name, _medge_version(packages), job.counter, job.created, job.target, entries, expires=job.expires
        )
        beside: dict[str, Content] = {
            "bootstrap.tar": bootstrap,
            "facts": _facts(statement, bootstrap),
            **{name: _stick_file(name) for name in ("install.sh", "medge-station.desktop", "README.txt")},
            **{one.path: one.content for one in carried},
            **dict(makers.beside()),
        }
        return write_kit(job.out, statement, pieces, beside, makers.sign, force=force, progress=progress)


def _bundles(folders: Sequence[Path]) -> dict[str, Bundle]:
    """{name on the device: bundle}, of those that are whole and may be used."""
    found: dict[str, Bundle] = {}
    for folder in folders:
        bundle = Bundle.open(
            folder, verify=False
        )  # every byte is hashed on its way, and the device verifies each bundle
        name = folder.resolve().name
        if found.setdefault(name, bundle).folder != bundle.folder:
            raise KitError(f"two bundles are called {name}; give one of their folders another name")
    if not found:
        raise KitError("a station's kit holds at least one bundle; give --bundle")
    return found


def _bundle(name: str, bundle: Bundle, makers: Makers) -> Iterator[Source]:
    """A bundle's own files, none that lie beside them; with a signature of the makers where it has none."""
    component = f"bundles/{name}"
    for path in (MANIFEST, *(entry.path for entry in bundle.manifest.files)):
        yield Source(f"{component}/{path}", component, bundle.folder / path)
    yield Source(f"{component}/{SIGNATURE}", component, makers.bundle_signature(bundle.folder))


def _carried(job: BuildJob) -> Iterator[Source]:
    """What phones get: on the stick as it is, and on the device, which can hand it on."""
    for apk in job.apks:
        if not apk.is_file():
            raise KitError(f"{apk} is no file; give the app that `make android` has built")
        yield Source(f"phone/{apk.name}", "phone", apk)
    if job.web is not None:
        yield from sources_of(job.web, "phone/web", "web")


def _told(sources: Sequence[Source], progress: Progress) -> tuple[tuple[Entry, ...], dict[str, Content]]:
    """`entries_of`, with progress."""
    total = sum(
        len(one.content) if isinstance(one.content, bytes) else one.content.stat().st_size
        for one in sources
        if one.link is None
    )
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        progress("bytes hashed", done, total)

    return entries_of(sources, tell)


def _bootstrap(sources: Sequence[Source]) -> Iterator[Source]:
    """What runs on the device before anything is installed: the interpreter, and the packages that installing imports."""
    for source in sources:
        folder, _, inside = source.path.partition("/")
        if folder == "python" or (folder == "packages" and _of_bootstrap(inside.partition("/")[0])):
            yield source


def _of_bootstrap(top: str) -> bool:
    stem = top.split("-")[0] if top.endswith(".dist-info") else top.removesuffix(".py")
    return stem in BOOTSTRAP or stem.split(".cpython-")[0] in BOOTSTRAP


def _facts(statement: Statement, bootstrap: Path) -> bytes:
    """What `install.sh` has to know before any Python runs, as lines of NAME=VALUE."""
    facts = {
        "target": statement.target, "counter": statement.counter, "medge": statement.medge,
        "created": int(moment_of(statement.created).timestamp()),
        "bytes": sum(statement.contents().values()), "bootstrap_bytes": bootstrap.stat().st_size,
        "memory": LEAST_MEMORY, "cpu": " ".join(CPU[statement.target]),
    }  # fmt: skip
    return "".join(f"{name}={value}\n" for name, value in facts.items()).encode()


def _medge_version(packages: Path) -> str:
    found = [folder.name.removesuffix(".dist-info") for folder in packages.glob("medge-*.dist-info")]
    if len(found) != 1:
        raise KitError(f"{packages} does not hold medge itself, once; give folders that were made for a kit")
    return found[0].removeprefix("medge-")


def _stick_file(name: str) -> bytes:
    return resources.files(__package__).joinpath(STICK, name).read_bytes()
