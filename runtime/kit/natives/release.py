"""The folder of wheels that a release's page serves: `python -m medge.runtime.kit.natives.release dist/wheels`, in a checkout.

It holds llama-cpp-python for each target and medge's own wheel: `pip install --find-links dist/wheels 'medge[llm]'` needs no
compiler.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...errors import MedgeError
from ...progress import Progress
from .index_page import write_index
from .llama import build_llama_wheel
from .targets import TARGETS
from .wheels import medge_wheel


def main() -> int:
    """Build what is not there yet, and write the folder."""
    asked = argparse.ArgumentParser(description="Build the wheels of a release, and a page of links to them.")
    asked.add_argument("folder", type=Path, nargs="?", default=Path("dist/wheels"))
    asked.add_argument("--target", choices=TARGETS, action="append", help="only this one; several times for several")
    asked.add_argument("--jobs", type=int, default=2, help="compilers at the same time")
    options = asked.parse_args()
    try:
        wheels = [medge_wheel(Path.cwd())]
        for target in options.target or TARGETS:
            wheels.append(build_llama_wheel(target, progress=_say(target), jobs=options.jobs))
        print(write_index(wheels, options.folder))
    except MedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _say(target: str) -> Progress:
    def say(what: str, done: int, total: int, /) -> None:
        print(f"{target}: {done} of {total} {what}", flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
