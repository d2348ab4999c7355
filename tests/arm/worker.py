"""Runs on the emulated machine: worker.py JOB.npz RESULT.npz BUNDLE... Embeds the job's inputs with each bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from medge.runtime.bundles.bundle import Bundle
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.golden.encoder import replay

job, result, bundles = Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
inputs = np.load(job)
found: dict[str, np.ndarray] = {}
for folder in bundles:
    encoder = Encoder(Bundle.open(folder, allow_failed_parity=True), threads=1, device="cpu")
    found[f"{folder.name}/vision"] = encoder.embed_pixels(inputs["pixels"])
    found[f"{folder.name}/text"] = encoder.embed_ids(inputs["ids"])
    found[f"{folder.name}/ids"] = encoder.tokenizer.encode([str(text) for text in inputs["texts"]])[0]
    found[f"{folder.name}/golden"] = np.array([holds for *_, holds in replay(encoder)])
np.savez(result, **found)
