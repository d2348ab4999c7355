"""Kill installing, updating and going back at random points, and see what is left: `make kit-kill-campaign`.

A run's file-system operations are counted as it does them: every file that is opened to be written, every rename, link, removal
and flush, every program that it starts, every database that it opens. A point is an operation's number, before which the run
kills itself with SIGKILL; it is drawn from a seed and the moment's number. Every fourth moment is a time instead, after which
the run and the programs that it has started are all killed, also in the middle of a write or of a change of the store's tables.

After each, the version that `current` names must be whole, and the old one or the new one; it must be able to read the store;
studies, users, settings and keys must be what they were. Then the same command runs again, must end well with the new version,
and must leave nothing else. Every moment is a line of a file: a campaign that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JOBS = ("install", "update", "rollback")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_COUNTED = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "subprocess.Popen", "sqlite3.connect",
}  # fmt: skip


def count_operations(stop_at: int) -> list[int]:
    """Count this process's operations from now on; before the one with the number `stop_at` it kills itself."""
    total = [0]

    def one() -> None:
        total[0] += 1
        if total[0] == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in _COUNTED or (event == "open" and isinstance(given[2], int) and given[2] & _WRITING):
            one()

    sys.addaudithook(hook)
    for name in ("fsync", "sync"):  # these tell no hook
        real = getattr(os, name)
        setattr(os, name, lambda *given, real=real: (one(), real(*given))[1])
    return total


def run_one(job: str, prefix: Path, stick: Path, stop_at: int) -> None:
    """What a moment runs in a process of its own; prints how many operations it took."""
    import kits

    from medge.runtime.kit.change import rollback
    from medge.runtime.kit.installation import Installation

    here = Installation.open(prefix)
    total = count_operations(stop_at)
    if job == "rollback":
        rollback(here)
    else:
        kits.bring(here, stick)
    print(total[0])


@dataclass(frozen=True)
class Begin:
    """What a job begins with: a prefix to copy, and a stick; which versions may run after a kill, and which at the end."""

    prefix: Path
    stick: Path
    allowed: frozenset[int | None]
    final: int
    operations: int
    seconds: float


def prepare(scratch: Path) -> dict[str, Begin]:
    """Make the beginnings, and run each job once to its end."""
    import kits

    newer = kits.Behaviour(schema=len(kits.STEPS) + 1, seconds=0.05)
    kits.make_kit(scratch / "one", 1, kits.Behaviour(seconds=0.05))
    kits.make_kit(scratch / "two", 2, newer)
    bare, first, second = (scratch / f"begin-{name}" for name in JOBS)
    kits.installed(bare)
    for prefix, source, stick in ((first, bare, "one"), (second, first, "two")):
        kits.bring(copied(source, prefix), scratch / stick)
    found = {}
    for job, prefix, stick, allowed, final in (
        ("install", bare, "one", {None, 1}, 1), ("update", first, "two", {1, 2}, 2), ("rollback", second, "two", {2, 1}, 1),
    ):  # fmt: skip
        copied(prefix, scratch / f"whole-{job}")
        begun = time.monotonic()
        ended = start(job, scratch / f"whole-{job}", scratch / stick, 0).communicate()
        assert ended[0].strip().isdecimal(), ended[1]
        found[job] = Begin(
            prefix, scratch / stick, frozenset(allowed), final, int(ended[0]), time.monotonic() - begun
        )  # fmt: skip
    return found


def copied(source: Path, to: Path) -> Any:
    """A copy of an installation, with links as links."""
    from medge.runtime.kit.installation import Installation

    shutil.copytree(source, to, symlinks=True)
    here = Installation.open(to)
    here.save(data=str(to / "data"))
    return here


def start(job: str, prefix: Path, stick: Path, stop_at: int) -> subprocess.Popen[str]:
    # Modules that Python compiled and kept on the way would be among the operations, once.
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, __file__, "--one", job, str(prefix), str(stick), str(stop_at)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **own},
    )  # fmt: skip


def problems_of(
    job: str, begin: Begin, folder: Path, *, stop_at: int = 0, seconds: float | None = None
) -> Iterator[str]:
    """Kill a job before an operation, or after a time; run it again; yield what is wrong."""
    import kits

    here = copied(begin.prefix, folder)
    before = kits.own(here)
    process = start(job, folder, begin.stick, stop_at)
    said = ("", "")
    with contextlib.suppress(subprocess.TimeoutExpired):
        said = process.communicate(timeout=seconds)
    if seconds is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if process.returncode not in ({0, -9} if seconds is not None else {-9}):
        yield f"exit code {process.returncode}: {said[1].strip().splitlines()[-1:]}"
    yield from (f"after the kill: {one}" for one in kits.broken(here, before, set(begin.allowed)))
    again = start(job, folder, begin.stick, 0)
    ended = again.communicate()
    # Killed after its last word was written: going back has ended, and can't be done twice.
    done = job == "rollback" and "no older version" in ended[1] and here.current() == begin.final
    if again.returncode and not done:
        yield f"the second run: {ended[1].strip().splitlines()[-1:]}"
        return
    yield from (f"after the second run: {one}" for one in kits.broken(here, before, {begin.final}))
    yield from (f"left after the second run: {one}" for one in kits.leftovers(here))
    if type(here).open(folder).state.pending is not None:
        yield "left after the second run: a change that has not ended"


def moment(number: int, seed: int, begin: dict[str, Begin]) -> tuple[str, dict[str, Any]]:
    """The job of a moment, and where it is killed."""
    draw = random.Random(f"{seed}/{number}")
    job = JOBS[number % len(JOBS)]
    if number % 4 == 3:
        return job, {"seconds": round(0.3 + draw.random() * begin[job].seconds, 3)}
    return job, {"stop_at": draw.randint(1, begin[job].operations)}


def main() -> None:
    """Run a campaign; docs/make_tables.py puts its table into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--log", type=Path, default=Path("benchmarks/results/kit_kills.jsonl"))
    arguments = parser.parse_args()
    done = (
        {json.loads(line)["moment"] for line in arguments.log.read_text().splitlines()}
        if arguments.log.exists()
        else set()
    )
    with tempfile.TemporaryDirectory(prefix="kit-kills-") as name:
        scratch = Path(name)
        begin = prepare(scratch)
        for number in sorted(set(range(arguments.moments)) - done):
            job, where = moment(number, arguments.seed, begin)
            folder = scratch / f"moment-{number}"
            found = list(problems_of(job, begin[job], folder, **where))
            shutil.rmtree(folder)
            row = {
                "moment": number, "command": job, **where, "operations": begin[job].operations, "problems": found,
                "date": datetime.date.today().isoformat(),
            }  # fmt: skip
            with arguments.log.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{number + 1} of {arguments.moments}: {job} {where}: {'; '.join(found) or 'well'}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run_one(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
    else:
        sys.path.insert(0, str(ROOT / "tests"))
        main()
