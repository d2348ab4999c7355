"""Whether memory and open files stay flat over thousands of requests: 2,000 classifications, 500 answers, 200 different images.

    python benchmarks/endurance.py ENCODER_BUNDLE GENERATOR_BUNDLE IMAGES --out benchmarks/results/endurance.json

Each kind of work is done in one process; after a warm-up, resident memory and open files are read at 20 places, and a line is
laid through them. The work is flat when the line's growth over all of it is below LEAK_BYTES and no file more is open.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import medge
from medge.runtime.generator.conversation import Sampling
from medge.runtime.pictures.images import find_images, read_image

PLACES = 20
WARM_UP = 0.2  # share of the work: allocators and caches fill
LEAK_BYTES = 16 << 20  # over all of the work; allocators return memory in blocks, so that a smaller growth says nothing


def watched(work: Callable[[int], object], count: int) -> dict[str, Any]:
    """Do `work` `count` times; what memory and open files did.

    Args:
        work: given the number of the round.
        count: rounds, at least 2 * `PLACES`.
    """
    process = psutil.Process()
    warm = int(count * WARM_UP)
    stops = np.linspace(warm, count - 1, PLACES).astype(int).tolist()
    rounds, memory, files = [], [], []
    begun = time.monotonic()
    for number in range(count):
        work(number)
        if number in stops:
            rounds.append(number)
            memory.append(process.memory_info().rss)
            files.append(process.num_fds())
    slope = float(np.polyfit(rounds, memory, 1)[0])
    return {
        "rounds": count, "seconds": round(time.monotonic() - begun, 1),
        "bytes_at_begin": memory[0], "bytes_at_end": memory[-1], "growth_bytes": round(slope * (count - warm)),
        "growth_bytes_a_round": round(slope, 1), "files_at_begin": files[0], "files_at_end": files[-1],
    }  # fmt: skip


def flat(found: dict[str, Any]) -> bool:
    """Whether neither memory nor open files grew."""
    return found["growth_bytes"] < LEAK_BYTES and found["files_at_end"] <= found["files_at_begin"]


def classifications(bundle: Path, images: Path, count: int) -> dict[str, Any]:
    """The same few images, classified again and again, labels embedded each time."""
    encoder, paths = medge.load_encoder(bundle, allow_failed_parity=True), [*find_images([images])]
    turn = itertools.cycle(paths)
    return watched(lambda number: encoder.classify(next(turn), ["chest x-ray", f"film {number % 7}"]), count)


def answers(bundle: Path, count: int) -> dict[str, Any]:
    """Short answers to different questions."""
    with contextlib.closing(medge.load_generator(bundle, allow_failed_parity=True, context=512)) as generator:
        return watched(lambda number: generator.ask(None, f"What is {number}?", sampling=Sampling(4)), count)


def pictures(images: Path, count: int) -> dict[str, Any]:
    """Files decoded and windowed, no model."""
    turn = itertools.cycle([*find_images([images])])
    return watched(lambda _: read_image(next(turn)), count)


def main() -> None:
    """Run all three, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("generator", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/endurance.json"))
    parser.add_argument("--share", type=float, default=1.0, help="of the rounds")
    arguments = parser.parse_args()
    rounds = {name: int(count * arguments.share) for name, count in (("c", 2000), ("a", 500), ("p", 200))}
    found = {
        "classifications": classifications(arguments.encoder, arguments.images, rounds["c"]),
        "answers": answers(arguments.generator, rounds["a"]),
        "pictures": pictures(arguments.images, rounds["p"]),
    }
    for name, facts in found.items():
        print(f"{name}: {'flat' if flat(facts) else 'GROWS'}: {facts}")
    result = {"date": datetime.date.today().isoformat(), "limit_bytes": LEAK_BYTES, **found}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if not all(map(flat, found.values())):
        raise SystemExit("memory or open files grow")


if __name__ == "__main__":
    main()
