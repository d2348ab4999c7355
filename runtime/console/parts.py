"""What this installation of medge can do, what it lacks for the rest, and the line that mends it.

What an extra needs is read from medge's own metadata; whether it is here, from the packages'. Only llama.cpp is opened: its
libraries are what a machine may refuse.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MedgeError, one_line

# {extra: what it is for}, in the order in which they are told. What makes bundles is no matter of a device.
PURPOSES = {
    "": "images: classify, index, probes",
    "llm": "language models",
    "station": "the station",
    "trust": "signatures",
    "probe": "fitting a probe",
    "pages": "pages with plots",
    "reports": "scores of reports",
    "parquet": "Parquet",
    "hdf5": "PatchCamelyon",
    "export": "making bundles",
    "kit": "making kits",
}
ENGINE = "llama-cpp-python"
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Part:
    """Something that medge can do with an extra.

    Attributes:
        extra: its name; "" for what needs none.
        purpose: what it is for.
        lacks: what is missing or wrong, a sentence part each.
        mend: the line that mends it; None where nothing lacks.
        remark: what else is worth knowing of it.
    """

    extra: str
    purpose: str
    lacks: list[str] = field(default_factory=list)
    mend: str | None = None
    remark: str | None = None


def parts() -> list[Part]:
    """What medge can do here, and what it lacks for the rest."""
    try:
        medge = metadata.distribution("medge")
    except metadata.PackageNotFoundError:  # run from its source without being installed
        return []
    wanted, known = medge.requires or [], {"", *(medge.metadata.get_all("Provides-Extra") or [])}
    found = []
    for extra, purpose in PURPOSES.items():
        if extra not in known:
            continue
        lacks = lacking(wanted, extra)
        mended = _without_wheel(lacks) if extra == "llm" else None
        remark = None
        if extra == "llm" and not lacks:
            lacks, remark = _opened()
            mended = _other_build() if lacks else None
        found.append(Part(extra, purpose, lacks, (mended or mend(extra)) if lacks else None, remark))
    return found


def lacking(wanted: list[str], extra: str) -> list[str]:
    """What of the requirements of an extra is not here.

    Args:
        wanted: requirements as a package's metadata has them, with their markers.
        extra: its name; "" for what is needed in any case.
    """
    from packaging.requirements import Requirement

    lacks = []
    for text in wanted:
        needed = Requirement(text)
        of_extra = needed.marker is not None and "extra" in str(needed.marker)
        if of_extra != bool(extra) or (needed.marker and not needed.marker.evaluate({"extra": extra})):
            continue
        if needed.name == "medge":  # an extra that holds another one, which has a line of its own
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            lacks.append(f"{needed.name} is not installed")
        else:
            if not needed.specifier.contains(version, prereleases=True):
                lacks.append(f"{needed.name} is {version}, and {needed.specifier} is needed")
    return lacks


def mend(extra: str) -> str:
    """The line that brings an extra to this installation."""
    if (kit := of_kit()) is not None:
        return f"this is {kit}: ask its makers for one that holds this, and run: medge kit apply STICK"
    program = "pip" if shutil.which("pip") else f"{sys.executable} -m pip"
    return f"{program} install 'medge[{extra}]'" if extra else f"{program} install --upgrade medge"


def of_kit() -> str | None:
    """The kit that this interpreter was installed from; None where it is another Python."""
    statement = Path(sys.prefix).parent / "kit.json"
    if not statement.is_file():
        return None
    return f"version {statement.parent.name} of a kit"


def _without_wheel(lacks: list[str]) -> str | None:
    """What mends a missing engine where pip would have to compile it, and can't."""
    if of_kit() or not any(one.startswith(ENGINE) for one in lacks) or any(map(shutil.which, _COMPILERS)):
        return None
    return f"{mend('llm')} --find-links PAGE, the page of wheels of medge's release: there is no C++ compiler here"


def _other_build() -> str:
    if of_kit():
        return mend("llm")
    return f"{mend('llm')} --force-reinstall --no-deps --find-links PAGE, the page of wheels of medge's release"


def _opened() -> tuple[list[str], str | None]:
    """What is wrong with the engine's libraries, and which of its kernels are in use."""
    from ..device.llama_library import kernels, library

    try:
        library()
    except MedgeError as error:
        missing = re.search(r"(lib[\w+.-]+\.so[\w.]*): cannot open shared object", str(error))
        return [
            f"the library {missing[1]} is missing" if missing else one_line(str(error).partition("; medge")[0])
        ], None
    chosen = kernels()
    return [], f"with kernels for {chosen}" if chosen else "compiled for one kind of CPU"
