"""What error compensation takes off the distance of each type from full precision, on text that it never saw.

python benchmarks/compensation.py [--data ../shared/data] [--recipes q4_k_m ...] [--tokens 4000] [--width 768]

medgemma-mini, its stream widened to 768 channels so that types with blocks of 256 are really used, is quantized by
llama.cpp's own quantizer three ways (without a matrix; with the plain squares that llama.cpp's own tool gathers; with
medge's matrix), and the last is then compensated: one size, one mixture of types. Of a recipe by bits, whose types medge chose by
measured sensitivity on the calibration texts, there are only the last two. Each is held against the 16-bit file,
by llama.cpp, on three kinds of text: PubMedQA's abstracts from the 700th on (it was calibrated on the first of them, and
on images), MedQA's questions and radiology reports (of which it saw none). How strongly the moments are damped was chosen
on other texts of these kinds: PubMedQA's abstracts 600 to 700, the first 200 questions, the first 400 reports.
Stores benchmarks/results/compensation.json and prints a table. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
import re
import tarfile
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from generator_parity import contexts, write_images
from numpy.typing import NDArray

from medge.export.families.gemma3 import open_gemma
from medge.export.jobs.calibrate import calibration_run
from medge.export.parity.divergence import Divergence
from medge.export.source.corpus import SKIP, passage_prompts, read_corpus
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.to_gguf.write import write_language
from medge.quant.gguf_file.compensate import compensate
from medge.quant.gguf_file.importance import Importance, gather
from medge.quant.gguf_file.inputs import STRIDE, TIED, CalibrationRun
from medge.quant.gguf_file.moments import Moments
from medge.quant.gguf_file.quantize import quantize_language
from medge.quant.gguf_file.sensitivity import Sensitivity, size_of
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.runtime.device.gguf_header import GGUFHeader, read_header
from medge.runtime.generator.engine import BATCH, Engine

RESULTS = Path(__file__).parent / "results" / "compensation.json"
RECIPES = tuple(name for name, recipe in GGUF_RECIPES.items() if recipe.importance and name != "q8_0")


class PlainSquares(Importance):
    """As llama.cpp's own tool gathers them: every position with the weight of its activations."""

    def add(self, name: str, rows: NDArray[np.float32]) -> None:
        if name == TIED:  # llama.cpp's tool leaves it out
            return
        squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        self.sums[name] = self.sums.get(name, np.zeros_like(squares)) + squares
        self.counts[name] = self.counts.get(name, 0) + len(rows)


def plain_squares(run: CalibrationRun) -> Importance:
    found = PlainSquares()
    with run.engine(found.add, lambda _: True) as engine:
        for items in run.prompts(engine):
            engine.observe_prompt(items, stride=STRIDE)
    return found


def held_back(data: Path) -> dict[str, list[str]]:
    """Texts of three kinds that nothing here was calibrated on."""
    with (data / "medqa" / "test.jsonl").open(encoding="utf-8") as lines:
        vignettes = [json.loads(line)["question"] for line in itertools.islice(lines, 200, 500)]
    return {"PubMedQA": contexts(data, 700, 800), "MedQA": vignettes, "reports": reports(data, 400, 900)}


def reports(data: Path, start: int, stop: int) -> list[str]:
    """Findings and impression of some radiology reports of IU X-ray."""
    found = []
    with tarfile.open(data / "iu_xray" / "reports.tar.gz") as archive:
        for member in itertools.islice((member for member in archive if member.isfile()), start, stop):
            stream = archive.extractfile(member)
            assert stream is not None
            parts = re.findall(r'<AbstractText Label="(?:FINDINGS|IMPRESSION)">([^<]+)<', stream.read().decode())
            found.append(" ".join(html.unescape(part) for part in parts))
    return [text for text in found if text]


def said(found: Divergence) -> dict[str, Any]:
    """The figures that the tables show, with their intervals."""
    figures = found.figures()
    return {
        "kld": asdict(figures.intervals["kld.mean"]), "same_top": asdict(figures.intervals["same_top"]),
        "tokens": figures.tokens, "units": figures.units,
    }  # fmt: skip


class Measured:
    """Full precision's logits on the held-back texts, and how far a file is from them."""

    def __init__(self, full: Path, texts: dict[str, list[str]], tokens: int) -> None:
        self.prompts: dict[str, list[tuple[list[int], list[int], NDArray[np.float32]]]] = {}
        with Engine(full, context=BATCH, measuring=True) as engine:
            for name, some in texts.items():
                prompts, passages = passage_prompts(engine.tokenize, some, 2)
                count = -(-tokens // BATCH)
                self.prompts[name] = [
                    (ids, of, engine.logits(ids).astype(np.float16))
                    for ids, of in itertools.islice(zip(prompts, passages, strict=True), count)
                ]

    def of(self, path: Path) -> dict[str, Any]:
        out = {}
        with Engine(path, context=BATCH, measuring=True) as engine:
            for name, prompts in self.prompts.items():
                found = Divergence.empty()
                for ids, of, exact in prompts:
                    found.add(exact[:-1].astype(np.float32), engine.logits(ids)[:-1], ids[1:], SKIP, of)
                out[name] = said(found)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=list(GGUF_RECIPES))
    parser.add_argument("--width", type=int, default=768, help="of the residual stream; Gemma 3 270M's own is 640")
    parser.add_argument("--abstracts", type=int, default=60, help="that it is calibrated on, with 40 images")
    parser.add_argument("--tokens", type=int, default=4000, help="of each kind of text")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(arguments, Path(temporary))
    facts = {"date": date.today().isoformat(), "width": arguments.width, "abstracts": arguments.abstracts, "rows": rows}
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        figures = "  ".join(
            f"{name} {found['kld']['value']:.4f} {found['same_top']['value']:.1%}"
            for name, found in row["held_back"].items()
        )
        print(f"{row['recipe']:8} {row['rounding']:22} {row['bits']:.2f} bits  {figures}")


def measure(arguments: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    data = arguments.data
    write_medgemma_mini(place / "mini", width=arguments.width)
    checkpoint, full, path = open_gemma(place / "mini"), place / "full.gguf", place / "one.gguf"
    write_language(checkpoint, full, "bf16")
    (place / "text.txt").write_text("\n\n".join(contexts(data, 0, arguments.abstracts)), encoding="utf-8")
    corpus = read_corpus([place / "text.txt", write_images(data, "train", 40, place / "images")])
    run = calibration_run(checkpoint, corpus, full=full, scratch=place)
    (place / "moments").mkdir()
    moments = Moments(run, place / "moments")
    ours = gather(run, moments=moments)
    matrices = {"no matrix": None, "llama.cpp's matrix": plain_squares(run), "medge's matrix": ours}
    sensitivity = Sensitivity(full, ours, corpus.texts, place, moments=moments)
    measured = Measured(full, held_back(data), arguments.tokens)
    rows = []
    for name in arguments.recipes:
        recipe, types = GGUF_RECIPES[name], dict[str, str]()
        if recipe.bits is not None:
            types = sensitivity.types(size_of(full, recipe.bits))
        for rounding in (*matrices, "compensated"):
            theirs = rounding in ("no matrix", "llama.cpp's matrix")
            if (theirs and recipe.bits is not None) or (rounding == "no matrix" and not recipe.plain):
                continue
            matrix = matrices["medge's matrix" if rounding == "compensated" else rounding]
            quantize_language(full, path, recipe, importance=matrix, types=types)
            facts: dict[str, Any] = {"types": read_header(path).types()}
            if rounding == "compensated":
                began = time.monotonic()
                facts |= asdict(compensate(path, moments))
                facts["seconds"] = time.monotonic() - began
            rows.append({
                "recipe": name, "rounding": rounding, "bytes": path.stat().st_size,
                "bits": read_header(path).bits_per_weight(),
                "layer_bits": layer_bits(read_header(path)), **facts, "held_back": measured.of(path),
            })  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return rows


def layer_bits(header: GGUFHeader) -> float:
    """Bits a weight of the layers, without the token embedding."""
    tensors = [tensor for name, tensor in header.tensors.items() if name.startswith("blk.")]
    return 8 * sum(tensor.bytes for tensor in tensors) / sum(tensor.values for tensor in tensors)


if __name__ == "__main__":
    main()
