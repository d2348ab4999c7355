"""One engine in a process of its own, driven line by line over pipes, so that engines are timed in turn on one machine.

The worker prints {"ready": true} when it could take an image, then for every line it reads runs once and prints the
seconds that passed and those that its threads worked, and at the end of its input prints its peak memory. Every engine gets the
same number of threads, one for each core. `python -m medge.runtime.bench.worker BUNDLE BATCH [fast]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..device.cpu import usable_cores
from ..device.memory import peak_memory
from .ratio import timed


def serve(run: Callable[[], Any]) -> None:
    """Announce readiness, run on request, report the peak resident memory in bytes."""

    def say(**facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    say(ready=True)
    for _ in sys.stdin:
        took = timed(run)
        say(seconds=[took.wall, took.cpu])
    say(peak_bytes=peak_memory())


def main() -> None:
    from ..encoder.load import load
    from ..golden.phantom import phantom

    bundle, batch = Path(sys.argv[1]), int(sys.argv[2])
    encoder = load(bundle, allow_failed_parity=True, threads=usable_cores(), fast=sys.argv[3:] == ["fast"])
    # As on a device: the session is open and the labels are there before the first image comes.
    _ = encoder.vision
    bank = encoder.label_bank
    images = [phantom()] * batch

    def run() -> None:
        embeddings = encoder.embed_images(images, batch_size=batch)
        if bank is not None:
            encoder.score(embeddings, bank)

    serve(run)


if __name__ == "__main__":
    main()
