"""Runs on the emulated machine: worker.py JOB.npz PLAN.json RESULT.npz. Embeds the job's inputs with each bundle of the plan.

The plan is {name: {"folder", "count": how many of the inputs, "golden": whether the bundle's own are replayed, too}}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from medge.runtime.bundles.bundle import Bundle
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.golden.encoder import replay

job, plan, result = (Path(name) for name in sys.argv[1:])
inputs = np.load(job)
found: dict[str, np.ndarray] = {}
# {(a tower's SHA-256, count): embeddings}, for some recipes have the same text tower.
texts: dict[tuple[str, int], np.ndarray] = {}
for name, told in json.loads(plan.read_text()).items():
    encoder = Encoder(Bundle.open(Path(told["folder"]), allow_failed_parity=True), threads=1, device="cpu")
    count, tower = told["count"], encoder.towers["text"].file
    digest = next(file.sha256 for file in encoder.manifest.files if file.path == tower)
    if (digest, count) not in texts:
        texts[digest, count] = encoder.embed_ids(inputs["ids"][:count])
    found[f"{name}/text"] = texts[digest, count]
    found[f"{name}/vision"] = encoder.embed_pixels(inputs["pixels"][:count])
    found[f"{name}/ids"] = encoder.tokenizer.encode([str(text) for text in inputs["texts"]])[0]
    if told["golden"]:
        found[f"{name}/golden"] = np.array([holds for *_, holds in replay(encoder)])
np.savez(result, **found)
