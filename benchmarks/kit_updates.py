"""How large an update's stick is: a patch release of medge, a new recipe of the same model, a new interpreter.

    python benchmarks/kit_updates.py

Two versions of each are laid beside each other as `medge kit build` would put them into a kit, and compared by content as
`medge kit update` does; the statement, which every update carries whole, is counted. The patch release is a stretch of this
repository's own history, the interpreter Debian's of two suites, the model the stand-in medsiglip-mini.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medge.runtime.kit.layout import Statement, TargetName

ROOT = Path(__file__).parents[1]
TARGET: TargetName = "linux-x86_64"
CREATED = "2026-11-27T00:00:00Z"
PYTHON_PACKAGES = ("python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib")
RESULTS = ROOT / "benchmarks" / "results" / "kit_updates.json"


def interpreters(scratch: Path, suite: str) -> dict[str, Path]:
    """{full version: unpacked interpreter}: the one of kits, and the same Debian packages of a newer suite."""
    from medge.runtime.kit.natives.debian import Archive, fetch_packages
    from medge.runtime.kit.natives.interpreter import InterpreterLock, fetch_interpreter, interpreter_files
    from medge.runtime.kit.natives.targets import cache_folder, target_named

    target = target_named(TARGET)
    lock = InterpreterLock.read(target)
    with tarfile.open(fetch_interpreter(TARGET)) as archive:
        archive.extractall(scratch / "interpreter-old", filter="data")
    newer = scratch / "debs"
    newer.mkdir()
    Archive(suite, target.debian).download(PYTHON_PACKAGES, newer)
    debs = fetch_packages(lock.packages, lock.suite, target.debian, cache_folder() / "debs", "")
    chosen = [*(path for path in debs if path.name.split("_")[0] not in PYTHON_PACKAGES), *sorted(newer.glob("*.deb"))]
    version = next(newer.glob("libpython3.13-stdlib_*")).name.split("_")[1].split("-")[0]
    new = scratch / "interpreter-new" / "python"
    for name, (content, mode) in interpreter_files(chosen, target, dataclasses.replace(lock, python=version)).items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_bytes(content)
        (new / name).chmod(mode)
    return {lock.python: scratch / "interpreter-old" / "python", version: new}


def with_medge_of(packages: Path, commit: str, to: Path) -> Path:
    """Packages with medge's own code as it was at a commit."""
    shutil.copytree(packages, to, symlinks=True)
    shutil.rmtree(to / "medge")
    (to / "medge").mkdir()
    code = subprocess.Popen(
        ["git", "archive", commit, "runtime", "export", "quant", "src/medge"], cwd=ROOT, stdout=subprocess.PIPE
    )
    with tempfile.TemporaryDirectory() as place, tarfile.open(fileobj=code.stdout, mode="r|") as archive:
        archive.extractall(place, filter="data")
        for room in ("runtime", "export", "quant"):
            shutil.copytree(Path(place, room), to / "medge" / room, symlinks=True)
        for path in Path(place, "src", "medge").iterdir():
            if path.is_file() and not path.is_symlink():
                shutil.copy(path, to / "medge")
    assert code.wait() == 0
    return to


def bundles(scratch: Path, recipes: Sequence[str]) -> dict[str, Path]:
    """{recipe: bundle} of the stand-in."""
    import pydicom.data

    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob

    images = scratch / "images"
    images.mkdir()
    for name in ("CT_small", "MR_small"):
        shutil.copy(Path(pydicom.data.__file__).parent / "test_files" / f"{name}.dcm", images)
    subprocess.run([sys.executable, "-m", "medge", "standin", "medsiglip-mini", str(scratch / "mini")], check=True)
    for recipe in recipes:
        export_medsiglip(
            ExportJob(scratch / "mini", scratch / f"made-{recipe}" / "medsiglip-mini", recipe, calibration=images)
        )
    return {recipe: scratch / f"made-{recipe}" / "medsiglip-mini" for recipe in recipes}


def statement(counter: int, interpreter: Path, packages: Path, bundle: Path) -> Statement:
    """What a kit of these would say."""
    from medge.runtime.kit.building.files import entries_of, sources_of

    sources = [
        *sources_of(interpreter, "python", "python"), *sources_of(packages, "packages", "packages"),
        *sources_of(bundle, f"bundles/{bundle.name}", f"bundles/{bundle.name}"),
    ]  # fmt: skip
    return Statement("station", "0.1.0", counter, CREATED, TARGET, entries_of(sources, lambda size: None)[0])


def row(what: str, old: Statement, new: Statement) -> dict[str, Any]:
    """The figures of one change."""
    from medge.runtime.kit.building.update import parts

    found = parts(old, new)
    lacking = set(new.contents()) - set(old.contents())
    said = len(dataclasses.replace(new, base=1).to_json())
    return {
        "what": what, "files": len(new.entries), "carried_files": len(lacking), "statement_bytes": said,
        "whole_bytes": sum(new.contents().values()) + said, "carried_bytes": sum(one.carried for one in found) + said,
        "components": {one.component: [one.carried, one.whole] for one in found},
    }  # fmt: skip


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="ade1f69~10", help="the commit before the patch release")
    parser.add_argument("--release", default="ade1f69", help="the commit of the patch release")
    parser.add_argument("--suite", default="forky", help="of Debian, with the newer interpreter")
    parser.add_argument("--recipes", nargs=2, default=["int8", "int4"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    from medge.runtime.kit.building import natively

    with tempfile.TemporaryDirectory(prefix="kit-updates-") as name:
        scratch = Path(name)
        pythons, made = interpreters(scratch, asked.suite), bundles(scratch, asked.recipes)
        packages = natively.packages(TARGET, scratch, llm=False)
        before = with_medge_of(packages, asked.since, scratch / "before")
        after = with_medge_of(packages, asked.release, scratch / "after")
        (old_python, python), (newer_python, newer) = pythons.items()
        (old_recipe, bundle), (new_recipe, other) = made.items()
        old = statement(1, python, before, bundle)
        words = ["git", "diff", "--name-only", asked.since, asked.release, "--", "runtime", "export", "quant", "src"]
        files = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        rows = [
            row(f"a patch release of medge: 10 commits, {len(files)} files", old, statement(2, python, after, bundle)),
            row(
                f"a new recipe of the same model: {old_recipe} to {new_recipe}",
                old,
                statement(2, python, before, other),
            ),
            row(f"a new interpreter: Python {old_python} to {newer_python}", old, statement(2, newer, before, bundle)),
            row("all three", old, statement(2, newer, after, other)),
            row("nothing but a new number", old, dataclasses.replace(old, counter=2)),
        ]
    asked.out.write_text(json.dumps({"target": TARGET, "llm": False, "rows": rows}, indent=1) + "\n")
    for one in rows:
        print(f"{one['carried_bytes'] / 1e6:8.2f} of {one['whole_bytes'] / 1e6:8.2f} MB  {one['what']}")


if __name__ == "__main__":
    main()
