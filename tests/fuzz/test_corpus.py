"""Every file that ever made medge fail is refused in one sentence today, or gives the right result.

A file `corpus/KIND/refused-...` must be refused. A new failure goes there: `python -m fuzz --case KIND:SEED` writes its file.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent
CORPUS = sorted((FUZZ / "corpus").glob("*/*"))


def test_a_file_of_the_corpus_is_small_and_of_a_kind() -> None:
    from fuzz.kinds import KINDS

    assert {path.parent.name for path in CORPUS} <= set(KINDS)
    assert not [path for path in CORPUS if path.stat().st_size > 50_000]


@pytest.fixture(scope="module")
def folder(export_extra: None, llm_extra: None) -> Path:
    """The campaign's own folder: sound files take twenty seconds to make, unless `make fuzz` has made them."""
    from fuzz.base import ROOT, prepare

    prepare(ROOT / ".fuzz")
    return ROOT / ".fuzz"


def test_no_file_that_made_medge_fail_does_so_again(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--folder", str(folder), "--files", *map(str, CORPUS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FUZZ.parents[1] / "src"), str(FUZZ.parent)])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    verdicts = [line.split("  ") for line in done.stdout.splitlines()]
    bad = [line for line in verdicts if line[0] not in ("refused", "right")]
    bad += [line for line in verdicts if line[0] != "refused" and Path(line[2]).name.startswith("refused-")]
    assert not bad, "\n".join("  ".join(line) for line in bad)
    assert done.returncode == 0, done.stderr
    assert len(verdicts) == len(CORPUS) > 50


@pytest.mark.parametrize("kind", ["manifest", "gguf", "dicom"])
def test_a_case_is_the_same_each_time(kind: str, folder: Path) -> None:
    from fuzz.base import prepare
    from fuzz.kinds import KINDS

    base = prepare(folder)
    cases = [KINDS[kind].make(random.Random(f"{kind}/{seed}"), base) for seed in (*range(20), *range(20))]
    assert cases[:20] == cases[20:]
    assert len(set(cases)) > 10
