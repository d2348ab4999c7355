"""What fits where: numbers in, a plan or a refusal out, and nothing loaded."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from medge.quant.recipes.gguf import GOLDEN
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.facts import Artefact, FileEntry, GeneratorFacts, Source, TowerFacts
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.device.storage import LEAST_SHARE, SLOWER
from medge.runtime.errors import ContextError
from medge.runtime.generator.planner import DEFAULT_CONTEXT, Device, need, plan

FACTS_4B = GeneratorFacts(
    "gemma3", 4_300_000_000, 34, 2560, 4, 256, 1024, 6, 131_072, 262_208, 896, 256, 14, (1, 106)
)  # fmt: skip
FACTS_27B = dataclasses.replace(FACTS_4B, parameters=27_400_000_000, layers=62, width=5376, kv_heads=16, head_size=128)
GB = 10**9


def bundle(facts: GeneratorFacts, weights: int, projector: str = "gguf") -> Bundle:
    files = (FileEntry("m.gguf", "language", weights, ""), FileEntry("p", "projector", GB // 2, ""))
    towers = {
        "language": TowerFacts("q4_k_m", "m.gguf", "gguf", GOLDEN), "projector": TowerFacts("int8", "p", projector, GOLDEN),
    }  # fmt: skip
    manifest = Manifest(
        kind="generator", name="reader", model=facts, preprocessing=None, target="any", source=Source("reader", {}, ""),
        artefacts={"gguf": Artefact(towers)}, files=files,
    )  # fmt: skip
    return Bundle(Path("nowhere"), manifest)


def device(free: float, *, gpu: float = 0) -> Device:
    return Device(int(free * GB * 1.2), int(free * GB), 4, ("avx2",), int(gpu * GB))


def test_cache_follows_the_windows() -> None:
    """By hand: 5 global layers keep everything, 29 their window of 1024 and a batch of 512; keys and values, 16 bits."""
    positions = 5 * 8192 + 29 * 1536
    assert need(FACTS_4B, 0, 8192).cache == positions * 4 * 256 * 2 * 2
    assert need(FACTS_4B, 0, 512).cache == 34 * 512 * 4 * 256 * 2 * 2


def test_a_tower_in_onnx_takes_more() -> None:
    """benchmarks/image_tower.py measured 0.84 GB for int8 at 4096 patches, and it is not all given back to the model."""
    inside = need(FACTS_4B, 0, 2048)
    beside = need(FACTS_4B, 0, 2048, onnx=True)
    assert beside.cache == inside.cache
    assert beside.working - inside.working > 0.4 * GB
    assert beside.working > 0.84 * GB
    made, other = bundle(FACTS_4B, int(2.5 * GB)), bundle(FACTS_4B, int(2.5 * GB), "onnx")
    free = device(inside.total / GB / 0.9 + 3.4)
    assert plan(made, device=free).context > plan(other, device=free).context


def test_a_roomy_device_gets_the_default() -> None:
    chosen = plan(bundle(FACTS_4B, int(2.5 * GB)), device=device(16))
    assert (chosen.context, chosen.threads, chosen.gpu_layers) == (DEFAULT_CONTEXT, 4, 0)
    assert chosen.checked() is chosen


def test_a_small_device_gets_a_shorter_context() -> None:
    size = int(2.5 * GB)
    fixed = need(FACTS_4B, size + GB // 2, 2048).total
    chosen = plan(bundle(FACTS_4B, size), device=device(fixed / GB / 0.9 + 0.001))
    assert chosen.fits
    assert chosen.context == 2048


def test_what_can_not_fit_is_refused_with_the_numbers() -> None:
    chosen = plan(bundle(FACTS_27B, 16 * GB), device=device(8))
    assert not chosen.fits
    with pytest.raises(ContextError, match=r"needs 1[67]\.\d GB .* and 7\.2 GB can be used"):
        chosen.checked()


def test_a_wish_is_kept_or_refused() -> None:
    chosen = plan(bundle(FACTS_4B, int(2.5 * GB)), device=device(5), context=131_072, threads=1)
    assert (chosen.context, chosen.threads) == (131_072, 1)
    assert not chosen.fits


def test_weights_may_stay_in_storage_where_the_rest_fits() -> None:
    """Three states: 2.5 GB of weights that may be dropped, and what may not be: tower, cache, working memory, the runtime."""
    made = bundle(FACTS_4B, int(2.5 * GB))
    rest = need(FACTS_4B, GB // 2, 512).total
    roomy = plan(made, device=device(16), from_storage=True)
    assert (roomy.fit, roomy.runs, roomy.read_again) == ("in memory", True, 0)

    half = device((rest + 1.25 * GB) / GB / 0.9)  # the weights have room for half of them with the shortest context
    asked = plan(made, device=half)
    assert (asked.fit, asked.fits, asked.runs) == ("from storage", False, False)
    assert 0.5 < asked.read_again / (2.5 * GB) < 1.0
    told = rf"--from-storage\), which reads {asked.read_again / GB:.1f} GB again for each"
    with pytest.raises(ContextError, match=told):
        asked.checked()
    agreed = plan(made, device=half, from_storage=True)
    assert agreed.checked() is agreed
    assert agreed.context > asked.context  # the longest that runs so; a cache can't be dropped
    assert agreed.read_again > asked.read_again
    assert agreed.seconds_a_token(GB) == pytest.approx(agreed.read_again * SLOWER / GB)
    assert agreed.seconds_a_token(GB / 4) == pytest.approx(4 * agreed.seconds_a_token(GB))

    least = device((rest + LEAST_SHARE * 2.5 * GB + 1e6) / GB / 0.9)
    assert plan(made, device=least, from_storage=True).runs
    small = plan(made, device=device((rest + LEAST_SHARE * 2.5 * GB - 1e6) / GB / 0.9), from_storage=True)
    assert (small.fit, small.runs, small.read_again) == ("not at all", False, 0)
    with pytest.raises(ContextError, match="close other programs$"):
        small.checked()


def test_what_a_gpu_shares_does_not_run_from_storage() -> None:
    made = bundle(FACTS_4B, int(2.5 * GB))
    assert plan(made, device=device(3, gpu=0.5), from_storage=True).fit == "not at all"
    assert plan(made, device=device(3, gpu=0.5), from_storage=True, gpu_layers=0).fit == "from storage"


def test_layers_go_to_a_gpu_as_far_as_it_holds_them() -> None:
    size = int(2.5 * GB)
    whole = plan(bundle(FACTS_4B, size), device=device(16, gpu=24))
    assert whole.gpu_layers == FACTS_4B.layers + 1
    part = plan(bundle(FACTS_4B, size), device=device(16, gpu=2))
    assert 0 < part.gpu_layers < FACTS_4B.layers
    assert plan(bundle(FACTS_27B, 16 * GB), device=device(8, gpu=24)).fits
    assert plan(bundle(FACTS_4B, size), device=device(16, gpu=24), gpu_layers=3).gpu_layers == 3


def test_this_machine_is_read() -> None:
    here = Device.here()
    assert 0 < here.memory_free <= here.memory_total
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.gpu == 0 or here.gpu > 10**8
