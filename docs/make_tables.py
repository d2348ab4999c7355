"""Fill the tables of docs/results, and the README's headline results, from benchmarks/results; a test fails when they differ.

python docs/make_tables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parity() -> str:
    head = ["recipe", "test images", "centred cosine mean", "min", "text min", "flips", "PyTorch", "bundle",
            "AUC difference", "size to fp32", "gates"]  # fmt: skip
    rows = [
        [
            f"`{row['recipe']}`", row["images"], f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}",
            f"{row['text_centred_min']:.5f}", f"{100 * row['flips']:.2f}%", f"{row['task']} {_interval(row['reference'])}",
            _interval(row["bundle"]), f"{row['auc_difference']:.5f}", f"{row['size_ratio']:.2f}", row["status"],
        ]
        for row in json.loads((RESULTS / "standin_parity.json").read_text())
    ]  # fmt: skip
    return table(head, rows)


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def full_size() -> str:
    facts = json.loads((RESULTS / "full_size.json").read_text())
    sizes = [
        [f"`{name}`", f"{size['bytes'] / 1e6:.0f}", f"{size['ratio']:.3f}"] for name, size in facts["sizes"].items()
    ]
    return "\n\n".join(
        [
            table(["recipe", "both towers MB", "to fp32"], sizes),
            f"Making them took {facts['export_peak_bytes'] / 1e9:.0f} GB of memory at its peak.",
            "Vision tower in fp32, one image (a cold start says little here, since the others export first):",
            table(["engine", "seconds", "to medge"], _ratios(facts["engines"], "latency_seconds_median")),
            "Classifying with a baked label bank, against the same answer from transformers in fp32:",
            _task(facts["task"]),
        ]
    )


def _ratios(rows: Sequence[dict[str, Any]], key: str) -> list[list[str]]:
    return [[row["engine"], f"{row[key]:.1f}", f"{row[key] / rows[0][key]:.2f}"] for row in rows]


def _task(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    keys = ("cold_start_seconds", "peak_bytes", "latency_seconds_median")
    body = [
        [
            row["engine"], f"{row[keys[0]]:.1f}", f"{row[keys[0]] / first[keys[0]]:.2f}",
            f"{row[keys[1]] / 1e6:.0f}", f"{row[keys[1]] / first[keys[1]]:.2f}", f"{row[keys[2]] / first[keys[2]]:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(["engine", "cold start s", "ratio", "peak memory MB", "ratio", "time of an image, ratio"], body)


def generators() -> str:
    facts = json.loads((RESULTS / "generator_parity.json").read_text())
    head = ["recipe", "MB", "bits a weight", "KL divergence, text", "of llama.cpp's without a matrix", "99%", "same first choice",
            "perplexity ratio", "KL divergence, with image", "image tokens, centred cosine", "gates"]  # fmt: skip
    rows = []
    for row in facts["rows"]:
        text, image, size = row["text"], row["image"], row["size"]
        ratio = text["kld"].get("ratio_to_plain")
        rows.append(
            [
                f"`{row['recipe']}`", f"{size['language_bytes'] / 1e6:.0f}", f"{size['bits_per_weight']:.2f}",
                f"{text['kld']['mean']:.5f}", "–" if ratio is None else f"{ratio:.2f}", f"{text['kld']['p99']:.4f}",
                f"{100 * text['same_top']:.1f}%", f"{text['perplexity_ratio']:.4f}", f"{image['kld']['mean']:.5f}",
                f"{image['centred_cosine']['mean']:.5f}", row["status"],
            ]
        )  # fmt: skip
    return "\n\n".join(
        [table(head, rows), _tasks(facts["rows"]), _matrices(facts["rows"]), _projectors(facts["projectors"])]
    )


def _tasks(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0]["tasks"])
    head = ["answers changed (accuracy of PyTorch, of the bundle)", *names]
    body = [
        [f"`{row['recipe']}`", *(
            f"{100 * row['tasks'][n]['flips']:.0f}% ({row['tasks'][n]['accuracy']['reference']['value']:.2f}, "
            f"{_interval(row['tasks'][n]['accuracy']['bundle'])})" for n in names
        )] for row in rows
    ]  # fmt: skip
    items = ", ".join(f"{name} {rows[0]['tasks'][name]['items']}" for name in names)
    return f"{table(head, body)}\n\nQuestions: {items}. A base model of 270 M guesses; what counts is whether the answers change."


def _matrices(rows: Sequence[dict[str, Any]]) -> str:
    row = next(row for row in rows if "matrices" in row)
    body = [["none (llama.cpp's quantizer)", f"{row['baseline']['kld']['mean']:.5f}"]]
    body += [[f"from {name}", f"{text['kld']['mean']:.5f}"] for name, text in row["matrices"].items()]
    return table([f"importance matrix, `{row['recipe']}`", "KL divergence on held-back medical text"], body)


def _projectors(rows: Sequence[dict[str, Any]]) -> str:
    body = [
        [f"`{row['recipe']}`", f"{row['bytes'] / 1e6:.2f}", f"{row['cosine']:.6f}", f"{row['centred_cosine']:.6f}",
         f"{row['centred_cosine_min']:.6f}"] for row in rows if "cosine" in row
    ]  # fmt: skip
    padded = next(row for row in rows if "max_error_to_unpadded" in row)
    note = f"Padding alone changes an image token by at most {padded['max_error_to_unpadded']:.1e}."
    return table(["projector", "MB", "cosine", "centred cosine", "least"], body) + f"\n\n{note}"


def generator_full_size() -> str:
    facts = json.loads((RESULTS / "generator_full_size.json").read_text())
    medge, torch, bundle, export = (facts[key] for key in ("medge", "pytorch_bf16", "bundle", "export"))
    size = sum(bundle["bytes"].values())
    rows = [
        ["published, bf16", f"{bundle['published_bytes'] / 1e9:.2f} GB"],
        ["language model + projector, `q4_k_m` + `q8_0`",
         f"{bundle['bytes']['language'] / 1e9:.2f} + {bundle['bytes']['projector'] / 1e9:.2f} GB, "
         f"{size / bundle['published_bytes']:.2f} of it"],
        ["peak memory of writing full-precision GGUF", f"{export['peak_bytes'] / 1e9:.2f} GB "
         f"(largest tensor {export['largest_tensor_bytes'] / 1e9:.2f} GB)"],
        [f"peak memory of answering, context {medge['context']}, image included",
         f"{medge['peak_bytes'] / 1e9:.2f} GB (the planner says {bundle['planned_bytes'] / 1e9:.2f})"],
        ["tokens/s generated, to PyTorch in bf16",
         f"{medge['tokens_per_second']:.2f}, {medge['tokens_per_second'] / torch['tokens_per_second']:.1f} times"],
        ["tokens/s read, to PyTorch in bf16",
         f"{medge['prefill_tokens_per_second']:.1f}, "
         f"{medge['prefill_tokens_per_second'] / torch['prefill_tokens_per_second']:.1f} times"],
        ["first token of a second question on the same image, to the first question",
         f"{medge['second_question_seconds']:.1f} s, {medge['second_question_seconds'] / medge['first_question_seconds']:.2f}"],
    ]  # fmt: skip
    speed = json.loads((RESULTS / "generator_speed.json").read_text())
    rows += [
        [f"{what} through medge, to llama.cpp's own bench, `{speed['file']}`", f"{speed[key]['ratio']:.3f}"]
        for key, what in (("tokens_per_second", "generating"), ("prefill_tokens_per_second", "reading"))
    ]
    written = speed["tokens_per_second"]
    rows.append(
        ["generating, large memory pages to small ones", f"{written['medge'] / written['medge, small pages']:.3f}"]
    )
    return table(["figure", "measured"], rows)


def coreml() -> str:
    facts = json.loads((RESULTS / "coreml_parity.json").read_text())
    whole = {row["recipe"]: sum(row["bytes"].values()) for row in facts["rows"]}
    head = ["recipe", "vision + text MB", "to fp16", "test images", "centred cosine mean", "min", "text min", "flips",
            "AUC difference", "gates"]  # fmt: skip
    rows = []
    for row in facts["rows"]:
        size = whole[row["recipe"]]
        rows.append(
            [
                f"`{row['recipe']}`", f"{row['bytes']['vision'] / 1e6:.2f} + {row['bytes']['text'] / 1e6:.2f}",
                f"{size / whole['fp16']:.2f}", row["images"], f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}",
                f"{row['text_centred_min']:.5f}", f"{100 * row['flips']:.2f}%", f"{row['auc_difference']:.5f}", row["status"],
            ]
        )  # fmt: skip
    full = facts["full_size"]
    note = (
        f"At full size (878 M, random weights) the evaluator takes {full['evaluator_seconds']:.1f} s an image, "
        f"{full['ratio']:.2f} of PyTorch's time in the same run; the fp16 vision package has "
        f"{full['package_bytes'] / 1e6:.0f} MB and is made in {full['make_seconds']:.0f} s."
    )
    return f"{table(head, rows)}\n\n{note}"


def arm() -> str:
    facts = json.loads((RESULTS / "arm.json").read_text())
    rows = [
        [
            f"`{recipe}`", cpu, f"{cpus[cpu]['vision']['vision.centred_cosine.min']:.6f}",
            f"{cpus[cpu]['text']['text.centred_cosine.min']:.6f}", f"{cpus[cpu]['vision']['least_cosine_to_x86']:.6f}",
            f"{cpus[cpu]['text']['least_cosine_to_x86']:.6f}",
        ]
        for recipe, cpus in facts.items() for cpu in sorted(cpus)
    ]  # fmt: skip
    head = ["recipe", "CPU", "images to PyTorch, centred min", "texts", "images to x86, cosine min", "texts"]
    return table(head, rows)


def web() -> str:
    rows = [
        [
            f"`{row['recipe']}`",
            f"{1e3 * row['browser_seconds']:.1f}",
            f"{1e3 * row['native_seconds']:.1f}",
            f"{row['ratio']:.1f}",
        ]
        for row in json.loads((RESULTS / "web_latency.json").read_text())
    ]
    return table(["recipe", "Chromium ms", "ONNX Runtime ms", "ratio"], rows)


def merging() -> str:
    facts = json.loads((RESULTS / "token_merging.json").read_text())
    head = ["merged a block", "tokens left", "time of an image", "test images", "centred cosine mean", "min", "flips",
            "AUC difference"]  # fmt: skip
    rows = [
        [
            str(row["merged"]), str(row["tokens_left"]), f"{row['time_ratio']:.2f}", row["images"],
            f"{row['centred']['mean']:.5f}", f"{row['centred']['min']:.5f}", f"{100 * row['flips']:.2f}%",
            f"{row['auc_difference']:.5f}",
        ]
        for row in facts["mini"]
    ]  # fmt: skip
    full = [
        [str(row["merged"]), str(row["tokens_left"]), f"{row['seconds']:.1f}", f"{row['time_ratio']:.2f}"]
        for row in facts["full_size"]
    ]
    return "\n\n".join(
        [
            table(head, rows),
            "The full-size vision tower (random weights, fp32), where speed is all that can be measured:",
            table(["merged a block", "tokens left", "seconds", "time of an image"], full),
        ]
    )


def image_tower() -> str:
    facts = json.loads((RESULTS / "image_tower.json").read_text())
    rows = []
    for row in facts["mini"]:
        tasks = [
            f"{100 * found['flips']:.1f}% ({found['reference']:.3f}, {found['bundle']:.3f})" for found in row["tasks"].values()
        ]  # fmt: skip
        rows.append([
            f"`{row['recipe']}`", str(row["merged"]), str(row["tokens_left"]), f"{row['centred']['mean']:.5f}",
            f"{row['centred']['min']:.4f}", f"{row['kld']:.4f}", f"{100 * row['same_top']:.1f}%", *tasks, row["status"],
        ])  # fmt: skip
    questions = [f"{name}: changed (PyTorch, bundle)" for name in facts["mini"][0]["tasks"]]
    head = ["recipe", "merged a block", "patches left", "centred cosine mean", "min", "KL divergence", "same next word",
            *questions, "gates"]  # fmt: skip
    items = ", ".join(f"{name} {found['items']}" for name, found in facts["mini"][0]["tasks"].items())
    full = [
        [
            f"{row['engine']} `{row['recipe']}`", str(row["merged"]), str(row["tokens_left"]), f"{row['bytes'] / 1e6:.0f}",
            f"{row['seconds']:.1f}", f"{row['time_ratio']:.2f}", f"{row['peak_bytes_beside'] / 1e9:.2f}",
        ]
        for row in facts["full_size"]
    ]  # fmt: skip
    return "\n\n".join([
        table(head, rows), f"Questions: {items}.",
        "At MedGemma 4B's size (random weights), where only speed can be measured; each against llama.cpp's `q8_0` in turns. "
        "Memory is the process's, less the language model's file:",
        table(["tower", "merged a block", "patches left", "MB", "seconds an image", "to `q8_0`", "peak memory, GB"], full),
    ])  # fmt: skip


def distillation() -> str:
    facts = json.loads((RESULTS / "distillation.json").read_text())
    head = ["student", "test images", "accuracy kept", "AUC kept", "centred cosine mean", "text min", "flips"]

    def line(name: str, images: str, row: dict[str, Any]) -> list[str]:
        return [
            name, images, f"{row['accuracy_kept']:.3f}", f"{row['auc_kept']:.3f}", f"{row['centred_cosine']['mean']:.4f}",
            f"{row['text_centred_cosine']['min']:.4f}", f"{100 * row['flips']:.1f}%",
        ]  # fmt: skip

    tests = {f"{name}, fp32": rows["tests"] for name, rows in facts["encoder"]["rows"].items()}
    tests |= {name: rows for name, rows in facts["finish"].items() if "int4" in name}
    parts = [table(head, [line(name, images, row) for name, rows in tests.items() for images, row in rows.items()])]
    if "latency" in facts:
        head = ["full-size tower, random weights, fp32", "pixels", "fewer operations", "seconds an image", "faster"]
        rows = [
            [
                f"`{row['tower']}`",
                str(row["side"]),
                f"{row['operations_ratio']:.0f}",
                f"{row['seconds']:.3f}",
                f"{row['faster']:.0f}",
            ]
            for row in facts["latency"]
        ]
        parts += ["What the shapes cost on this machine, in turns in one run:", table(head, rows)]
    if "language" in facts:
        figures, data = facts["language"]["figures"], facts["language"]["facts"]
        layers, steps = len(data["inherited_layers"]), data["training"]["steps"]
        perplexity = [figures[f"perplexity_{name}"] for name in ("teacher", "before", "student")]
        parts.append(
            f"medgemma-mini into {layers} of its 18 layers, {steps} steps: perplexity on held-back PubMedQA texts "
            f"{perplexity[0]:.1f} (teacher), {perplexity[1]:.2g} (layers left out), {perplexity[2]:.0f} (student): "
            f"{100 * figures['log_gap_recovered']:.0f}% of the gap in log-perplexity. The student's first choice is the "
            f"teacher's at {100 * figures['same_first_choice']:.0f}% of the places."
        )
    return "\n\n".join(parts)


def android() -> str:
    facts = json.loads((RESULTS / "android.json").read_text())
    sizes = ", ".join(f"{abi} {size / 1e6:.1f} MB" for abi, size in facts["apk_bytes"].items())
    phones = [row["gigabytes"] for row in next(iter(facts["plans"].values()))]
    rows = []
    for name, plans in facts["plans"].items():
        cells = []
        for plan in plans:
            context = f", {plan['context']} tokens" if plan["context"] else ""
            cells.append(f"fits{context}" if plan["fits"] else f"does not fit ({plan['room'] / 1e9:.2f})")
        rows.append([name, f"{plans[0]['weights'] / 1e9:.2f}", f"{plans[-1]['need'] / 1e9:.2f}", *cells])
    head = ["bundle", "weights in memory, GB", "memory, GB", *(f"{size:g} GB phone" for size in phones)]
    times = [
        [row["what"], f"{row['operations'] / 1e9:.0f}", *(
            f"{row[kind]:.1f}" if kind in row else "–" for kind in ("int8", "fp32")
        ), f"{row['memory']:.2f}" if "memory" in row else "–"] for row in facts["estimates"]
    ]  # fmt: skip
    return "\n\n".join([
        f"APK without models: {sizes}.", table(head, rows),
        f"The planner's {facts['plans']['MedSigLIP, int8'][0]['need'] / 1e6:.0f} MB for int8 compares with a measured peak of "
        f"{facts['int8_peak_measured_on_x86'] / 1e6:.0f} MB of the Python runtime on x86.",
        "**Estimated** seconds, not measured: operations / (4 cores × 2 GHz × operations a cycle × 0.4), with 64 operations a "
        "cycle in 8 bits (dotprod) and 16 in fp32; for a token of an answer, bytes of the weights / 10 GB/s. Operations are "
        "2 × weights × tokens + 4 × tokens² × width × layers.",
        table(["", "billion operations", "8 bits", "fp32", "by memory"], times),
    ])  # fmt: skip


def decoders() -> str:
    facts = json.loads((RESULTS / "decoders.json").read_text())

    def ratio(row: dict[str, Any], clock: str, name: str) -> str:
        found = row[f"{clock}_ratio"][name]
        return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

    head = ["films", "images", "processor time of an image, ms", "to before", "to inside", "by the clock, to before"]
    rows = [
        [
            row["kind"], str(row["images"]), f"{1e3 * row['cpu']['apart'] / row['images']:.1f}", ratio(row, "cpu", "before"),
            ratio(row, "cpu", "inside"), ratio(row, "wall", "before"),
        ]
        for row in facts["sets"]
    ]  # fmt: skip
    memory = facts["memory"]
    each = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in memory["apart"]["decoders"])
    note = (
        f"Greatest resident memory: the reader {memory['apart']['reader'] / 1e6:.0f} MB, before "
        f"{memory['before']['reader'] / 1e6:.0f} MB; its decoder processes {each}. The first pass over the folder, imports and "
        f"starts of all processes with it, took {facts['first_pass']['apart']['cpu']:.1f} s of processor time, before "
        f"{facts['first_pass']['before']['cpu']:.1f} s."
    )
    return f"{table(head, rows)}\n\n{note}"


def fuzz() -> str:
    facts = json.loads((RESULTS / "fuzz.json").read_text())
    verdicts = ("refused", "right", "traceback", "abort", "hang", "memory", "wrong")
    rows = [
        [f"`{kind}`", f"{sum(row.values()):,}", *(f"{row.get(verdict, 0):,}" for verdict in verdicts)]
        for kind, row in facts["counts"].items()
    ]
    total = [sum(row.get(verdict, 0) for row in facts["counts"].values()) for verdict in verdicts]
    rows.append(["all", f"{sum(total):,}", *(f"{count:,}" for count in total)])
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{table(['kind', 'tried', *verdicts], rows)}\n\nPython {facts['python']}, {versions}; {facts['minutes']} minutes."


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
        "Encoder: distance from PyTorch", "benchmarks/standin_parity.py", "2026-11-25", f"{CORES}, target avx2", parity
    ),
    "encoder-full-size": Benchmark(
        "Encoder: full size", "benchmarks/full_size.py", "2026-11-24", f"{CORES} with AVX2", full_size
    ),
    "language-parity": Benchmark(
        "Language models: distance from PyTorch", "benchmarks/generator_parity.py", "2026-11-26", CORES, generators
    ),
    "language-full-size": Benchmark(
        "Language models: full size", "benchmarks/generator_full_size.py and generator_speed.py", "2026-11-24",
        "one x86-64 core; the last three rows two, 2026-11-25", generator_full_size,
    ),
    "image-tower": Benchmark(
        "MedGemma's vision tower", "benchmarks/image_tower.py", "2026-11-25", CORES, image_tower
    ),
    "token-merging": Benchmark(
        "Merging similar patches", "benchmarks/token_merging.py", "2026-11-25", CORES, merging
    ),
    "distillation": Benchmark("Distillation", "benchmarks/distillation.py", "2026-11-25", CORES, distillation),
    "coreml": Benchmark(
        "CoreML packages", "benchmarks/coreml_parity.py", "2026-11-25", f"{CORES}, medge's own evaluator", coreml
    ),
    "arm": Benchmark(
        "ARM", "make test-arm", "2026-11-25", "aarch64 emulated by qemu-user on x86-64 with VNNI", arm
    ),
    "android": Benchmark("Android", "benchmarks/android.py", "2026-11-25", "no phone; the planner on a JVM", android),
    "fuzz": Benchmark("Files changed at random", "make fuzz", _recorded("fuzz"), CORES, fuzz),
    "browser": Benchmark(
        "The browser", "benchmarks/web_latency.py", "2026-11-25", f"{CORES}, headless Chromium", web
    ),
    "decoders": Benchmark(
        "Decoders in processes of their own", "benchmarks/decoders.py", "2026-11-26", f"{CORES}, busy", decoders
    ),
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
    lines = [["page", "measured by", "recorded", "machine"], ["---"] * 4, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def headline() -> str:
    """One result for each model, for the README."""
    size = json.loads((RESULTS / "full_size.json").read_text())
    plain, int8 = size["task"][0], next(row for row in size["task"] if row["engine"] == "medge int8")
    near = [row for row in json.loads((RESULTS / "standin_parity.json").read_text()) if row["recipe"] == "int8"]
    images = [f"{100 * max(row['flips'] for row in near):.2f}%", f"{min(row['centred_min'] for row in near):.4f}"]
    whole = json.loads((RESULTS / "generator_full_size.json").read_text())
    bundle, speed = whole["bundle"], whole["medge"]["tokens_per_second"] / whole["pytorch_bf16"]["tokens_per_second"]
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
            f"what is published; peak memory {whole['medge']['peak_bytes'] / 1e9:.2f} GB; {speed:.1f} times PyTorch's tokens/s",
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
    lines = [head, ["---"] * 4, *([*row[:3], _origins(row[3])] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
    return {path: fill(path.read_text(encoding="utf-8"), name, body) for path, (name, body) in bodies.items()}


if __name__ == "__main__":
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
