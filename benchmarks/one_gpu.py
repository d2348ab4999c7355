"""Bundles of an encoder on one GPU against the CPU beside it: how much faster, and how close the embeddings are.

python benchmarks/one_gpu.py BUNDLE... [--images 64] [--turns 9] [--json FILE]

Needs a build of ONNX Runtime with CUDA (`onnxruntime-gpu`). Each bundle embeds the same invented pictures on either device, in
turns, after one run of each that does not count. A GPU does not use processor time, so the ratio is of wall time alone; it is
left out where its interval is wide.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import medge
from medge.runtime.bench.ratio import Took, time_ratio, timed


def compare(bundle: Path, images: int, turns: int) -> dict[str, Any]:
    """Times and embeddings of one bundle on both devices."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (300, 260, 3), np.uint8) for _ in range(images)]
    encoders = {device: medge.load_encoder(bundle, device=device) for device in ("cpu", "cuda")}
    found = {device: encoder.embed_images(pictures) for device, encoder in encoders.items()}
    took: dict[str, list[Took]] = {device: [] for device in encoders}
    for _ in range(turns):
        for device, encoder in encoders.items():
            wall = timed(partial(encoder.embed_images, pictures)).wall
            took[device].append(Took(wall, wall))
    ratio = time_ratio(took["cpu"], took["cuda"])
    cosines = (found["cpu"] * found["cuda"]).sum(1)
    return {
        "bundle": bundle.name, "images": images, "turns": turns, "lowest_cosine": float(cosines.min()),
        "seconds": {device: statistics.median(one.wall for one in all_of) for device, all_of in took.items()},
        "times_faster": None if ratio is None else [ratio.value, ratio.low, ratio.high],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = [compare(bundle, args.images, args.turns) for bundle in args.bundles]
    for one in found:
        print(json.dumps(one))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
