"""Make the locks anew: `python -m medge.runtime.kit.natives.lock`, in a checkout, with uv on the path or in this environment.

The newest versions that fit are taken: of medge's dependencies, for each target, and of Debian's packages. Kits are
made of what the locks then name, until this is run again.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ...bundles.atomic import replace_text
from ...bundles.manifest import sha256_file
from . import interpreter, wheels
from .debian import Archive, Package
from .targets import PYTHON_VERSION, TARGETS, Target, run, target_named

EXTRAS = ("station", "llm")
BUILT_HERE = "llama-cpp-python"
ITS_NEEDS = ("diskcache", "typing-extensions")  # those that medge does not need itself
# The newest that qemu of Debian 12 runs, in which what a kit holds for ARM is tested.
HELD = {"linux-aarch64": ("onnxruntime==1.26.0",)}


def requirements(repository: Path) -> list[str]:
    """What medge needs with the extras of a kit, as pyproject.toml says it."""
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *ITS_NEEDS]
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return sorted({one for one in wanted if not one.startswith(BUILT_HERE)})


def lock_wheels(target: Target, repository: Path) -> None:
    """Choose versions, fetch their wheels, and write the lock of a target."""
    with tempfile.TemporaryDirectory(prefix="medge-lock-") as place:
        folder = Path(place)
        (folder / "wanted.in").write_text("\n".join([*requirements(repository), *HELD.get(target.name, ())]) + "\n")
        uv = Path(sys.executable).parent / "uv"
        pins = run(
            [uv if uv.exists() else "uv", "pip", "compile", "-q", "--no-header", "--no-annotate", "--only-binary", ":all:",
             "--python-version", PYTHON_VERSION, "--python-platform", f"{target.machine}-manylinux_2_28", "wanted.in"],
            purpose=f"choosing versions for {target.name}", folder=folder,
            environment={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"},
        )  # fmt: skip
        (folder / "pins.txt").write_text(pins)
        wheels.download(target, ["-r", str(folder / "pins.txt")], folder)
        files = {_normal(file.name.split("-")[0]): file for file in folder.glob("*.whl")}
        found = []
        for pin in pins.split():
            name, _, version = pin.partition("==")
            file = files[_normal(name)]
            found.append(wheels.LockedWheel(_normal(name), version, sha256_file(file), file.name))
    head = (
        f"# What medge[{','.join(EXTRAS)}] needs on {target.name}, Python {PYTHON_VERSION}; made by {__spec__.name}.\n"
    )
    replace_text(
        wheels.lock_file(target), head + "".join(f"{one}\n" for one in sorted(found, key=lambda one: one.name))
    )


def lock_interpreter(target: Target) -> None:
    """Fetch Debian's newest packages, and write the lock of a target's interpreter."""
    with tempfile.TemporaryDirectory(prefix="medge-lock-") as place:
        folder = Path(place)
        Archive(interpreter.SUITE, target.debian).download(interpreter.PACKAGES, folder)
        found = []
        for deb in folder.glob("*.deb"):
            name, version, _ = deb.name.split("_")
            found.append(Package(name, version.replace("%3a", ":"), sha256_file(deb)))
    found.sort(key=lambda package: package.name)
    python = next(package.version for package in found if package.name == f"python{PYTHON_VERSION}-minimal")
    lock = interpreter.InterpreterLock(python.split("-")[0], interpreter.SUITE, found)
    replace_text(interpreter.lock_file(target), json.dumps(asdict(lock), indent=2) + "\n")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Make all locks."""
    repository = Path.cwd()
    for name in TARGETS:
        lock_interpreter(target_named(name))
        lock_wheels(target_named(name), repository)
        print(f"locks of {name}")


if __name__ == "__main__":
    main()
