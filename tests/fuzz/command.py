"""Change files at random, and see that medge refuses them in one sentence or gives the right result.

python -m fuzz --minutes 60          tries new cases, goes on where the last run stopped; --record puts the table into the docs
python -m fuzz --case gguf:1234      runs one case again, and says what came of it
python -m fuzz --files tests/fuzz/corpus/gguf/*     runs files again
python -m fuzz --keep                puts what failed into the corpus, where every test run tries it again
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from . import campaign, process
from .base import ROOT, prepare
from .kinds import KINDS
from .verdict import GOOD, Outcome

RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
CORPUS, MOST_BYTES = Path(__file__).with_name("corpus"), 50_000
VERSIONS = (
    "numpy",
    "onnxruntime",
    "pillow",
    "pydicom",
    "llama-cpp-python",
    "tokenizers",
    "safetensors",
    "usearch",
    "jinja2",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="state, sound files and failed cases")
    parser.add_argument("--anew", action="store_true", help="from the first seed, whatever a run before did")
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--case", metavar="KIND:SEED", help="run this one, and keep its file in the folder")
    parser.add_argument(
        "--files", nargs="+", type=Path, metavar="FILE", help="run these; a file's folder names its kind"
    )
    parser.add_argument("--keep", action="store_true", help="copy the files of failed cases into the corpus")
    asked = parser.parse_args()
    if asked.keep:
        return keep(asked.folder / "failures")
    base = prepare(asked.folder)
    if asked.case or asked.files:
        return again(asked, base)
    if asked.anew:
        (asked.folder / "state.json").unlink(missing_ok=True)
    state = campaign.run(asked.folder, base, minutes=asked.minutes, names=asked.kinds, jobs=asked.jobs)
    print(campaign.table(state.counts))
    if asked.record:
        record(state)
    if state.failures:
        print(f"\nfailed; the files are in {asked.folder / 'failures'}:\n{campaign.failures(state)}")
    return 1 if state.failures else 0


def again(asked: argparse.Namespace, base: Path) -> int:
    """Run given cases, and say what came of each."""
    if asked.case:
        kind, _, seed = asked.case.partition(":")
        content = process.content_of(kind, KINDS[kind], (seed, None), base)
        path = asked.folder / f"{kind}-{seed}{KINDS[kind].suffix}"
        path.write_bytes(content)
        print(f"{path}: {len(content)} bytes: {content[:400]!r}")
        batches: list[tuple[str, list[campaign.Case]]] = [(kind, [(str(path), content)])]
    else:
        found: dict[str, list[campaign.Case]] = {}
        for path in asked.files:
            found.setdefault(path.absolute().parent.name, []).append((str(path), path.read_bytes()))
        batches = [
            (kind, cases[start : start + KINDS[kind].batch])
            for kind, cases in found.items()
            for start in range(0, len(cases), KINDS[kind].batch)
        ]
    bad = 0

    def told(kind: str, case: campaign.Case, outcome: Outcome) -> None:
        nonlocal bad
        bad += outcome.verdict not in GOOD
        print(
            f"{outcome.verdict}  {kind}  {case[0]}  {outcome.seconds:.2f} s, {outcome.megabytes:.0f} MB  {outcome.detail!r}"
        )

    campaign.load({kind for kind, _ in batches})
    campaign.take(iter(batches), base, told, jobs=asked.jobs)
    return 1 if bad else 0


def keep(failed: Path) -> int:
    """Copy failed cases into the corpus, named by verdict and content; large ones are for a person to make smaller."""
    for path in sorted(failed.glob("*/*")):
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            print(f"{path} has {len(content):,} bytes: make it smaller than {MOST_BYTES:,} and copy it by hand")
            continue
        name = f"{path.stem.partition('-')[0]}-{hashlib.sha256(content).hexdigest()[:10]}{path.suffix}"
        target = CORPUS / path.parent.name / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    return 0


def record(state: campaign.State) -> None:
    """Put the counts where docs/make_tables.py finds them."""
    body = {
        "date": datetime.date.today().isoformat(), "minutes": round(state.seconds / 60), "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS}, "counts": state.counts,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(body, indent=1) + "\n")
