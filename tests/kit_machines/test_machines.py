"""The stick on machines made for it: no network, no Python, no compiler; install.sh makes each a station, which judges a study.

`make kit-machines` prepares the machines and runs this; it takes root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
from command_line import medge

from medge.runtime.kit.natives import cache_folder

HERE = Path(__file__).parent
ROOTS = Path(os.environ.get("MEDGE_KIT_ROOTS", cache_folder() / "roots"))
pytestmark = [
    pytest.mark.kit_machines,
    pytest.mark.skipif(
        not (ROOTS / ".ready").exists(), reason="bash tests/kit_machines/prepare FOLDER makes the machines"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter the machines"),
]


@dataclass
class Machine:
    """A copy of a machine's root, entered with the stick in it."""

    root: Path
    stick: Path
    qemu: str = ""
    user: str = ""

    def run(self, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(HERE / "enter"), str(self.root), str(self.stick), self.qemu, *words],
            capture_output=True, text=True, check=False, timeout=seconds, env={**os.environ, "MEDGE_USER": self.user},
        )  # fmt: skip

    def install(self, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "/media/stick/install.sh", *words, seconds=seconds)

    def judge(self, prefix: str) -> dict[str, Any]:
        """What the station finds of a study that is sent to it."""
        done = self.run(
            f"{prefix}/current/python/bin/python3",
            "/home/doc/study.py",
            f"{prefix}/start-station",
            "/home/doc/film.dcm",
            "8642",
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@dataclass(frozen=True)
class Stick:
    folder: Path
    fingerprint: str


@pytest.fixture(scope="module")
def stick(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Stick:
    return made(bundle, tmp_path_factory.mktemp("stick"), "linux-x86_64")


def made(bundle: Path, place: Path, target: str) -> Stick:
    key = json.loads(medge("keys", "new", "Makers", "--out", place / "makers.key", "--json").stdout)
    words = ("--bundle", bundle, "--key", place / "makers.key", "--target", target, "--created", "2026-11-27T09:00:00Z")
    told = json.loads(medge("kit", "build", *words, "--out", place / "kit", "--json").stdout)
    assert told["fingerprint"] == key["fingerprint"]
    return Stick(place / "kit", told["fingerprint"])


def machine(name: str, place: Path, stick: Stick, **facts: str) -> Machine:
    root = place / name
    subprocess.run(["cp", "-a", str(ROOTS / name), str(root)], check=True)
    home = root / "home" / "doc"
    home.mkdir(parents=True)
    shutil.copy(HERE / "study.py", home)
    shutil.copy(str(pydicom.data.get_testdata_file("CT_small.dcm", download=False)), home / "film.dcm")
    os.chown(home, 1000, 1000)
    for path in (place, place.parent, place.parent.parent):
        path.chmod(0o755)  # the machine's user passes through
    return Machine(root, stick.folder, **facts)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)  # a gigabyte each


@pytest.mark.parametrize("name", ["debian-12", "debian-13"])
def test_a_bare_debian_becomes_a_station(name: str, place: Path, stick: Stick) -> None:
    here = machine(name, place, stick)
    bare = here.run(
        "sh", "-c", "for one in python3 gcc cc pip pip3 curl wget; do command -v $one; done; cat /proc/net/dev"
    )
    assert not [line for line in bare.stdout.splitlines() if line.startswith("/")]
    assert [line.split(":")[0].strip() for line in bare.stdout.splitlines() if ":" in line] == ["lo"]
    refused = here.install("--yes")
    assert refused.returncode == 28, refused.stdout
    assert "ask them for its fingerprint" in refused.stderr
    tried = here.install("--dry-run", "--fingerprint", stick.fingerprint)
    assert tried.returncode == 0, tried.stderr
    assert "Nothing was changed." in tried.stdout
    assert not (here.root / "opt" / "medge").exists()
    done = here.install("--yes", "--fingerprint", stick.fingerprint)
    assert done.returncode == 0, done.stderr
    found = here.judge("/opt/medge")
    assert (found["state"], found["results"], found["links"], found["routes"]) == ("done", ["classify"], ["lo"], 0)
    owner = (here.root / "var/lib/medge/store").stat().st_uid
    assert f"medge:x:{owner}:" in (here.root / "etc/passwd").read_text()
    assert owner != 0
    assert not [path for path in (here.root / "opt/medge").rglob("*") if path.lstat().st_uid != 0]
    assert not list((here.root / "var/tmp").iterdir())  # what the installer ran from is gone
    gone = here.install("--remove", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert not (here.root / "opt/medge/versions").exists()
    assert (here.root / "var/lib/medge/store").is_dir()


def test_busybox_alone_is_enough_for_one_user(place: Path, stick: Stick) -> None:
    here = machine("busybox", place, stick, user="1000")
    done = here.install("--yes", "--fingerprint", stick.fingerprint)
    assert done.returncode == 0, done.stderr
    found = here.judge("/home/doc/.local/share/medge")
    assert (found["state"], found["results"], found["uid"]) == ("done", ["classify"], "1000")


def test_a_stick_that_is_pulled_out_is_put_in_again(place: Path, stick: Stick) -> None:
    half = place / "half"
    shutil.copytree(stick.folder, half, copy_function=os.link)
    here = machine("debian-13", place, Stick(half, stick.fingerprint))
    last = sorted((half / "pieces").iterdir())[-60:]
    (place / "gone").mkdir()
    for folder in last:
        folder.rename(place / "gone" / folder.name)
    words = ("--yes", "--fingerprint", stick.fingerprint)
    broken = here.install(*words)
    assert broken.returncode == 25, broken.stderr
    for folder in last:
        (place / "gone" / folder.name).rename(half / "pieces" / folder.name)
    assert here.install(*words).returncode == 0


def test_an_arm_machine_under_the_emulator(place: Path, bundle: Path) -> None:
    """Looked at, and the signature checked, by the aarch64 Python of the stick; the whole takes the emulator too long."""
    stick = made(bundle, place, "linux-aarch64")
    here = machine("debian-13-arm", place, stick, qemu=str(ROOTS / "tools/usr/bin/qemu-aarch64-static"))
    tried = here.install("--dry-run", "--fingerprint", stick.fingerprint, seconds=1500)
    assert tried.returncode == 0, tried.stderr
    assert "ok   processor: linux-aarch64" in tried.stdout
    wrong = machine("debian-13", place, stick)
    refused = wrong.install("--yes", "--fingerprint", stick.fingerprint)
    assert (refused.returncode, "ask for a kit for linux-x86_64" in refused.stderr) == (20, True)
