"""What a kit is made of is pinned: whole, hashed, of the same packages for each target."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from medge.runtime.errors import KitError
from medge.runtime.kit.natives import interpreter, llama, lock, wheels
from medge.runtime.kit.natives.targets import PYTHON_VERSION, TARGETS, target_named

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", TARGETS)
def test_the_lock_of_wheels_holds_what_pyproject_asks_for(name: str) -> None:
    locked = {wheel.name: wheel for wheel in wheels.locked_wheels(target_named(name))}
    asked = [Requirement(text) for text in lock.requirements(ROOT)]
    assert len(asked) > 20
    for one in asked:
        if one.marker is None or one.marker.evaluate({"python_version": PYTHON_VERSION}):
            assert one.specifier.contains(locked[canonicalize_name(one.name)].version), one


def test_the_engine_of_language_models_is_the_one_that_medge_is_written_for() -> None:
    llm = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["llm"]
    engine = next(Requirement(text) for text in llm if text.startswith(lock.BUILT_HERE))
    assert engine.specifier.contains(llama.WHEEL_VERSION)
    assert f"{lock.BUILT_HERE}=={llama.LLAMA_VERSION} " in llama.SOURCE_LOCK.read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_every_wheel_fits_its_target(name: str) -> None:
    target = target_named(name)
    fitting = {*target.platforms, "any"}
    for wheel in wheels.locked_wheels(target):
        _, version, _, tags = parse_wheel_filename(wheel.file)
        assert str(version) == wheel.version
        assert {tag.platform for tag in tags} & fitting, wheel.file
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)


def test_the_targets_have_the_same_packages() -> None:
    first, second = ({wheel.name for wheel in wheels.locked_wheels(target_named(name))} for name in TARGETS)
    assert first == second


@pytest.mark.parametrize("name", TARGETS)
def test_the_interpreter_is_pinned_package_by_package(name: str) -> None:
    pinned = interpreter.InterpreterLock.read(target_named(name))
    assert {package.name for package in pinned.packages} == set(interpreter.PACKAGES)
    assert pinned.python.startswith(f"{PYTHON_VERSION}.")
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) for package in pinned.packages)


def test_the_compiler_is_pinned() -> None:
    said = llama.TOOLS_LOCK.read_text()
    pins = re.findall(r"^(\w+)==\S+ \\(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+", said, re.MULTILINE)
    assert pins == ["cmake", "ninja", "ziglang"]


def test_a_line_that_pins_no_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "LOCKS", tmp_path)
    (tmp_path / "packages-linux-x86_64.txt").write_text("# a remark\nnumpy>=2\n")
    with pytest.raises(KitError, match="pins no wheel: numpy>=2"):
        wheels.locked_wheels(target_named("linux-x86_64"))


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(KitError, match="linux-x86_64, linux-aarch64"):
        target_named("windows")
