"""What it costs to verify a signed bundle, beyond hashing it; and what model-signing's own verifier would cost instead.

python benchmarks/signing.py [--gigabytes 3] [--rounds 5] [--place FOLDER]

A bundle of random bytes (its files are real, not sparse) is hashed, opened, verified by `verify_bundle`, opened as
`medge.load(..., trust=...)` opens it, and verified by the package model-signing, in turns. One round before, which fills the page
cache as far as it has room, is not counted. Each is a process of its own, so that imports count. Stores
benchmarks/results/signing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from medge.runtime.bundles.bundle import new_bundle
from medge.runtime.bundles.facts import (
    Artefact,
    EncoderFacts,
    GoldenBound,
    Preprocessing,
    Source,
    TokenizerFacts,
    TowerFacts,
)  # fmt: skip
from medge.runtime.bundles.manifest import SIGNATURE, Manifest
from medge.runtime.trust.keys import PrivateKey
from medge.runtime.trust.signing import sign_bundle
from medge.runtime.trust.trust import make_trust

RESULTS = Path(__file__).parent / "results" / "signing.json"
BLOCK = 64 << 20
FILES = {
    "onnx/vision_model.onnx": ("vision", 0.80),
    "golden.safetensors": ("golden", 0.15),
    "tokenizer.json": ("tokenizer", 0.05),
}
WAYS = {
    "hash": """
from medge.runtime.bundles.manifest import MANIFEST, Manifest, sha256_file
folder = Path(sys.argv[1])
for entry in Manifest.read(folder).files:
    assert sha256_file(folder / entry.path) == entry.sha256
""",
    "open": """
from medge.runtime.bundles.bundle import Bundle
Bundle.open(sys.argv[1], allow_failed_parity=True)
""",
    "verify": """
from medge.runtime.trust.trust import Trust
from medge.runtime.trust.verifying import verify_bundle
assert verify_bundle(Path(sys.argv[1]), Trust.open(sys.argv[2])).name == "benchmark"
""",
    "open signed": """
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.trust.verifying import signed_manifest
wanted = signed_manifest(sys.argv[1], sys.argv[2])
assert wanted is not None
Bundle.open(sys.argv[1], allow_failed_parity=True, manifest_sha256=wanted)
""",
    "model-signing": """
import model_signing
folder = Path(sys.argv[1])
model_signing.verifying.Config().use_elliptic_key_verifier(public_key=sys.argv[3]).set_hashing_config(
    model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"])).verify(folder, folder / "model.sig")
""",
}
IMPORTS = {
    "cryptography": "from cryptography.hazmat.primitives.asymmetric import ec; "
    "from cryptography.hazmat.primitives import hashes, serialization",
    "model-signing": "import model_signing",
}


def write_bundle(folder: Path, size: int) -> None:
    """A bundle of about so many random bytes."""
    tower = TowerFacts("fp16", "onnx/vision_model.onnx", "onnx", GoldenBound("min", 0.99), ("pixel_values",), "out")
    manifest = Manifest(
        kind="encoder", name=folder.name,
        model=EncoderFacts("siglip", 8, 28, 14, 9, TokenizerFacts(4, 1, 0), 10.0, -4.0, 100),
        preprocessing=Preprocessing("eval-tf", (0.5,) * 3, (0.5,) * 3), target="any", source=Source("random", {}, ""),
        artefacts={"onnx": Artefact({"vision": tower})},
    )  # fmt: skip
    with new_bundle(folder) as writer:
        for path, (role, share) in FILES.items():
            left = int(size * share)
            with writer.add(path, role).open("wb") as stream:
                while left > 0:
                    left -= stream.write(os.urandom(min(BLOCK, left)))
        writer.finish(manifest)


def timed(code: str, *words: object) -> dict[str, float]:
    """Wall and processor seconds of some code in a fresh process, without what Python itself needs to start."""
    around = (
        "import sys, time\nfrom pathlib import Path\nwall, cpu = time.perf_counter(), time.process_time()\n"
        f"{code}\nprint(time.perf_counter() - wall, time.process_time() - cpu)"
    )
    done = subprocess.run([sys.executable, "-c", around, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    wall, cpu = map(float, done.stdout.splitlines()[-1].split())
    return {"wall": wall, "cpu": cpu}


def weight(name: str) -> dict[str, int]:
    """Packages that an installation of this one brings, itself among them, and the bytes of their files as installed."""
    found: dict[str, int] = {}
    waiting = [name]
    while waiting:
        one = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if one in found:
            continue
        package = metadata.distribution(one)
        paths = [Path(str(file.locate())) for file in package.files or ()]
        found[one] = sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")
        wanted = [Requirement(text) for text in package.requires or ()]
        waiting += [need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {"packages": len(found), "bytes": sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", type=Path, help="where the bundle is made; it is removed")
    told = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=told.place))
    try:
        bundle, trust, key = place / "bundle", place / "trust", place / "keys" / "benchmark.key"
        write_bundle(bundle, int(told.gigabytes * 1e9))
        PrivateKey.make(key, "benchmark")
        public = key.with_suffix(".pub")
        make_trust(trust).add(public)
        sign_bundle(bundle, PrivateKey.read(key))
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(told.rounds + 1):
            turn = {way: timed(code, bundle, trust, public) for way, code in WAYS.items()}
            print(json.dumps(turn), file=sys.stderr)
            if number:
                rounds.append(turn)
        imports = [{name: timed(code) for name, code in IMPORTS.items()} for _ in range(2 * told.rounds)]
        facts: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "bytes": sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()),
            "signature_bytes": (bundle / SIGNATURE).stat().st_size,
            "rounds": rounds,
            "imports": {
                name: {clock: statistics.median(turn[name][clock] for turn in imports) for clock in ("wall", "cpu")}
                for name in IMPORTS
            },
            "weight": {name: weight(name) for name in IMPORTS},
            "versions": {name: metadata.version(name) for name in IMPORTS},
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
