"""llama-cpp-python as a wheel that needs no compiler: built here for a target, with kernels for every kind of its CPUs.

llama.cpp chooses among the kernels when it is opened. Zig's C compiler builds for any Linux on any other, against the
symbols of an old glibc, and brings its own C++ library, so that the wheel needs nothing of the target but libc.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ...bundles.atomic import atomic_file
from ...bundles.manifest import sha256_file
from ...errors import KitError
from ...progress import Progress, no_progress
from .targets import LOCKS, TARGETS, Target, cache_folder, run, target_named

LLAMA_VERSION = "0.3.36"
# As pip orders versions, above the source of the same version: it is another build of it, with a line added.
WHEEL_VERSION = f"{LLAMA_VERSION}+cpus.1"
LIBC = (2, 28)  # what Debian 10, Ubuntu 20.04 and RHEL 8 have
TOOLS_LOCK = LOCKS / "llama-tools.txt"
SOURCE_LOCK = LOCKS / "llama-source.txt"
_RECIPE = Path(__file__).parent / "llama_build"
_LIBRARIES = ("llama", "ggml", "ggml-base", "mtmd")
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "GGML_BACKEND_DL": "ON", "GGML_CPU_ALL_VARIANTS": "ON", "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",  # its own threads serve as well, and libgomp would be a library to carry
    "GGML_CCACHE": "OFF", "LLAMA_OPENSSL": "OFF", "LLAMA_BUILD_APP": "OFF", "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_EXAMPLES": "OFF", "LLAMA_BUILD_SERVER": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_TOOLS": "OFF",
}  # fmt: skip
# What __FILE__ says would otherwise name a folder of this machine.
_FLAGS = "-g0 -ffile-prefix-map={source}=llama-cpp-python"
# Zig names an ARM by its CPU and features: -march=armv8.2-a+dotprod+fp16 is -mcpu=generic+v8_2a+dotprod+fullfp16 there.
_COMPILER = """#!/bin/sh
for word do
  shift
  case $word in
    -march=armv*)
      word=$(echo "$word" | sed -e 's/^-march=arm/-mcpu=generic+/' -e 's/-a/a/' -e 's/\\./_/' -e 's/+fp16/+fullfp16/') ;;
  esac
  set -- "$@" "$word"
done
exec {zig} {words} "$@"
"""
_MOMENT = (2020, 1, 1, 0, 0, 0)  # of each member of the wheel
_PARALLEL = 2


def llama_wheel(target: str, cache: Path | None = None) -> Path:
    """The wheel that was built for a target.

    Raises:
        KitError: no such target; it has not been built yet.
    """
    machine = target_named(target)
    wheel = _wheel_file(machine, cache or cache_folder())
    if not wheel.exists():
        raise KitError(
            f"llama-cpp-python has not been built for {target}: run `make wheels`, which takes about half an hour on two cores "
            f"and keeps it in {wheel.parent}"
        )
    return wheel


def build_llama_wheel(
    target: str, cache: Path | None = None, *, progress: Progress = no_progress, jobs: int = _PARALLEL
) -> Path:
    """Build the wheel for a target, unless it is there. A build that was stopped goes on where it was.

    Args:
        target: "linux-x86_64" or "linux-aarch64".
        cache: where it is kept; `cache_folder()` by default.
        progress: told after each step of the build.
        jobs: compilers at the same time.

    Raises:
        KitError: no such target; the source or the compiler can't be had; the build fails.
    """
    machine, folder = target_named(target), cache or cache_folder()
    wheel = _wheel_file(machine, folder)
    if wheel.exists():
        return wheel
    work = folder / "llama" / _recipe_hash(machine)
    tools, source = _tools(folder), _source(folder)
    built = work / target
    programs = _compilers(machine, tools, work / f"{target}-programs")
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    purpose = f"building llama.cpp for {target}"
    flags = _FLAGS.format(source=source)
    options = {
        **_OPTIONS, "LLAMA_SOURCE": source, "CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": machine.machine,
        "CMAKE_MAKE_PROGRAM": tools / "ninja", "CMAKE_C_FLAGS": flags, "CMAKE_CXX_FLAGS": flags,
        "CMAKE_SHARED_LINKER_FLAGS": "-s -pthread", "CMAKE_MODULE_LINKER_FLAGS": "-s -pthread",
        # What only asks whether something compiles is not linked: Zig would build its C++ library anew for each kind of CPU.
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        **{f"CMAKE_{name}": path for name, path in programs.items()},
    }  # fmt: skip
    words = [f"-D{name}={value}" for name, value in options.items()]
    run([tools / "cmake", "-S", _RECIPE, "-B", built, "-G", "Ninja", *words], purpose=purpose, environment=environment)
    names = [*_LIBRARIES, *(f"ggml-cpu-{variant}" for variant in machine.variants)]
    for done, name in enumerate(names):
        progress("libraries of llama.cpp", done, len(names))
        run([tools / "ninja", "-C", built, "-j", str(jobs), name], purpose=purpose, environment=environment)
    progress("libraries of llama.cpp", len(names), len(names))
    libraries = {f"lib{name}.so": next(built.rglob(f"lib{name}.so")) for name in names}
    _check(libraries)
    _write_wheel(wheel, _members(source, libraries))
    return wheel


def _wheel_file(target: Target, folder: Path) -> Path:
    tag = f"py3-none-manylinux_{LIBC[0]}_{LIBC[1]}_{target.machine}"
    return folder / "wheels" / "llama" / _wheel_hash(target) / f"llama_cpp_python-{WHEEL_VERSION}-{tag}.whl"


def _recipe_hash(target: Target) -> str:
    """Names what the libraries follow from: options, the compiler and the source."""
    said = json.dumps([WHEEL_VERSION, LIBC, _OPTIONS, _FLAGS, target.variants])
    whole = hashlib.sha256(said.encode())
    for path in (_RECIPE / "CMakeLists.txt", _RECIPE / "backends.txt", TOOLS_LOCK, SOURCE_LOCK):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def _wheel_hash(target: Target) -> str:
    """Names what a wheel follows from: its libraries, and what is added to the package."""
    added = [path.read_bytes() for path in sorted(_RECIPE.glob("*.txt"))]
    return hashlib.sha256(b"".join([_recipe_hash(target).encode(), *added])).hexdigest()[:12]


def _tools(folder: Path) -> Path:
    """The programs of an environment with Zig, CMake and Ninja, whose wheels are pinned."""
    place = folder / "tools" / sha256_file(TOOLS_LOCK)[:12]
    ready = place / ".ready"
    if not ready.exists():
        purpose = "fetching the compiler of llama.cpp"
        run([sys.executable, "-m", "venv", "--clear", place], purpose=purpose)
        run(
            [place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:",
             "--require-hashes", "-r", TOOLS_LOCK],
            purpose=purpose,
        )  # fmt: skip
        ready.touch()
    return place / "bin"


def _source(folder: Path) -> Path:
    """The unpacked source of llama-cpp-python, which is pinned, too, without the CPU variants that no target has."""
    said = os.environ.get("MEDGE_WHEELS")
    name = f"llama_cpp_python-{LLAMA_VERSION}"
    wanted = _source_hash()
    variants = sorted({variant for target in TARGETS for variant in target_named(target).variants})
    place = folder / "llama" / f"{name}-{hashlib.sha256(' '.join([wanted, *variants]).encode()).hexdigest()[:12]}"
    if not place.exists():
        kept = [path / f"{name}.tar.gz" for path in (Path(said) if said else folder, folder / "llama")]
        archive = next((path for path in kept if path.exists() and sha256_file(path) == wanted), None)
        with tempfile.TemporaryDirectory(prefix=".source-", dir=_made(folder / "llama")) as scratch:
            if archive is None:
                run(
                    [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
                     "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "-d", scratch, "-r", SOURCE_LOCK],
                    purpose="fetching llama.cpp's source",
                )  # fmt: skip
                archive = Path(scratch) / f"{name}.tar.gz"
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
            _leave_out(Path(scratch) / name / "vendor" / "llama.cpp" / "ggml" / "src" / "CMakeLists.txt", variants)
            (Path(scratch) / name).rename(place)
    return place


def _leave_out(recipe: Path, variants: list[str]) -> None:
    """Let llama.cpp's own build make no other CPU variants than these: it knows all of them or none."""

    def kept(match: re.Match[str]) -> str:
        return match[0] if match[2] in variants else f"{match[1]}# left out: {match[2]}"

    text, found = re.subn(r"(?m)^( *)ggml_add_cpu_backend_variant\((\S+?)(?:\s.*)?\)$", kept, recipe.read_text())
    if not found:
        raise KitError(f"{recipe} has no list of CPU variants where it was expected")
    recipe.write_text(text)


def _source_hash() -> str:
    match = re.search(r"--hash=sha256:([0-9a-f]{64})", SOURCE_LOCK.read_text())
    if match is None:
        raise KitError(f"{SOURCE_LOCK} names no hash")
    return match[1]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compilers(target: Target, tools: Path, folder: Path) -> dict[str, Path]:
    """{CMake's name: program} of scripts that call Zig for the target."""
    zig = next(tools.parent.glob("lib/python*/site-packages/ziglang/zig"))
    aim = f"-target {target.triplet}.{LIBC[0]}.{LIBC[1]}"
    calls = {"C_COMPILER": f"cc {aim}", "CXX_COMPILER": f"c++ {aim}", "AR": "ar", "RANLIB": "ranlib"}
    found = {}
    for name, words in calls.items():
        found[name] = _made(folder) / name.lower()
        found[name].write_text(_COMPILER.format(zig=shlex.quote(str(zig)), words=words))
        found[name].chmod(0o755)
    return found


def _check(libraries: Mapping[str, Path]) -> None:
    """Refuse a library that needs a newer libc than the wheel's name says, or another library of the machine's."""
    for name, path in libraries.items():
        content = path.read_bytes()
        found = re.findall(rb"\0GLIBC_(\d+)\.(\d+)", content)
        newest = max(((int(major), int(minor)) for major, minor in found), default=(0, 0))
        foreign = re.findall(rb"\0(lib(?:gomp|omp|stdc\+\+|gcc_s|c\+\+)\.so[.\d]*)\0", content)
        if newest > LIBC or foreign:
            raise KitError(f"{name} needs {foreign or newest} of the machine, which the wheel must not")


def _members(source: Path, libraries: Mapping[str, Path]) -> dict[str, bytes]:
    """{path in the wheel: content}: the package, the libraries, and what pip wants to know."""
    members = {}
    for path in sorted((source / "llama_cpp").rglob("*")):
        if path.is_file() and path.suffix in (".py", ".typed"):
            members[path.relative_to(source).as_posix()] = path.read_bytes()
    # At the end: whoever imports any part of the package has the kernels then.
    for name in ("backends", "quietly"):
        members[f"llama_cpp/_{name}.py"] = (_RECIPE / f"{name}.txt").read_bytes()
    members["llama_cpp/__init__.py"] += b"\nfrom . import _quietly\n"
    members |= {f"llama_cpp/lib/{name}": path.read_bytes() for name, path in libraries.items()}
    about = f"llama_cpp_python-{WHEEL_VERSION}.dist-info"
    said = (source / "PKG-INFO").read_bytes()
    members[f"{about}/METADATA"] = re.sub(rb"(?m)^Version: .*$", f"Version: {WHEEL_VERSION}".encode(), said, count=1)
    members[f"{about}/licenses/LICENSE.md"] = (source / "LICENSE.md").read_bytes()
    members[f"{about}/licenses/llama.cpp/LICENSE"] = (source / "vendor" / "llama.cpp" / "LICENSE").read_bytes()
    return members


def _write_wheel(wheel: Path, members: dict[str, bytes]) -> None:
    about = f"llama_cpp_python-{WHEEL_VERSION}.dist-info"
    tag = wheel.stem.split("-", 2)[2]
    members[f"{about}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: medge\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = f"{about}/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(members.items())]
    members[record] = "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()
    with atomic_file(wheel) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, content in sorted(members.items()):
            member = zipfile.ZipInfo(name, _MOMENT)
            member.external_attr, member.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, content, compresslevel=9)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
