"""llama-cpp-python as it was built for this kind of machine: it opens the kernels that fit, and answers with each of them.

Skipped where `make wheels` has not been run. A question takes ten seconds of a core: two variants are asked, all of them where
MEDGE_EVERY_VARIANT is set.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from medge.runtime.errors import KitError
from medge.runtime.kit.natives import TARGETS, install_wheels, llama_wheel, target_named
from medge.runtime.kit.natives.llama import LIBC, WHEEL_VERSION

HERE = f"linux-{platform.machine()}"
QUESTION = "what are the signs of a pneumothorax?"
# What Linux calls the features that a variant needs; of ARM's only the first runs everywhere.
NEEDS = {
    "x64": set(), "sse42": {"sse4_2"}, "sandybridge": {"avx"}, "haswell": {"avx2", "fma", "f16c", "bmi2"},
    "alderlake": {"avx_vnni", "avx2"}, "skylakex": {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"},
    "icelake": {"avx512f", "avx512vbmi", "avx512_vnni"}, "zen4": {"avx512f", "avx512vbmi", "avx512_vnni", "avx512_bf16"},
    "armv8.0_1": set(), "armv8.2_1": {"asimddp"}, "armv8.2_2": {"asimddp", "asimdhp"},
    "armv8.6_1": {"asimddp", "asimdhp", "sve", "i8mm"}, "armv8.6_2": {"asimddp", "asimdhp", "sve", "i8mm", "sve2"},
}  # fmt: skip


EVERY = target_named(HERE).variants if HERE in TARGETS and os.environ.get("MEDGE_EVERY_VARIANT") else ()


def best() -> str:
    """The last of the variants that this CPU can run: they are listed from old to new."""
    return [variant for variant in target_named(HERE).variants if NEEDS[variant] <= features()][-1]


def built(target: str) -> Path:
    try:
        return llama_wheel(target)
    except KitError as error:
        pytest.skip(str(error))


def features() -> set[str]:
    found: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            found.update(values.split())
    return found


@dataclass(frozen=True)
class Engine:
    """The wheel, laid out."""

    folder: Path

    def only(self, variant: str) -> None:
        """Hide all kernels but a variant's."""
        for library in self.folder.glob("llama_cpp/lib/*libggml-cpu-*"):
            name = library.name.removesuffix(".hidden")
            library.rename(library.with_name(name if name == f"libggml-cpu-{variant}.so" else f"{name}.hidden"))

    def medge(self, *words: object) -> subprocess.CompletedProcess[str]:
        search = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "medge", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": search}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def engine(self) -> dict[str, object]:
        """What `medge doctor` says of it."""
        told = json.loads(self.medge("doctor", "--json").stdout)["parts"]
        return next(part for part in told if part["extra"] == "llm")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("engine")
    install_wheels([built(HERE)], folder)
    return Engine(folder)


@pytest.mark.parametrize("target", TARGETS)
def test_a_wheel_holds_the_kernels_of_its_target_and_no_library_twice(target: str) -> None:
    wheel = built(target)
    machine = target_named(target)
    with zipfile.ZipFile(wheel) as archive:
        libraries = [Path(name) for name in archive.namelist() if ".so" in name]
        contents = {path.name: archive.read(path.as_posix()) for path in libraries}
    kernels = {f"libggml-cpu-{variant}.so" for variant in machine.variants}
    assert set(contents) == {"libllama.so", "libggml.so", "libggml-base.so", "libmtmd.so"} | kernels
    assert wheel.name.endswith(f"-manylinux_{LIBC[0]}_{LIBC[1]}_{machine.machine}.whl")
    elf = {"x86_64": 62, "aarch64": 183}[machine.machine]
    for name, content in contents.items():
        assert content[:4] == b"\x7fELF", name
        assert int.from_bytes(content[18:20], "little") == elf, name
        assert os.fsencode(Path.home()) not in content, name


def test_the_best_kernels_for_this_cpu_are_chosen(engine: Engine) -> None:
    there = features()
    runs = [variant for variant in target_named(HERE).variants if NEEDS[variant] <= there]
    assert runs
    chosen = str(engine.engine()["remark"]).removeprefix("with kernels for ")
    assert chosen in runs
    better = [variant for variant in runs if NEEDS[variant] > NEEDS[chosen]]
    assert not better


@pytest.mark.parametrize("variant", target_named(HERE).variants if HERE in TARGETS else ())
def test_the_stand_in_answers_on_each_variant(engine: Engine, request: pytest.FixtureRequest, variant: str) -> None:
    """At temperature 0 the answers agree; a CPU that lacks what a variant needs is told so in one sentence."""
    engine.only(variant)
    told = engine.engine()
    if not NEEDS[variant] <= features():
        assert told["lacks"] == ["this llama-cpp-python has no kernels for this CPU"]
        return
    assert told["lacks"] == []
    assert told["remark"] == f"with kernels for {variant}"
    if variant not in (target_named(HERE).variants[0], best(), *EVERY):
        return
    reader = request.getfixturevalue("reader")  # not before it is known that there is a wheel to be tested
    done = engine.medge("ask", reader, QUESTION, "--limit", 16, "--context", 512)
    assert done.returncode in (0, 3), done.stderr  # 3: the limit cut the answer off
    assert len(done.stdout.split()) > 3
    assert "load_backend" not in done.stderr
    first = ANSWERS.setdefault(reader, (variant, done.stdout))
    assert done.stdout == first[1], f"{variant} and {first[0]} differ"


ANSWERS: dict[Path, tuple[str, str]] = {}


def test_pip_prefers_the_wheel_to_the_source(tmp_path: Path) -> None:
    """What satisfies `==0.3.36` and is there as a wheel is taken, though the source of 0.3.36 lies beside it."""
    wheel = built(HERE)
    (tmp_path / wheel.name).symlink_to(wheel)
    (tmp_path / "llama_cpp_python-0.3.36.tar.gz").write_bytes(b"no archive")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "--ignore-installed",
         "--disable-pip-version-check", "--find-links", tmp_path, "llama-cpp-python==0.3.36"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"Would install llama_cpp_python-{WHEEL_VERSION}" in done.stdout.replace(
        "llama-cpp-python", "llama_cpp_python"
    )
