"""Kill medge's writing commands at random moments, and see what is left: `make kill-campaign MOMENTS=200`.

Each moment is drawn from a seed and its number: a command, a signal, and a share of the time that the command takes. After the
signal nothing may stand under the final name unless it is whole, no traceback may be printed, and a process that could clean up
must have done so; then the same command runs again, must end well with the result of a run that nobody stopped, and must leave
nothing else. Every moment is a line of a file: a campaign that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
ALLOWED_CODES = {"SIGKILL": {-9}, "SIGTERM": {143, -15}, "Ctrl-C": {130, -2}}
# The least time: before it Python itself is starting, and answers a signal as it likes.
STARTING = 0.4  # seconds
ROUNDING = 1e-5  # sums of float32 that a resumed matrix or a second process adds up in another order


@dataclass(frozen=True)
class Places:
    """What the commands work on."""

    encoder_checkpoint: Path
    generator_checkpoint: Path
    bundle: Path
    images: Path
    labelled: Path
    text: Path
    index: Path


@dataclass(frozen=True)
class Job:
    """A command that writes.

    Attributes:
        words: the command, given the folder that it works in.
        final: the name of what it makes.
        read: what of the result must be equal, as arrays or texts.
        stays: beginnings of other names that may be there, to go on with.
        begin: what lies in the folder before.
    """

    words: Callable[[Path], Sequence[object]]
    final: str
    read: Callable[[Path], Mapping[str, Any]]
    stays: tuple[str, ...] = ()
    begin: Callable[[Path], object] = lambda folder: None


def read_bundle(folder: Path) -> dict[str, Any]:
    """The hashes of a bundle's models, checked against its files."""
    from medge.runtime.bundles.bundle import Bundle

    bundle = Bundle.open(folder, allow_failed_parity=True)
    return {
        entry.path: entry.sha256 for entry in bundle.manifest.files if entry.path.endswith((".onnx", ".gguf", ".data"))
    }


def read_tensors(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {name: array for file in files for name, array in load_file(file).items()}


def read_index(path: Path) -> dict[str, Any]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        rows = connection.execute("SELECT path, vector FROM items").fetchall()
    finally:
        connection.close()
    return {Path(name).name: np.frombuffer(vector, np.float32) for name, vector in rows}


def read_matrix(path: Path) -> dict[str, Any]:
    from medge.quant.gguf_file.importance import Importance

    found = Importance.load(path)
    return {name: found.mean(name) for name in found.sums} | {"chunks": np.array(found.chunks)}


def jobs(at: Places) -> dict[str, Job]:
    """The commands of a campaign by name."""
    small = ("--steps", 6, "--batch", 4, "--save-every", 2)
    return {
        "embed": Job(
            lambda p: ["embed", at.bundle, at.images, "--out", p / "e.safetensors"], "e.safetensors", read_tensors,
            (".e.safetensors.rows",),
        ),
        "probe fit": Job(
            lambda p: ["probe", "fit", at.bundle, at.labelled, "--out", p / "p.safetensors"], "p.safetensors", read_tensors
        ),
        "index build": Job(
            lambda p: ["index", "build", at.bundle, p / "a.index", at.images], "a.index", read_index, (".a.index.building",)
        ),
        "index add": Job(
            lambda p: ["index", "add", at.bundle, p / "a.index", at.images], "a.index", read_index, ("a.index-journal",),
            lambda p: shutil.copy(at.index, p / "a.index"),
        ),
        "export medsiglip": Job(
            lambda p: [
                "export", "medsiglip", "--checkpoint", at.encoder_checkpoint, "--calibration", at.images, "--out", p / "b",
            ],
            "b", read_bundle,
        ),
        "export medgemma": Job(
            lambda p: [
                "export", "medgemma", "--checkpoint", at.generator_checkpoint, "--recipe", "q4_k_m", "--calibration", at.text,
                "--skip-parity", "--out", p / "g",
            ],
            "g", read_bundle,
        ),
        "calibrate": Job(
            lambda p: ["calibrate", "--checkpoint", at.generator_checkpoint, "--out", p / "m.gguf", at.text, at.images],
            "m.gguf", read_matrix,
        ),
        "distill medsiglip": Job(
            lambda p: [
                "distill", "medsiglip", "--teacher", at.encoder_checkpoint, "--images", at.images,
                "--student", "depth=1,width=96,heads=3", *small, "--out", p / "s",
            ],
            "s", read_tensors, ("s.work",),
        ),
    }  # fmt: skip


def start(words: Sequence[object]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "medge", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
    )  # fmt: skip


def problems_of(job: Job, name: str, moment: float, folder: Path, expected: Mapping[str, Any]) -> Iterator[str]:
    """Stop a command after `moment` seconds by a signal, run it again, and yield what is wrong."""
    folder.mkdir(parents=True)
    job.begin(folder)
    before = sorted(path.name for path in folder.iterdir())
    process = start(job.words(folder))
    try:
        said = process.communicate(timeout=moment)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(SIGNALS[name])
        said = process.communicate()[1]
    code = process.returncode
    if code not in ALLOWED_CODES[name] | {0, 3, 4}:
        yield f"exit code {code}: {said.strip().splitlines()[-1:]}"
    if "Traceback" in said:
        yield f"a traceback: {said.strip().splitlines()[-1]}"
    left = {path.name for path in folder.iterdir()}
    if job.final in left and job.final not in before:
        yield from differences("what stands there was not whole", job.read(folder / job.final), expected)
    if name != "SIGKILL" and code not in (-2, -15):
        yield from strangers("left", job, left, before)
    if job.final not in before and job.final in left:
        return
    again = start(job.words(folder))
    said = again.communicate()[1]
    if again.returncode not in (0, 3, 4):
        yield f"the second run: {said.strip().splitlines()[-1:]}"
        return
    yield from differences("the second run gave another result", job.read(folder / job.final), expected)
    yield from strangers("left after the second run", job, {path.name for path in folder.iterdir()}, [])


def strangers(what: str, job: Job, names: set[str], before: Sequence[str]) -> Iterator[str]:
    for name in sorted(names - {job.final, *before}):
        if not name.startswith(job.stays or ("\0",)):
            yield f"{what}: {name}"


def differences(what: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    if found.keys() != expected.keys():
        yield f"{what}: {sorted(found.keys() ^ expected.keys())[:3]}"
        return
    for name, value in expected.items():
        same = (
            np.allclose(found[name], value, rtol=ROUNDING, atol=ROUNDING)
            if isinstance(value, np.ndarray)
            else found[name] == value
        )
        if not same:
            yield f"{what}: {name}"
            return


def whole(job: Job, folder: Path) -> tuple[Mapping[str, Any], float]:
    """What a run that nobody stops gives, and how long it takes in seconds."""
    folder.mkdir(parents=True)
    job.begin(folder)
    begun = time.monotonic()
    process = start(job.words(folder))
    said = process.communicate()[1]
    assert process.returncode in (0, 3, 4), said
    return job.read(folder / job.final), time.monotonic() - begun


def campaign(at: Places, count: int, log: Path, seed: int, scratch: Path, only: Sequence[str] = ()) -> None:
    """Go through moments 0 to `count`, those that the log has excepted; each is a line of the log."""
    table = {name: job for name, job in jobs(at).items() if not only or name in only}
    done = {json.loads(line)["moment"] for line in log.read_text().splitlines()} if log.exists() else set()
    known: dict[str, tuple[Mapping[str, Any], float]] = {}
    for moment in range(count):
        if moment in done:
            continue
        draw = random.Random(f"{seed}/{moment}")
        command, name, share = draw.choice(list(table)), draw.choice(list(SIGNALS)), draw.random()
        if command not in known:
            known[command] = whole(table[command], scratch / f"whole-{len(known)}")
        expected, seconds = known[command]
        folder = scratch / f"moment-{moment}"
        found = list(problems_of(table[command], name, STARTING + share * seconds, folder, expected))
        shutil.rmtree(folder)
        row = {
            "moment": moment, "command": command, "signal": name, "share": round(share, 3), "problems": found,
            "date": datetime.date.today().isoformat(),
        }  # fmt: skip
        with log.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(f"{moment + 1} of {count}: {command}, {name} at {share:.2f}: {'; '.join(found) or 'well'}", flush=True)


def prepare(scratch: Path) -> Places:
    """Make what the commands work on, of the smallest models."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import pydicom.data
    from gemma_checkpoints import write_tiny_gemma
    from siglip_checkpoints import write_shallow

    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.export.standin.medgemma_mini import write_medgemma_mini
    from medge.export.standin.write import write_medsiglip_mini

    source = Path(pydicom.data.__file__).parent / "test_files"
    images, bundle = scratch / "images", scratch / "bundle"
    images.mkdir()
    for name in ("CT_small", "MR_small", "examples_rgb_color", "examples_palette", "examples_ybr_color"):
        if (source / f"{name}.dcm").is_file():
            shutil.copy(source / f"{name}.dcm", images)
    write_medsiglip_mini(scratch / "mini")
    write_shallow(scratch / "mini", scratch / "shallow")
    write_medgemma_mini(scratch / "medgemma-mini")
    write_tiny_gemma(scratch / "tiny", scratch / "medgemma-mini")
    shutil.rmtree(scratch / "medgemma-mini")
    export_medsiglip(ExportJob(scratch / "mini", bundle, "int8", calibration=images))
    return places(scratch / "shallow", scratch / "tiny", bundle, images, scratch)


def places(encoder: Path, generator: Path, bundle: Path, images: Path, scratch: Path) -> Places:
    """What else is needed beside models and images: two labels, a text, an index of one image."""
    ct, mr, text = images / "CT_small.dcm", images / "MR_small.dcm", scratch / "text.txt"
    for number, film in enumerate((ct, ct, mr, mr)):
        target = scratch / "labelled" / film.stem / f"{number}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, target)
    text.write_text("The lungs are clear.\nThere is a small pleural effusion on the left side.\n")
    index = scratch / "begun.index"
    process = start(["index", "build", bundle, index, ct])
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return Places(encoder, generator, bundle, images, scratch / "labelled", text, index)


def main() -> None:
    """Run a campaign; docs/make_tables.py puts its table into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--log", type=Path, default=Path("benchmarks/results/kills.jsonl"))
    parser.add_argument("--only", action="append", default=[], help="a command; repeat it")
    parser.add_argument("--inputs", type=Path, help="a folder with shallow, tiny, bundle and images, made before")
    arguments = parser.parse_args()
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as name:
        scratch, given = Path(name), arguments.inputs
        if given is None:
            at = prepare(scratch)
        else:
            at = places(given / "shallow", given / "tiny", given / "bundle", given / "images", scratch)
        campaign(at, arguments.moments, arguments.log, arguments.seed, scratch / "runs", arguments.only)


if __name__ == "__main__":
    main()
