"""Cases in processes of their own, with limits on memory and time.

The campaign's process has imported what a case needs, but opened nothing; it forks a child for each batch. The child says which
case it begins and what came of it, so that where it ends early, the case at fault is known. That case is then tried alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medge.runtime.errors import MedgeError

from .verdict import GOOD, Kind, Outcome, Verdict, WrongError

ADDRESS_SPACE = 3 << 30  # bytes over what the process has when it begins
RESIDENT = 2 << 30  # bytes that a case may take; a picture of 150 million pixels is allowed, and takes 0.45 GB as RGB
CPU_SECONDS, WALL_SECONDS = 6, 60  # of one case; the machine may be busy
MOST_WORDS = 700  # characters of a sentence
_MEDGE = re.compile(r'File ".*?/(?:src/medge|medge)/(\S+?)", line (\d+), in (\S+)')


@dataclass
class Child:
    """A batch on its way."""

    pid: int
    stream: int
    kind: str
    cases: Sequence[tuple[str, bytes | None]]  # (name, content; None where the name is a seed)
    place: Path
    since: float = field(default_factory=time.monotonic)
    at: int = -1  # the case that was begun last
    done: int = 0
    rest: bytes = b""
    killed: bool = False


def start(name: str, kind: Kind, cases: Sequence[tuple[str, bytes | None]], base: Path, place: Path) -> Child:
    """Fork a child that takes these cases in order."""
    reading, writing = os.pipe()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _take(name, kind, cases, base, place, writing)
    os.close(writing)
    return Child(pid, reading, name, cases, place)


def content_of(name: str, kind: Kind, case: tuple[str, bytes | None], base: Path) -> bytes:
    """A case's bytes: those of the file, or what its seed makes."""
    import random

    return case[1] if case[1] is not None else kind.make(random.Random(f"{name}/{case[0]}"), base)


def _take(
    name: str, kind: Kind, cases: Sequence[tuple[str, bytes | None]], base: Path, place: Path, writing: int
) -> None:
    """The child's whole life."""
    try:
        os.setpgid(0, 0)
        quiet = os.open(place / "stderr", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)
        faulthandler.enable(quiet)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _memory("VmSize") + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for index, case in enumerate(cases):
            content = content_of(name, kind, case, base)
            folder = place / "case"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            os.chdir(folder)
            os.ftruncate(quiet, 0)
            os.lseek(quiet, 0, os.SEEK_SET)
            _tell(writing, {"begin": index})
            outcome = judged(lambda: kind.run(content, folder, base))  # noqa: B023
            _tell(writing, {"end": index, "verdict": outcome.verdict, "detail": outcome.detail,
                            "seconds": outcome.seconds, "megabytes": outcome.megabytes})  # fmt: skip
            if outcome.verdict is Verdict.MEMORY:
                break
        os._exit(0)
    except BaseException:
        with contextlib.suppress(Exception):
            _tell(writing, {"broken": traceback.format_exc()})
    finally:
        os._exit(3)


def judged(run: Callable[[], None]) -> Outcome:
    """Run a case in this process, within a limit of CPU time, and say what came of it."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    used = before.ru_utime + before.ru_stime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_SECONDS + 1, resource.RLIM_INFINITY))
    resident = _memory("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    begin = time.monotonic()
    try:
        run()
        verdict, detail = Verdict.RIGHT, ""
    except WrongError as error:
        verdict, detail = Verdict.WRONG, str(error)
    except MedgeError as error:
        verdict, detail = _sentence(error)
    except MemoryError as error:
        verdict, detail = Verdict.MEMORY, f"MemoryError at {_place(error)}"
    except Exception as error:
        verdict, detail = Verdict.TRACEBACK, f"{type(error).__name__} at {_place(error)}: {error}"[:600]
    seconds = time.monotonic() - begin
    taken = max(_memory("VmHWM") - resident, *map(_peak_of, _children()), 0)
    if taken > RESIDENT and verdict in GOOD:
        verdict, detail = Verdict.MEMORY, f"{taken / 1e9:.1f} GB, then {verdict}: {detail}"
    return Outcome(verdict, detail, seconds, taken / 1e6)


def _sentence(error: MedgeError) -> tuple[Verdict, str]:
    """Whether an error says one sentence that a terminal can show."""
    text = str(error)
    odd = [name for name, found in (
        ("several lines", "\n" in text or "\r" in text), ("control characters",
        any(ord(c) < 32 and c not in "\t\n\r" for c in text)),
        ("no words", not text.strip()), (f"{len(text)} characters", len(text) > MOST_WORDS), ("a traceback",
        "Traceback" in text),
        ("characters that can't be written", not _writable(text)),
    ) if found]  # fmt: skip
    if odd:
        return Verdict.TRACEBACK, f"{type(error).__name__} at {_place(error)} says {', '.join(odd)}: {text[:300]!r}"
    return Verdict.REFUSED, f"{type(error).__name__}: {text}"


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(error: BaseException) -> str:
    """The last line of medge's own code in an error's trace."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if re.search(r"/(runtime|export|quant|medge)/[a-z_/]*[a-z_]+\.py$", frame.filename)
           and "site-packages" not in frame.filename]  # fmt: skip
    frame = (own or list(frames))[-1]
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"


def _memory(name: str, pid: str = "self") -> int:
    """Bytes, of /proc's status of a process."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _children() -> list[str]:
    """Processes that a case has started and left running, such as a decoder."""
    with contextlib.suppress(OSError):
        return [
            word for task in Path("/proc/self/task").iterdir() for word in (task / "children").read_text().split()
        ] or ["0"]
    return ["0"]


def _peak_of(pid: str) -> int:
    peak = _memory("VmHWM", pid)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak


def _tell(stream: int, body: dict[str, object]) -> None:
    data = json.dumps(body).encode() + b"\n"
    while data:
        data = data[os.write(stream, data) :]


def wait(children: Sequence[Child], found: Callable[[Child, int, Outcome], None]) -> list[Child]:
    """Read what children say, for a moment; end those that take too long. Returns those that have ended."""
    ended: list[Child] = []
    ready, _, _ = select.select([child.stream for child in children], [], [], 0.5)
    for child in children:
        if child.stream in ready:
            data = os.read(child.stream, 1 << 20)
            child.rest += data
            *lines, child.rest = child.rest.split(b"\n")
            for line in lines:
                _heard(child, json.loads(line), found)
            if not data:
                _end(child, found)
                ended.append(child)
                continue
        if time.monotonic() - child.since > WALL_SECONDS and not child.killed:
            child.killed = True
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
    return ended


def _heard(child: Child, body: dict[str, object], found: Callable[[Child, int, Outcome], None]) -> None:
    child.since = time.monotonic()
    if "broken" in body:
        raise RuntimeError(f"a case of the kind {child.kind!r} could not be made or run:\n{body['broken']}")
    if "begin" in body:
        child.at = int(str(body["begin"]))
        return
    child.done = child.at + 1
    found(child, child.at, Outcome(Verdict(str(body["verdict"])), str(body["detail"]), float(str(body["seconds"])),
                                   float(str(body["megabytes"]))))  # fmt: skip


def _end(child: Child, found: Callable[[Child, int, Outcome], None]) -> None:
    """A child's pipe is closed: what it left, and how it ended."""
    os.close(child.stream)
    _, status = os.waitpid(child.pid, 0)
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)  # what it started goes with it
    if child.at < child.done:  # between two cases
        return
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if child.killed or number == signal.SIGXCPU:
        limit = f"{WALL_SECONDS} s" if child.killed else f"{CPU_SECONDS} s of CPU"
        outcome = Outcome(Verdict.HANG, f"still running after {limit}{_last_words(child.place)}")
    else:
        how = signal.Signals(number).name if number else f"exit code {os.WEXITSTATUS(status)}"
        outcome = Outcome(Verdict.ABORT, f"{how}{_last_words(child.place)}")
    child.done = child.at + 1
    found(child, child.at, outcome)


def _last_words(place: Path) -> str:
    """Where Python was when the process ended, as faulthandler saw it, and what the library said."""
    try:
        text = (place / "stderr").read_text(errors="replace")
    except OSError:
        return ""
    said = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith(("Current thread", "Thread", "Extension"))
    ]
    first = next((line.strip() for line in said if "File " not in line and "Fatal Python" not in line), "")
    frames = _MEDGE.findall(text)
    at = f" in {frames[0][0]}:{frames[0][1]}" if frames else ""
    return f"{at}{': ' + first[:200] if first else ''}"
