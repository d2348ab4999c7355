"""A run over all kinds: batches in turns, counts, what failed, and where to go on."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import process
from .base import sources
from .kinds import KINDS
from .verdict import GOOD, Outcome, Verdict

Case = tuple[str, bytes | None]


@dataclass
class State:
    """What a campaign has come to; a file in its folder, so that the next run goes on there.

    Attributes:
        sources: of medge and the campaign, as they were; other sources are another campaign.
        tried: {kind: the next seed}.
        counts: {kind: {verdict: cases}}.
        failures: what failed, each with kind, seed, verdict, detail.
        seconds: how long it ran, all runs together.
    """

    sources: str = ""
    tried: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> State:
        """What the run before left; a new one where there is none, or where medge has changed since."""
        now = sources()
        if path.is_file() and (state := cls(**json.loads(path.read_text()))).sources == now:
            return state
        return cls(now)

    def write(self, path: Path) -> None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self.__dict__, indent=1))
        part.replace(path)

    def count(self, kind: str, verdict: Verdict) -> None:
        row = self.counts.setdefault(kind, {})
        row[verdict] = row.get(verdict, 0) + 1


def load(names: Iterable[str]) -> None:
    """Import what these kinds need, before anything forks."""
    for name in names:
        for module in KINDS[name].modules:
            importlib.import_module(module)


def run(folder: Path, base: Path, *, minutes: float, names: Sequence[str], jobs: int, quiet: bool = False) -> State:
    """Try new cases for some minutes.

    Args:
        folder: where the state and the failed cases are kept.
        base: the sound files.
        minutes: of the clock.
        names: kinds, in turns.
        jobs: processes at a time.
        quiet: no line of progress.
    """
    place = folder / "state.json"
    state = State.read(place)
    load(names)
    begin = last = time.monotonic()
    turns = [name for name in names for _ in range(KINDS[name].share)]
    batches = _batches(state, turns)
    already = state.seconds

    def stop() -> bool:
        return time.monotonic() - begin > 60 * minutes

    def told(kind: str, case: Case, outcome: Outcome) -> None:
        nonlocal last
        state.count(kind, outcome.verdict)
        if outcome.verdict not in GOOD:
            _keep(folder, state, kind, case, outcome, base)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            state.seconds = already + last - begin
            state.write(place)
            if not quiet:
                total = Counter(Verdict(v) for row in state.counts.values() for v in row for _ in range(row[v]))
                print(
                    f"{last - begin:5.0f} s  " + "  ".join(f"{v} {total[v]:,}" for v in Verdict if total[v]), flush=True
                )

    take(batches, base, told, jobs=jobs, stop=stop)
    state.seconds = already + time.monotonic() - begin
    state.write(place)
    return state


def _batches(state: State, turns: Sequence[str]) -> Iterator[tuple[str, list[Case]]]:
    while True:
        for name in turns:
            first = state.tried.get(name, 0)
            state.tried[name] = first + KINDS[name].batch
            yield name, [(str(seed), None) for seed in range(first, first + KINDS[name].batch)]


def take(
    batches: Iterator[tuple[str, list[Case]]], base: Path, told: Any, *, jobs: int = 2, stop: Any = lambda: False,
) -> None:  # fmt: skip
    """Run batches; a case that ended or held up its process is tried again alone before it is told of.

    Args:
        batches: (kind, cases).
        base: the sound files.
        told: called with (kind, case, outcome) for each.
        jobs: processes at a time.
        stop: asked before each batch.
    """
    waiting: deque[tuple[str, list[Case], Outcome | None, list[Case]]] = deque()
    children: list[process.Child] = []
    again: dict[
        int, tuple[Outcome, list[Case]]
    ] = {}  # by pid: what a case tried alone did in company, and that company
    spare = [Path(tempfile.mkdtemp(prefix="medge-fuzz-")) for _ in range(jobs)]
    free = list(spare)
    more = True

    def found(child: process.Child, index: int, outcome: Outcome) -> None:
        case = child.cases[index]
        before = again.get(child.pid)
        if before is not None:
            if outcome.verdict in GOOD and before[0].verdict not in GOOD:
                outcome = Outcome(before[0].verdict, f"not when tried alone: {before[0].detail}",
                                  cases=[name for name, _ in before[1]])  # fmt: skip
            told(child.kind, case, outcome)
        elif outcome.verdict in (Verdict.ABORT, Verdict.HANG, Verdict.MEMORY):
            waiting.append((child.kind, [case], outcome, list(child.cases[: index + 1])))
        else:
            told(child.kind, case, outcome)

    try:
        while True:
            while free and (waiting or more):
                alone, company = None, []
                if waiting:
                    name, cases, alone, company = waiting.popleft()
                elif stop() or (batch := next(batches, None)) is None:
                    more = False
                    break
                else:
                    name, cases = batch
                child = process.start(name, KINDS[name], cases, base, free.pop())
                if alone is not None:
                    again[child.pid] = (alone, company)
                children.append(child)
            if not children:
                return
            for child in process.wait(children, found):
                children.remove(child)
                free.append(child.place)
                again.pop(child.pid, None)
                if child.done < len(child.cases):
                    waiting.append((child.kind, list(child.cases[child.done :]), None, []))
    finally:
        for folder in spare:
            shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path, state: State, kind: str, case: Case, outcome: Outcome, base: Path) -> None:
    """Write a failed case down, the first of each kind of failure as a file, too."""
    sign = signature(kind, outcome)
    known = sum(failure["signature"] == sign for failure in state.failures)
    name = ""
    if known < 3:
        place = folder / "failures" / kind
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{outcome.verdict}-{case[0]}{KINDS[kind].suffix}"
        path.write_bytes(process.content_of(kind, KINDS[kind], case, base))
        name = str(path.relative_to(folder))
    if known < 200:
        state.failures.append({"kind": kind, "seed": case[0], "verdict": outcome.verdict, "detail": outcome.detail,
                               "signature": sign, "file": name, "cases": outcome.cases})  # fmt: skip


def signature(kind: str, outcome: Outcome) -> str:
    """What failures of one cause have in common."""
    text = re.sub(r"line \d+|0x[0-9a-f]+|'[^']*'|\"[^\"]*\"|\d+(?!\w*\.py)", "#", outcome.detail.split("\n")[0])
    if at := re.search(r" at (\S+?:\d+)", outcome.detail):
        text = f"{outcome.detail.split(' ')[0]} at {at[1]}"
    return f"{kind}: {outcome.verdict}: {text[:120]}"


def table(counts: dict[str, dict[str, int]]) -> str:
    """Cases by kind and verdict, as lines for a terminal."""
    head = ["kind", "tried", *Verdict]
    rows = [[kind, sum(row.values()), *(row.get(v, 0) for v in Verdict)] for kind, row in counts.items()]
    rows.append(["all", *(sum(int(row[column]) for row in rows) for column in range(1, len(head)))])
    lines = [head, *([row[0], *(f"{cell:,}" for cell in row[1:])] for row in rows)]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(str(cell).ljust(width) if not column else str(cell).rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in lines
    )  # fmt: skip


def failures(state: State) -> str:
    """Each failure once, the commonest cause of the worst verdict first."""
    worst = [Verdict.ABORT, Verdict.WRONG, Verdict.HANG, Verdict.MEMORY, Verdict.TRACEBACK]
    counts = Counter(failure["signature"] for failure in state.failures)
    firsts = {failure["signature"]: failure for failure in reversed(state.failures)}
    order = sorted(
        firsts, key=lambda sign: (worst.index(Verdict(firsts[sign]["verdict"])), firsts[sign]["kind"], -counts[sign])
    )
    return "\n".join(
        f"{counts[sign]:5} x {firsts[sign]['verdict']}  {firsts[sign]['kind']}  seed {firsts[sign]['seed']}  "
        f"{firsts[sign]['detail'][:400]}"
        for sign in order
    )
