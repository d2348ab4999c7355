"""The interpreter and the packages of a kit, unpacked as they will lie on the device."""

from __future__ import annotations

import tarfile
from pathlib import Path

from ...errors import KitError
from ..layout import TargetName

REPOSITORY = Path(__file__).resolve().parents[3]


def interpreter(target: TargetName, scratch: Path) -> Path:
    """The relocatable interpreter for a target, fetched where it is not there yet, and unpacked.

    Raises:
        MedgeError: it can't be had.
    """
    from ..natives import fetch_interpreter

    folder = scratch / "interpreter"
    with tarfile.open(fetch_interpreter(target)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "python"


def packages(target: TargetName, scratch: Path, *, llm: bool, wheel: Path | None = None) -> Path:
    """What the station needs beside the interpreter, installed for a target.

    Args:
        target: the machine.
        scratch: where to make it.
        llm: with the engine of language models.
        wheel: medge's own; made of this checkout where None.

    Raises:
        MedgeError: a wheel can't be had.
    """
    from ..natives import fetch_wheels, install_wheels, medge_wheel

    if wheel is None:
        if not (REPOSITORY / "pyproject.toml").is_file():
            raise KitError("this medge was not installed from a checkout: give its own wheel with --wheel medge-...whl")
        wheel = medge_wheel(REPOSITORY)
    folder = scratch / "packages"
    wheels = [*fetch_wheels(target), wheel]
    if llm:
        from ..natives import llama_wheel

        wheels.append(llama_wheel(target))
    install_wheels(wheels, folder)
    return folder
