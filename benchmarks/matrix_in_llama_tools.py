"""Show that llama.cpp's own tools read the importance matrix that `medge calibrate` writes.

python benchmarks/matrix_in_llama_tools.py CHECKPOINT --tools FOLDER

FOLDER is what benchmarks/build-llama-tools made. llama-imatrix prints its statistics of the matrix; llama-quantize makes a file
with it, which is compared tensor by tensor with the one that medge lets llama.cpp's quantizer make from the same matrix,
before it chooses codes anew. Stores nothing;
ends with code 1 if a tensor differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader

from medge.quant.gguf_file.importance import Importance
from medge.quant.gguf_file.quantize import quantize_language
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.runtime.bundles.bundle import Bundle

RECIPE = "q4_k_m"


def medge(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "medge", *map(str, arguments)], check=True)


def language_file(bundle: Path) -> Path:
    path = Bundle.open(bundle, verify=False, allow_failed_parity=True).path("language")
    assert path is not None
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tools", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        matrix, theirs = folder / "importance.gguf", folder / "theirs.gguf"
        medge("calibrate", "--checkpoint", arguments.checkpoint, "--out", matrix)
        common = ["export", "medgemma", "--checkpoint", arguments.checkpoint, "--skip-parity"]
        medge(*common, "--out", folder / "f16", "--recipe", "f16")
        full, made = language_file(folder / "f16"), folder / "ours.gguf"
        quantize_language(full, made, GGUF_RECIPES[RECIPE], importance=Importance.load(matrix))
        subprocess.run(
            [arguments.tools / "llama-imatrix", "-m", full, "--show-statistics", "--in-file", matrix], check=True
        )
        subprocess.run([arguments.tools / "llama-quantize", "--imatrix", matrix, full, theirs, RECIPE], check=True)
        ours = {tensor.name: tensor for tensor in GGUFReader(made).tensors}
        other = {tensor.name: tensor for tensor in GGUFReader(theirs).tensors}
        equal = sum(
            name in ours
            and ours[name].tensor_type == tensor.tensor_type
            and np.array_equal(ours[name].data, tensor.data)
            for name, tensor in other.items()
        )
        print(f"{equal} of {len(other)} tensors of llama-quantize equal ours, {len(ours)} in our file")
        sys.exit(0 if equal == len(other) == len(ours) else 1)


if __name__ == "__main__":
    main()
