"""Tables of encoders: distance from PyTorch, size and speed, merging, distillation, CoreML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .form import RATIO_NOTE, RESULTS, ratio_text, table, with_interval


def parity() -> str:
    head = ["recipe", "test images", "centred cosine mean", "min", "text min", "flips", "PyTorch", "bundle",
            "AUC difference", "size to fp32", "gates"]  # fmt: skip
    rows = [
        [
            f"`{row['recipe']}`", row["images"], f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}",
            f"{row['text_centred_min']:.5f}", f"{100 * row['flips']:.2f}%", f"{row['task']} {with_interval(row['reference'])}",
            with_interval(row["bundle"]), f"{row['auc_difference']:.5f}", f"{row['size_ratio']:.2f}", row["status"],
        ]
        for row in json.loads((RESULTS / "standin_parity.json").read_text())
    ]  # fmt: skip
    return table(head, rows)


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
            table(
                ["engine", "seconds", "time, to medge's"],
                [[row["engine"], f"{row['latency_seconds_median']:.1f}", ratio_text(row)] for row in facts["engines"]],
            ),
            "Classifying with a baked label bank, against the same answer from transformers in fp32:",
            _task(facts["task"]),
        ]
    )


def _task(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    body = [
        [
            row["engine"], f"{row['cold_start_seconds']:.1f}", f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['peak_bytes'] / first['peak_bytes']:.2f}", f"{row['latency_seconds_median']:.1f}", ratio_text(row),
        ]
        for row in rows
    ]  # fmt: skip
    head = ["engine", "cold start s", "peak memory MB", "ratio", "seconds an image", "time, to transformers'"]
    return f"{table(head, body)}\n\n{RATIO_NOTE}"


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


def litert() -> str:
    facts = json.loads((RESULTS / "litert.json").read_text())
    whole = {row["recipe"]: sum(row["bytes"].values()) for row in facts["rows"]}
    head = ["recipe", "vision + text MB", "to fp32", "test images", "how many", "greatest error", "centred cosine mean", "min",
            "text min", "flips", "AUC difference", "gates"]  # fmt: skip
    rows = [
        [
            f"`{row['recipe']}`", f"{row['bytes']['vision'] / 1e6:.2f} + {row['bytes']['text'] / 1e6:.2f}",
            f"{whole[row['recipe']] / whole['fp32']:.2f}", row["images"], str(row["count"]), f"{row['max_error']:.1e}",
            f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}", f"{row['text_centred_min']:.5f}",
            f"{100 * row['flips']:.2f}%", f"{row['auc_difference']:.5f}", row["status"],
        ]
        for row in facts["rows"]
    ]  # fmt: skip
    turns = [
        [
            f"`{row['recipe']}`", row["tower"], *(f"{row['cpu'][name]:.1f}" for name in ("litert", "onnx", "onnx_fast")),
            *(_share(row["ratios"][name]) for name in ("onnx", "onnx_fast")),
        ]
        for row in facts["turns"]
    ]  # fmt: skip
    told = (
        f"Milliseconds of the processor for one input on one thread, {facts['rounds']} turns, target {facts['target']}, and "
        "LiteRT's as a share of ONNX Runtime's, as medge opens it and with `--fast`, with the 95% interval of the median turn:"
    )
    beside = table(["recipe", "tower", "LiteRT", "ONNX Runtime", "`--fast`", "share", "share of `--fast`"], turns)
    return f"{table(head, rows)}\n\n{told}\n\n{beside}"


def _share(ratio: dict[str, float] | None) -> str:
    return f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "not sure"


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
    parts = [
        table(head, rows),
        "The full-size vision tower (random weights, fp32), where speed is all that can be measured:",
        table(["merged a block", "tokens left", "seconds", "time of an image"], full),
    ]
    # A run from before recipes were timed has none.
    return "\n\n".join([*parts, *(_merges_within_its_gates(row) for row in facts.get("recipes", []))])


def _merges_within_its_gates(row: dict[str, Any]) -> str:
    where = f"On the stand-in (target {row['target']}) `{row['recipe']}`"
    if not row["merged"]:
        return f"{where} merges nothing: its gates leave no room. It is `{row['without']}` there, and not faster."
    failed = [images for images, verdict in row["gates"].items() if verdict == "failed"]
    gates = f"fails its gates on {' and '.join(failed)}" if failed else "passes its gates on every test set"
    return (
        f"{where} merges {row['merged']} patches a block, {gates}, and is "
        f"{'faster' if row['time_ratio'] < 1 else 'not faster'} than `{row['without']}`: an image takes "
        f"{row['time_ratio']:.2f} of its time."
    )


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


def coverage() -> str:
    facts = json.loads((RESULTS / "coverage.json").read_text())
    rows = [
        [
            f"{'among the chosen' if row['among'] else 'missing'}{', each chosen image five times' if row['copied'] else ''}",
            str(row["cases"]), *(f"{100 * row[figure]:.0f}%" for figure in ("median", "least", "most", "refused")),
        ]
        for row in facts["rows"]
    ]  # fmt: skip
    counts = ", ".join(f"{kind} {count}" for kind, count in facts["images"].items())
    head = ["the images' kind is", "cases", "unlike, median", "least", "most", "cases refused"]
    by = f"By the bundle of `{facts['bundle']}` that `make demo` writes:"
    labelled = [
        [
            str(row["labels"]), "one" if row["missing"] else "none", str(row["cases"]),
            *(f"{100 * row[way]:.0f}%" for way in ("together", "by_label")),
        ]
        for row in facts["labelled"]
    ]  # fmt: skip
    heads = ["labels of a folder", "missing among the chosen", "cases", "refused without labels", "refused with them"]
    images = f"Images: {counts}; every second was chosen on."
    return f"{by}\n\n{table(head, rows)}\n\n{table(heads, labelled)}\n\n{images}"


def maps() -> str:
    facts = json.loads((RESULTS / "maps.json").read_text())
    rows = [
        [
            row["set"], str(row["questions"]), str(row["pictures"]), with_interval(row["map"]), with_interval(row["occlusion"]),
            with_interval(row["middle"]), f"{row['chance']['value']:.3f}",
        ]
        for row in facts["rows"]
    ]  # fmt: skip
    cost = facts["cost"]
    times = [[f"the output is {name}", with_interval(ratio)] for name, ratio in cost["time"].items()]
    return "\n\n".join(
        [
            f"`{facts['source']}`, recipe `{facts['recipe']}`, {facts['patches']} patches:",
            table(["set", "questions", "pictures", "map", "occlusion", "middle", "chance"], rows),
            f"The vision tower's file is {cost['bytes'] / 1e6:.2f} MB, {cost['bytes_ratio']:.3f} of that without the output. "
            "An image's processor time through the tower:",
            table(["", "to the tower without"], times),
        ]
    )
