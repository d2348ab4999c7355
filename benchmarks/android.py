"""Figures of the Android demo: APK sizes, the planner's memory for phones, and estimates of time from operation counts.

    bash android_demo/ci/prepare ~/.cache/medge/android && python benchmarks/android.py

Sizes of full-size bundles are those that benchmarks/full_size.py and generator_full_size.py have measured. The plans are made
by the app's own Kotlin planner, on this machine's JVM. Times are estimates, by the formula that `seconds` states: nothing was
run on a phone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "android_demo/ci"))
import build

from medge.export.standin.medgemma_random import CONFIG_4B
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.bundles.facts import (
    Artefact,
    EncoderFacts,
    FileEntry,
    GeneratorFacts,
    Preprocessing,
    TokenizerFacts,
    TowerFacts,
)
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.console.phones import BANDWIDTH, CORES, GIGABYTES  # fmt: skip

RESULTS = Path(__file__).parent / "results"
VISION_SHARE = 428.6 / 878.3  # parameters of MedSigLIP's vision tower, of all
# A phone of the middle class, assumed beside what `medge doctor --phones` assumes: cores of 2 GHz; a core does two 128-bit
# operations a cycle (an 8-bit dot product of 16 pairs counts 32, four fused multiply-adds 8); 40% of that is reached.
HERTZ, REACHED = 2e9, 0.4
PER_CYCLE = {"int8": 64, "fp32": 16}
HALVES = (0.5, 0.5, 0.5)


def encoder_manifest(recipe: str, total: int) -> Manifest:
    """MedSigLIP-448's bundle as the planner sees it."""
    vision = int(total * VISION_SHARE)
    files = (FileEntry("vision", "vision", vision, ""), FileEntry("text", "text", total - vision, ""))
    facts = EncoderFacts(
        family="siglip", embedding_size=1152, image_size=448, patch_size=14, vocabulary=32_000,
        tokenizer=TokenizerFacts(64, 1, 1), logit_scale=100.0, logit_bias=-10.0, parameters=878_300_000,
    )  # fmt: skip
    golden = ONNX_RECIPES[recipe].promise.golden
    return Manifest(
        kind="encoder", name=f"MedSigLIP, {recipe}", model=facts, preprocessing=Preprocessing("eval-tf", HALVES, HALVES),
        target="arm-dotprod", source={}, files=files,
        artefacts={"onnx": Artefact({name: TowerFacts(recipe, name, "onnx", golden) for name in ("vision", "text")})},
    )  # fmt: skip


def generator_manifest(language: int, projector: int) -> Manifest:
    """MedGemma 4B's bundle as the planner sees it."""
    text = CONFIG_4B["text_config"]
    facts = GeneratorFacts(
        family="gemma3", parameters=4_300_000_000, layers=text["num_hidden_layers"], width=text["hidden_size"], kv_heads=4,
        head_size=256, window=1024, global_every=6, context_length=131_072, vocabulary=262_208, image_size=896, image_tokens=256,
        patch_size=14, stop_ids=(1, 106),
    )  # fmt: skip
    files = (FileEntry("l", "language", language, ""), FileEntry("p", "projector", projector, ""))
    towers = {"language": TowerFacts("q4_k_m", "l", "gguf", GGUF_RECIPES["q4_k_m"].promise.golden)}
    return Manifest(
        kind="generator", name="MedGemma 4B, q4_k_m", model=facts,
        preprocessing=Preprocessing("finetune-pil", HALVES, HALVES), target="any", source={}, files=files,
        artefacts={"gguf": Artefact(towers)},
    )  # fmt: skip


def operations(tokens: int, parameters: float, width: int, layers: int) -> float:
    """Two for each weight and token, and four for each pair of tokens, width and layer (scores and their mixing)."""
    return 2 * parameters * tokens + 4 * tokens**2 * width * layers


def seconds(operations_: float, numbers: str) -> float:
    """operations / (cores x clock x operations a cycle x share reached)."""
    return operations_ / (CORES * HERTZ * PER_CYCLE[numbers] * REACHED)


def computed(what: str, operations_: float) -> dict[str, Any]:
    return {
        "what": what,
        "operations": operations_,
        **{numbers: seconds(operations_, numbers) for numbers in PER_CYCLE},
    }


def estimates(language_bytes: int) -> list[dict[str, Any]]:
    return [
        computed("MedSigLIP, one image", operations(1024, 412.4e6, 1152, 27)),
        computed("its student `base` at 224, one image", operations(196, 85.8e6, 768, 12)),
        computed("MedGemma 4B, seeing an image", operations(4096, 412.4e6, 1152, 27)),
        computed("MedGemma 4B, reading 300 tokens", operations(300, 3.2e9, 2560, 34)),
        # Each token reads every weight once: memory decides.
        {"what": "MedGemma 4B, one token of an answer", "operations": 2 * 3.9e9, "memory": language_bytes / BANDWIDTH},
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    sizes = json.loads((RESULTS / "full_size.json").read_text())
    gemma = json.loads((RESULTS / "generator_full_size.json").read_text())["bundle"]["bytes"]
    manifests = [encoder_manifest(recipe, sizes["sizes"][recipe]["bytes"]) for recipe in ("fp16", "int8", "int4")]
    manifests.append(generator_manifest(gemma["language"], gemma["projector"]))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        core, tests, asked = work / "core", work / "tests", work / "phones.json"
        build.compile_core(core)
        build.compile_core_tests(core, tests)
        asked.write_text(json.dumps({"gigabytes": GIGABYTES, "manifests": [m.to_json() for m in manifests]}))
        build.junit([core, build.GSON, build.STDLIB], tests, [f"-Dmedge.phones={asked}"], ["PlannerTest"])
        plans = json.loads(asked.read_text())["plans"]
        build.assemble(work / "apk", core)
        apks = {
            abi: build.package(work / "apk", abi, work / f"{abi}.apk").stat().st_size for abi in sorted(build.VARIANTS)
        }
    measured = next(row["peak_bytes"] for row in sizes["task"] if row["engine"] == "medge int8")
    results = {
        "apk_bytes": apks, "plans": plans, "int8_peak_measured_on_x86": measured, "estimates": estimates(gemma["language"]),
    }  # fmt: skip
    (RESULTS / "android.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
