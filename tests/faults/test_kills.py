"""A few moments of the kill campaign, those that cost little; `make kill-campaign` tries all commands at many."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import command_line
import pytest
from scripts import load_script

from medge.runtime.bundles.claim import claimed


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_script(Path(__file__).with_name("campaign.py"))


@pytest.fixture(scope="module")
def at(
    campaign: ModuleType, shallow: Path, llm_extra: None, bundle: Path, few_images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:  # fmt: skip
    from gemma_checkpoints import write_small_gemma
    from gemma_shapes import TEXT, VISION

    scratch = tmp_path_factory.mktemp("inputs")
    write_small_gemma(scratch / "gemma", TEXT, VISION)
    return campaign.places(shallow, scratch / "gemma", bundle, few_images, scratch)


@pytest.mark.parametrize(
    ("command", "name", "share"),
    [
        ("index build", "SIGKILL", 0.7),
        ("index add", "SIGTERM", 0.8),
        ("probe fit", "Ctrl-C", 0.5),
        ("embed", "Ctrl-C", 0.1),
    ],
)
def test_killed_and_run_again(
    campaign: ModuleType, at: Any, tmp_path: Path, command: str, name: str, share: float
) -> None:
    job = campaign.jobs(at)[command]
    expected, seconds = campaign.whole(job, tmp_path / "whole")
    moment = campaign.STARTING + share * seconds
    assert list(campaign.problems_of(job, name, moment, tmp_path / "moment", expected)) == []


def test_what_a_campaign_sees(campaign: ModuleType, tmp_path: Path) -> None:
    """A command that prints a traceback, leaves a half-written file under its final name and forgets a scratch file."""
    careless = campaign.Job(lambda p: ["help"], "r.txt", lambda path: {"text": path.read_text()},
                            begin=lambda folder: (folder / "old").touch())  # fmt: skip

    def start(_: object) -> subprocess.Popen[str]:
        [folder] = tmp_path.iterdir()
        code = (
            "import sys, time, pathlib\n"
            f"place = pathlib.Path({str(folder)!r}); (place / 'r.txt').write_text('half'); (place / 'scratch').touch()\n"
            "time.sleep(60)"
        )
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                                preexec_fn=command_line.hears_ctrl_c)  # fmt: skip

    campaign.start, real = start, campaign.start
    try:
        found = list(campaign.problems_of(careless, "Ctrl-C", 1.0, tmp_path / "m", {"text": "whole"}))
    finally:
        campaign.start = real
    assert any(problem.startswith("a traceback: KeyboardInterrupt") for problem in found)
    assert "what stands there was not whole: text" in found


def stopped_when(words: list[object], ready: Callable[[], bool], number: int) -> tuple[int, str]:
    """Run a command, send a signal once `ready`; its exit code and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=command_line.hears_ctrl_c,
    )  # fmt: skip
    while process.poll() is None and not ready():
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


@pytest.mark.parametrize(("name", "code"), [("Ctrl-C", 130), ("SIGKILL", -9)])
def test_a_stopped_calibration_leaves_no_full_model(
    campaign: ModuleType, at: Any, tmp_path: Path, name: str, code: int
) -> None:
    """The full-precision file of a 27B takes 54 GB: a stopped run removes it, a killed one leaves it to the next."""
    text = tmp_path / "text.txt"  # a second's reading, in which the signal comes
    text.write_text("There is a small pleural effusion on the left side.\n" * 30)
    words = ["calibrate", "--checkpoint", at.generator_checkpoint, "--out", tmp_path / "m.gguf", text]
    found, said = stopped_when(words, lambda: any(tmp_path.glob(".*scratch-*/full.gguf")), campaign.SIGNALS[name])
    assert found == code, said
    assert "Traceback" not in said
    if name == "SIGKILL":
        assert list(tmp_path.glob(".*scratch-*/full.gguf"))
        command_line.medge(*words)
    else:
        assert said.endswith("medge: stopped\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"m.gguf", "text.txt"}


def test_two_at_one_place(at: Any, tmp_path: Path) -> None:
    """Each command that writes refuses a place that another process is writing, at once and in words."""
    commands: dict[str, list[object]] = {
        "b": ["export", "medsiglip", "--checkpoint", at.encoder_checkpoint, "--out", tmp_path / "b", "--force"],
        "g": ["export", "medgemma", "--checkpoint", at.generator_checkpoint, "--out", tmp_path / "g"],
        "m": ["calibrate", "--checkpoint", at.generator_checkpoint, "--out", tmp_path / "m", at.text],
        "s": ["distill", "medsiglip", "--teacher", at.encoder_checkpoint, "--images", at.images,
              "--student", "depth=1,width=96,heads=3", "--out", tmp_path / "s"],
        "a.index": ["index", "build", at.bundle, tmp_path / "a.index", at.images],
        "e.safetensors": ["embed", at.bundle, at.images, "--out", tmp_path / "e.safetensors"],
        "p.safetensors": ["probe", "fit", at.bundle, at.labelled, "--out", tmp_path / "p.safetensors"],
        "r.csv": ["classify", at.bundle, at.images, "--label", "x-ray", "--out", tmp_path / "r.csv"],
    }  # fmt: skip
    held, ready = threading.Event(), threading.Event()

    def other() -> None:
        with claimed(tmp_path / name):
            ready.set()
            held.wait()

    for name, words in commands.items():
        held.clear()
        ready.clear()
        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        try:
            said = command_line.medge(*words, code=1).stderr
        finally:
            held.set()
            thread.join()
        assert f"{tmp_path / name} is being written by another medge" in said, name
        assert list(tmp_path.iterdir()) == [], name


def test_no_clock_of_the_wall_is_asked_how_long_something_took() -> None:
    """A clock that jumps, as those of devices without a battery do, must change nothing but the date of a report."""
    root = Path(__file__).parents[2]
    asking = [
        f"{path.relative_to(root)}: {line.strip()}"
        for room in ("runtime", "quant", "export", "src/medge") for path in (root / room).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "time.time(" in line or "datetime.now(" in line or "st_mtime" in line
    ]  # fmt: skip
    allowed = (
        "runtime/bundles/origin.py",
        "runtime/bundles/bundle.py: return found.st_dev",
        "runtime/station/store/clock.py",
        'runtime/station/api/chat.py: head: dict[str, Any] = {"id"',
        "runtime/station/models/catalogue.py: created =",
        "runtime/kit/installation.py: event =",
        "runtime/commands/kit/install.py: stick.absolute()",
        "runtime/commands/kit/installed.py: here, stick, by_trust, clock=",
        "runtime/kit/installing/first.py: here, seen.kit.folder, by_trust, clock=",
    )  # a date; which file it is; dates of what a station holds, and of what it answers in OpenAI's form; of keys and of kits,
    # whose end by the clock can be overruled
    assert [line for line in asking if not line.startswith(allowed)] == []
