"""Fill the tables of docs/results, and the README's headline results, from benchmarks/results; a test fails when they differ.

python docs/make_tables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from result_tables import kills, kits
from result_tables.devices import android, arm, web
from result_tables.encoders import coreml, coverage, distillation, full_size, litert, maps, merging, parity
from result_tables.form import RESULTS, text_table
from result_tables.hardening import decoders, endurance, fuzz, isolation, kit, signing, station_store
from result_tables.language_models import (
    cache,
    compensation,
    finish,
    from_storage,
    generator_full_size,
    generators,
    image_tower,
    vocabulary,
)
from result_tables.stations import station_load

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Benchmark:
    """One page of results.

    Attributes:
        title: for the list of all pages.
        script: what measures it.
        recorded: the day on which the figures were put into benchmarks/results.
        machine: what they were measured on, as far as it is known.
        make: the tables, from the stored figures.
    """

    title: str
    script: str
    recorded: str
    machine: str
    make: Callable[[], str]


def _recorded(name: str) -> str:
    """The day that a result says of itself."""
    return str(json.loads((RESULTS / f"{name}.json").read_text())["date"])


CORES = "two x86-64 cores"
BENCHMARKS = {
    "encoder-parity": Benchmark(
        "Encoder: distance from PyTorch", "benchmarks/standin_parity.py", "2026-11-27", f"{CORES}, target avx2", parity
    ),
    "encoder-full-size": Benchmark(
        "Encoder: full size", "benchmarks/full_size.py", "2026-11-24", f"{CORES} with AVX2", full_size
    ),
    "language-parity": Benchmark(
        "Language models: distance from PyTorch", "benchmarks/generator_parity.py", "2026-11-26", CORES, generators
    ),
    "compensation": Benchmark(
        "Language models in few bits", "benchmarks/compensation.py", _recorded("compensation"), f"{CORES}, busy", compensation
    ),
    "finish": Benchmark(
        "Rounded language models, finished", "benchmarks/finish.py", _recorded("finish"), f"{CORES}, busy", finish
    ),
    "language-full-size": Benchmark(
        "Language models: full size", "benchmarks/generator_full_size.py and generator_speed.py", "2026-11-24",
        "one x86-64 core; the last three rows two, 2026-11-25", generator_full_size,
    ),
    "cache": Benchmark(
        "A key-value cache in fewer bits", "benchmarks/cache.py", _recorded("cache"), f"{CORES}, busy", cache
    ),
    "from-storage": Benchmark(
        "A language model from storage", "benchmarks/from_storage.py", _recorded("from_storage"), f"{CORES}, busy", from_storage
    ),
    "vocabulary": Benchmark(
        "A vocabulary cut by script", "benchmarks/vocabulary.py", _recorded("vocabulary"), f"{CORES}, busy", vocabulary
    ),
    "image-tower": Benchmark(
        "MedGemma's vision tower", "benchmarks/image_tower.py", "2026-11-25", CORES, image_tower
    ),
    "token-merging": Benchmark(
        "Merging similar patches", "benchmarks/token_merging.py", "2026-11-27", f"{CORES}, busy", merging
    ),
    "coverage": Benchmark(
        "Are calibration images of the right kinds?", "benchmarks/coverage.py", _recorded("coverage"), f"{CORES}, busy", coverage
    ),
    "maps": Benchmark("Where is it?", "benchmarks/maps.py", _recorded("maps"), f"{CORES}, busy", maps),
    "distillation": Benchmark("Distillation", "benchmarks/distillation.py", "2026-11-25", CORES, distillation),
    "litert": Benchmark("LiteRT files", "benchmarks/litert.py", _recorded("litert"), f"{CORES} with VNNI, busy", litert),
    "coreml": Benchmark(
        "CoreML packages", "benchmarks/coreml_parity.py", "2026-11-25", f"{CORES}, medge's own evaluator", coreml
    ),
    "arm": Benchmark(
        "ARM", "make test-arm", "2026-11-25", "aarch64 emulated by qemu-user on x86-64 with VNNI", arm
    ),
    "android": Benchmark("Android", "benchmarks/android.py", "2026-11-27", "no phone; the planner on a JVM", android),
    "fuzz": Benchmark("Files changed at random", "make fuzz", _recorded("fuzz"), CORES, fuzz),
    "browser": Benchmark(
        "The browser", "benchmarks/web_latency.py", "2026-11-25", f"{CORES}, headless Chromium", web
    ),
    "decoders": Benchmark(
        "Decoders in processes of their own", "benchmarks/decoders.py", "2026-11-26", f"{CORES}, busy", decoders
    ),
    "isolation": Benchmark(
        "Language models in processes of their own", "benchmarks/isolation.py", _recorded("isolation"), f"{CORES}, busy",
        isolation,
    ),
    "kit": Benchmark("Putting a kit in", "benchmarks/kit.py", "2026-11-27", f"{CORES}, very busy", kit),
    "endurance": Benchmark("Thousands of requests", "benchmarks/endurance.py", _recorded("endurance"), CORES, endurance),
    "station-store": Benchmark(
        "The station's store", "benchmarks/station_store.py", _recorded("station_store"), CORES, station_store
    ),
    "station-load": Benchmark(
        "The station under load", "benchmarks/station_load.py", _recorded("station_load"), f"{CORES}, very busy", station_load
    ),
    "signing": Benchmark("Verifying signatures", "benchmarks/signing.py", _recorded("signing"), f"{CORES}, busy", signing),
}  # fmt: skip


def _page(benchmark: Benchmark) -> str:
    origin = f"By `{benchmark.script}`, recorded on {benchmark.recorded}. Machine: {benchmark.machine}."
    return f"{origin}\n\n{benchmark.make()}"


def index() -> str:
    """The list of all pages."""
    rows = [
        [f"[{benchmark.title}]({name}.md)", f"`{benchmark.script}`", benchmark.recorded, benchmark.machine]
        for name, benchmark in BENCHMARKS.items()
    ]
    return text_table(["page", "measured by", "recorded", "machine"], rows)


def headline() -> str:
    """One result for each model, for the README."""
    size = json.loads((RESULTS / "full_size.json").read_text())
    plain, int8 = size["task"][0], next(row for row in size["task"] if row["engine"] == "medge int8")
    near = [row for row in json.loads((RESULTS / "standin_parity.json").read_text()) if row["recipe"] == "int8"]
    images = [f"{100 * max(row['flips'] for row in near):.2f}%", f"{min(row['centred_min'] for row in near):.4f}"]
    whole = json.loads((RESULTS / "generator_full_size.json").read_text())
    bundle = whole["bundle"]
    q4 = next(
        row for row in json.loads((RESULTS / "generator_parity.json").read_text())["rows"] if row["recipe"] == "q4_k_m"
    )
    text = q4["text"]
    rows = [
        [
            "MedSigLIP, `int8`",
            f"{size['sizes']['int8']['bytes'] / 1e6:.0f} MB, {size['sizes']['int8']['ratio']:.2f} of fp32; peak memory "
            f"{int8['peak_bytes'] / 1e6:.0f} MB, {int8['peak_bytes'] / plain['peak_bytes']:.2f} of transformers'",
            f"best label changed on at most {images[0]} of the images of a test set; worst centred cosine {images[1]}",
            ["encoder-full-size", "encoder-parity"],
        ],
        [
            "MedGemma 4B, `q4_k_m`",
            f"{sum(bundle['bytes'].values()) / 1e9:.2f} GB, {sum(bundle['bytes'].values()) / bundle['published_bytes']:.2f} of "
            f"what is published; peak memory {whole['medge']['peak_bytes'] / 1e9:.2f} GB; "
            f"{whole['medge']['tokens_per_second']:.1f} tokens/s",
            f"{q4['status']}: same first choice at {100 * text['same_top']:.1f}% of the tokens, mean KL divergence "
            f"{text['kld']['mean']:.3f} nats",
            ["language-full-size", "language-parity"],
        ],
    ]
    head = [
        "model, recipe",
        "size and speed at full size, random weights",
        "distance from PyTorch, stand-in",
        "recorded, machine",
    ]
    return text_table(head, [[*row[:3], _origins(row[3])] for row in rows])


def _origins(names: Sequence[str]) -> str:
    found = [(BENCHMARKS[name], f"docs/results/{name}.md") for name in names]
    return "; ".join(f"[{page.recorded}]({path}), {page.machine.partition(';')[0]}" for page, path in found)


def fill(text: str, name: str, body: str) -> str:
    """A page's text with what stands between the marks of this name replaced."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    text, count = marked.subn(lambda match: f"{match[1]}{body}{match[2]}", text)
    assert count == 1, f"a page needs one pair of marks <!-- {name} --> and <!-- /{name} -->"
    return text


def render() -> dict[Path, str]:
    """{file: its text with its tables as the results are now}."""
    folder = ROOT / "docs" / "results"
    bodies = {folder / f"{name}.md": (name, _page(benchmark)) for name, benchmark in BENCHMARKS.items()}
    bodies |= {folder / "index.md": ("index", index()), ROOT / "README.md": ("headline", headline())}
    found = {path: fill(path.read_text(encoding="utf-8"), name, body) for path, (name, body) in bodies.items()}
    page = folder / "kills.md"
    text = fill(page.read_text(encoding="utf-8"), "kills", kills.commands())
    text = fill(fill(text, "station", kills.station()), "kits", kits.killed())
    sizes = folder / "updates.md"
    return {**found, page: text, sizes: fill(sizes.read_text(encoding="utf-8"), "updates", kits.updates())}


if __name__ == "__main__":
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
