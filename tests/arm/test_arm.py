"""The encoder runtime on aarch64, under qemu-user, on CPUs with and without dotprod: bundles for ARM within their gates.

`make test-arm` prepares the emulated machine and runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.quant.recipes.recipe import part_gates
from medge.quant.texts.prompts import calibration_texts
from medge.runtime.bundles import metrics
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.cpu import pick_target
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.golden.judge import judge_cosines

ROOT = Path(__file__).parents[2]
MACHINE = Path(os.environ.get("MEDGE_ARM", Path.home() / ".cache/medge/arm"))
CPUS = ("cortex-a76", "cortex-a53")  # with dotprod, and without
# Images and texts: an image is a second or two there. How good a recipe is, other tests measure on hundreds; each of these goes
# through all kernels that this processor has for it.
COUNT = 6
SIGNED = {name for name, recipe in ONNX_RECIPES.items() if recipe.kind in ("dynamic8", "static8")}
# Computed in 32 bits, for which ONNX Runtime has the same kernels on both CPUs: the second computes so many of the inputs, must
# give the same bits, and the rest is taken as the first CPU's.
SAME_KERNELS, AGAIN = {name for name, recipe in ONNX_RECIPES.items() if recipe.kind in ("none", "block4")}, 2
Embeddings = dict[str, np.ndarray]
pytestmark = pytest.mark.emulated


@pytest.fixture(scope="session")
def machine() -> Path:
    if not (MACHINE / "packages/.ready").is_file():
        pytest.skip(f"no emulated machine in {MACHINE}: make test-arm prepares it")
    return MACHINE / "root"


@pytest.fixture(scope="session")
def arm_bundles(
    machine: Path,
    short: Path,
    short_full: FullPrecision,
    few_images: Path,
    labels_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Bundles of two blocks, by recipe: what an emulator can compute in minutes, by every kernel of the whole."""
    place = tmp_path_factory.mktemp("arm")

    def make(name: str) -> Path:
        # Signed weights may fail their gate here, on x86 without VNNI; what counts is the gate there. Of a few images no
        # recipe may choose how many patches to merge.
        job = ExportJob(
            short, place / name, name, target="arm-dotprod", calibration=few_images, labels=labels_file,
            merge=2 if ONNX_RECIPES[name].merge_within else None,
        )  # fmt: skip
        export_medsiglip(job, full=short_full)
        return place / name

    return {name: make(name) for name in ONNX_RECIPES}


@pytest.fixture(scope="session")
def job(short: Path, few_images: Path, arm_bundles: dict[str, Path]) -> tuple[Embeddings, Embeddings]:
    """(inputs, what PyTorch makes of them)."""
    reference = Reference(Checkpoint.open(short, "siglip"))
    side = reference.model.config.vision_config.image_size
    pixels = np.concatenate(list(read_samples(few_images).inputs("eval-tf", side, COUNT)))[:COUNT]
    texts = calibration_texts()[:COUNT]
    inputs = {"pixels": pixels, "ids": reference.text_ids(texts), "texts": np.array(texts)}
    return inputs, {"vision": reference.images(pixels).embedding, "text": reference.embed_texts(texts)}


@pytest.fixture(scope="session")
def emulated(
    machine: Path,
    arm_bundles: dict[str, Path],
    job: tuple[Embeddings, Embeddings],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Embeddings]:
    """What an emulated CPU computes: {"int8/vision": embeddings, ...}. One process a CPU, for all bundles."""
    place = tmp_path_factory.mktemp("emulated")
    np.savez(place / "job.npz", **job[0])  # type: ignore[arg-type] - numpy's annotation forgets that names are free
    made: dict[str, Embeddings] = {}

    def run(cpu: str) -> Embeddings:
        if cpu in made:
            return made[cpu]
        first = None if cpu == CPUS[0] else run(CPUS[0])
        again = {} if first is None else dict.fromkeys(SAME_KERNELS, AGAIN)
        # Golden values of signed formats are this machine's, x86: no measure of ARM.
        unmeasured = SIGNED | again.keys()
        plan = {
            name: {"folder": str(folder), "count": again.get(name, COUNT), "golden": name not in unmeasured}
            for name, folder in arm_bundles.items()
        }
        (place / f"{cpu}.json").write_text(json.dumps(plan))
        path = f"{machine.parent / 'packages'}:{ROOT / 'src'}"
        command = [
            machine / "usr/bin/qemu-aarch64-static", "-cpu", cpu, "-L", machine, "-E", f"PYTHONHOME={machine / 'usr'}",
            "-E", f"PYTHONPATH={path}", machine / "usr/bin/python3.11", ROOT / "tests/arm/worker.py", place / "job.npz",
            place / f"{cpu}.json", place / f"{cpu}.npz",
        ]  # fmt: skip
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = dict(np.load(place / f"{cpu}.npz"))
        for recipe in again:
            assert first is not None
            for name in (f"{recipe}/vision", f"{recipe}/text"):
                assert np.array_equal(found[name], first[name][:AGAIN]), name
                found[name] = first[name]
            found[f"{recipe}/golden"] = first[f"{recipe}/golden"]
        made[cpu] = found
        return found

    return run


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("recipe", sorted(ONNX_RECIPES))
def test_embeddings_on_arm(
    emulated: Callable[[str], Embeddings],
    job: tuple[Embeddings, Embeddings],
    arm_bundles: dict[str, Path],
    recipe: str,
    cpu: str,
) -> None:
    inputs, exact = job
    found = emulated(cpu)
    assert recipe in SIGNED or found[f"{recipe}/golden"].all()
    assert (found[f"{recipe}/ids"] == inputs["ids"]).all()
    here = Encoder(Bundle.open(arm_bundles[recipe], allow_failed_parity=True), device="cpu")
    x86 = {"vision": here.embed_pixels(inputs["pixels"]), "text": here.embed_ids(inputs["ids"])}
    rows = {}
    for tower in ("vision", "text"):
        ours = found[f"{recipe}/{tower}"]
        centred = metrics.centred_cosine(exact[tower], ours)
        figures = {
            f"{tower}.max_error": float(np.abs(exact[tower] - ours).max()),
            f"{tower}.centred_cosine.mean": float(centred.mean()), f"{tower}.centred_cosine.min": float(centred.min()),
            f"{tower}.centred_cosine.p01": float(np.quantile(centred, 0.01)),
        }  # fmt: skip
        for gate in part_gates(tower, ONNX_RECIPES[recipe]):
            assert gate.passes(figures[gate.figure]), (gate, figures)
        cosines = metrics.cosine(x86[tower], ours)
        # Without VNNI an x86 host computes signed 8-bit weights wrongly (DESIGN.md): it is no measure of ARM then.
        if recipe not in SIGNED or pick_target()[0].signed_weights:
            what, value, bound, holds = judge_cosines(tower, cosines, here.towers[tower].golden)
            assert holds, (what, value, bound)
        rows[tower] = {**figures, "least_cosine_to_x86": float(cosines.min())}
    if place := os.environ.get("MEDGE_ARM_RESULTS"):
        _record(Path(place), recipe, cpu, rows)


def _record(path: Path, recipe: str, cpu: str, rows: dict[str, dict[str, float]]) -> None:
    """For docs/results/arm.md: `make test-arm` names benchmarks/results/arm.json."""
    body = json.loads(path.read_text()) if path.exists() else {}
    body.setdefault(recipe, {})[cpu] = rows
    path.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
