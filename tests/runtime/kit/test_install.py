"""install.sh, the very file that lies on a stick: what it refuses, and a small kit put in, started, and taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest

from medge.runtime.errors import MedgeError
from medge.runtime.kit.admission import this_target
from medge.runtime.kit.building import job as building
from medge.runtime.kit.building.job import BuildJob, build_kit
from medge.runtime.kit.building.makers import Makers
from medge.runtime.kit.installing.service import Places, start_text, unit_text
from medge.runtime.kit.layout import target_named
from medge.runtime.kit.systemd import Scope
from medge.runtime.trust.keys import PrivateKey

STUDY = Path(__file__).parents[2] / "kit_machines" / "study.py"
NOBODY = 12345  # a user that no machine has, so that a test run by root puts nothing into the system
SCRIPT = Path(building.__file__).parent / building.STICK / "install.sh"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
MACHINE = target_named(this_target())


def as_somebody(*words: object, home: Path, said: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who is not root, in a home of their own."""
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*drop, *map(str, words)], capture_output=True, text=True, check=False, cwd="/", timeout=600, input=said,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that another user can pass through, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="medge-kit-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(place: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=place))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# ---- refusals: of a folder that looks like a kit ----

FACTS = {
    "target": MACHINE, "counter": "7", "medge": "1.0", "created": "1700000000", "bytes": "1000000", "bootstrap_bytes": "1000",
    "memory": "1000000000", "cpu": "sse4_2 popcnt" if MACHINE.endswith("x86_64") else "asimd",
}  # fmt: skip


def outline(folder: Path, **changes: str) -> Path:
    """What install.sh looks at before it unpacks anything."""
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    (folder / "facts").write_text("".join(f"{name}={value}\n" for name, value in (FACTS | changes).items()))
    for name in ("kit.json", "bootstrap.tar"):
        (folder / name).write_text(name)
    sums = subprocess.run(["sha256sum", "kit.json", "bootstrap.tar"], cwd=folder, capture_output=True, check=True)
    (folder / "SHA256SUMS").write_bytes(sums.stdout)
    return folder / "install.sh"


@pytest.fixture
def folder(place: Path) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="outline-", dir=place))
    base.chmod(0o755)
    yield base / "stick"
    shutil.rmtree(base)


def shell(name: str) -> list[str]:
    return [name, "sh"] if name == "busybox" else [name]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    ("facts", "words", "code", "why"),
    [
        ({"target": "linux-sparc"}, (), 20, "this kit is for linux-sparc"),
        ({"cpu": "nosuchfeature"}, (), 21, "processor lacks nosuchfeature"),
        ({"memory": "99000000000000"}, (), 22, "of memory and a station needs at least"),
        ({"bytes": "99000000000000000"}, (), 23, "MB free and the station needs"),
        ({"created": "4000000000"}, (), 24, "before this kit was made"),
        ({"bytes": "many"}, (), 25, "facts is damaged"),
        ({"bootstrap_bytes": "99000000000000000"}, (), 26, "where programs may run"),
        ({}, (), 23, "unpacking into"),  # the archive of the outline is none
        ({}, ("--port", "x"), 2, "--port takes a number"),
        ({}, ("--prefix",), 2, "needs a value"),
        ({}, ("--wipe",), 2, "no option '--wipe'"),
        ({}, ("--prefix", "/"), 2, "not the whole disk"),
        ({}, ("--remove",), 2, "holds no station"),
    ],
)
def test_a_machine_that_can_be_no_station_is_told_why(
    name: str, facts: dict[str, str], words: tuple[str, ...], code: int, why: str, folder: Path, home: Path
) -> None:
    done = as_somebody(*shell(name), outline(folder, **facts), *words, home=home)
    assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert done.stderr.count("\n") == 1 or "unpacking" in why  # tar says something of its own
    assert not list(home.iterdir())


def test_a_damaged_copy_is_named(folder: Path, home: Path) -> None:
    script = outline(folder)
    (folder / "kit.json").write_text("KIT.JSON")
    done = as_somebody("sh", script, home=home)
    assert (done.returncode, "kit.json on the stick is damaged" in done.stderr) == (25, True), done.stderr
    (folder / "bootstrap.tar").unlink()
    done = as_somebody("sh", script, home=home)
    assert (done.returncode, "is no whole kit" in done.stderr) == (25, True), done.stderr


# ---- a station, from a stick to a judged study ----


@pytest.fixture(scope="module")
def stick(place: Path, bundle: Path) -> tuple[Path, str]:
    if MACHINE not in ("linux-x86_64", "linux-aarch64"):
        pytest.skip(f"there are no kits for {MACHINE}")
    PrivateKey.make(place / "keys" / "makers.key", "makers")
    makers = Makers.read(place / "keys" / "makers.key", None, lambda: "")
    asked = BuildJob(place / "stick", (bundle,), MACHINE, "2026-11-27T09:00:00Z", 7)
    try:
        build_kit(asked, makers)
    except MedgeError as error:
        pytest.skip(f"the kit's native parts can't be had here: {error}")
    return place / "stick", makers.public.fingerprint


def test_a_kit_becomes_a_station_and_goes_again(stick: tuple[Path, str], home: Path) -> None:
    folder, fingerprint = stick
    script, prefix = folder / "install.sh", home / "the station"
    words = (shutil.which("dash") or "sh", script, "--prefix", prefix, "--no-service", "--port", "18642")

    wrong = as_somebody(*words, "--yes", "--fingerprint", "0" * 64, home=home)
    assert (wrong.returncode, "do not use this stick" in wrong.stderr) == (28, True), wrong.stderr
    declined = as_somebody(*words, home=home, said="yes\nno\n")
    assert (declined.returncode, "nothing was changed" in declined.stderr) == (27, True), declined.stderr
    assert fingerprint in declined.stdout
    assert not list(home.iterdir())

    done = as_somebody(*words, home=home, said="yes\nyes\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.readlink(prefix / "current") == "versions/7"
    assert [path.name for path in home.iterdir()] == ["the station"]  # nothing is left of what the installer ran from

    image = home.parent / "film.dcm"
    shutil.copy(str(pydicom.data.get_testdata_file("CT_small.dcm", download=False)), image)
    shutil.copy(STUDY, home.parent / "study.py")
    judged = as_somebody(sys.executable, home.parent / "study.py", prefix / "start-station", image, 18642, home=home)
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)
    assert (found["state"], found["results"]) == ("done", ["classify"])
    assert not list((prefix / "versions").rglob("*.pyc"))

    gone = as_somebody(*words, "--remove", home=home, said="yes\n")
    assert gone.returncode == 0, gone.stderr
    assert not (prefix / "versions").exists()
    assert not (prefix / "current").is_symlink()
    assert (prefix / "data" / "store").is_dir()


# ---- the service ----

PLACES = Places(Path("/opt/medge"), Path("/var/lib/medge"), 8642, root=True)


def test_the_units_are_what_systemd_reads(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    scopes: tuple[Scope, ...] = ("system", "user")
    for scope in scopes:
        unit = tmp_path / scope / "medge-station.service"
        unit.parent.mkdir()
        text = unit_text(PLACES, scope)
        for program in ("/opt/medge/current/bin/medge",):  # verify looks whether it is there
            text = text.replace(program, "/bin/true")
        unit.write_text(text)
        manager = ["--user"] if scope == "user" else ["--system"]
        done = subprocess.run(
            ["systemd-analyze", *manager, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "medge-station" in line]
        assert not said, said
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / "system" / "medge-station.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = next(line for line in rated.stdout.splitlines() if "exposure level" in line)
    assert float(line.split("service: ")[1].split()[0]) <= 2.0, line  # of 10; systemd calls up to 2 "OK"


def test_a_unit_takes_no_path_that_it_would_read_otherwise() -> None:
    from dataclasses import replace

    with pytest.raises(MedgeError, match="without spaces or quotes"):
        unit_text(replace(PLACES, prefix=Path("/opt/my station")), "system")
    assert "/opt/100%%/current/bin/medge serve" in unit_text(replace(PLACES, prefix=Path("/opt/100%")), "system")
    assert "ProtectHome=read-only" in unit_text(replace(PLACES, data=Path("/home/data")), "system")
    assert "'/opt/my station/current'/bin/medge serve" in start_text(replace(PLACES, prefix=Path("/opt/my station")))
