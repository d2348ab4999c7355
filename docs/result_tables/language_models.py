"""Tables of language models."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from .form import RATIO_NOTE, RESULTS, ratio_text, table, with_interval
from .plot import Point, scatter


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
            f"{with_interval(row['tasks'][n]['accuracy']['bundle'])})" for n in names
        )] for row in rows
    ]  # fmt: skip
    items = ", ".join(f"{name} {rows[0]['tasks'][name]['items']}" for name in names)
    return f"{table(head, body)}\n\nQuestions: {items}. A base model of 270 M guesses; what counts is whether the answers change."


def _matrices(rows: Sequence[dict[str, Any]]) -> str:
    row = next(row for row in rows if "matrices" in row)
    body = [["none (llama.cpp's quantizer)", f"{row['baseline']['kld']['mean']:.5f}"]]
    body += [[f"from {name}", f"{text['kld']['mean']:.5f}"] for name, text in row["matrices"].items()]
    return table(
        [f"importance matrix, `{row['recipe']}`, before compensation", "KL divergence on held-back medical text"], body
    )


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
        ["tokens/s generated, and by PyTorch in bf16",
         f"{medge['tokens_per_second']:.2f}, {torch['tokens_per_second']:.2f}"],
        ["tokens/s read, and by PyTorch in bf16",
         f"{medge['prefill_tokens_per_second']:.1f}, {torch['prefill_tokens_per_second']:.1f}"],
        ["first token of a question on an image, and of a second question on the same one",
         f"{medge['first_question_seconds']:.1f} s, {medge['second_question_seconds']:.1f} s"],
    ]  # fmt: skip
    speed = json.loads((RESULTS / "generator_speed.json").read_text())
    rows += [
        [f"tokens/s {what} through medge, and by llama.cpp's own bench, `{speed['file']}`",
         f"{speed[key]['medge']:.1f}, {speed[key]['llama-bench']:.1f}"]
        for key, what in (("tokens_per_second", "generated"), ("prefill_tokens_per_second", "read"))
    ]  # fmt: skip
    written = speed["tokens_per_second"]
    rows.append(
        ["tokens/s generated with large memory pages, and with small ones",
         f"{written['medge']:.1f}, {written['medge, small pages']:.1f}"]
    )  # fmt: skip
    return table(["figure", "measured"], rows)


def cache() -> str:
    """What a key-value cache in fewer bits costs and saves."""
    facts = json.loads((RESULTS / "cache.json").read_text())
    kinds = list(facts["distance"]["f16"])
    contexts = list(facts["memory"]["f16"]["planned_4b"])
    head = ["cache", *(f"a 4B's at {int(one):,} tokens, MB" for one in contexts), *(f"{kind}, KL divergence" for kind in kinds),
            *(f"{kind}, same first choice" for kind in kinds), "reading, CPU time", "writing, CPU time"]  # fmt: skip
    rows = []
    for name, found in facts["distance"].items():
        speed = facts["speed"][name]
        ratios = [
            "1" if name == "f16" else f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
            for row in (speed["reading"]["ratio"], speed["writing"]["ratio"])
        ]
        rows.append([
            f"`{name}`", *(f"{facts['memory'][name]['planned_4b'][one] / 1e6:.0f}" for one in contexts),
            *("–" if name == "f16" else with_interval(found[kind]["kld"], 4) for kind in kinds),
            *("–" if name == "f16" else f"{100 * found[kind]['same_top']['value']:.1f}%" for kind in kinds), *ratios,
        ])  # fmt: skip
    mini = facts["memory"]
    note = (
        f"Prompts of {facts['length']:,} tokens, {found[kinds[0]]['tokens']} places of each kind of text. llama.cpp keeps of "
        f"medgemma-mini's {mini['f16']['kept_mini'] / 1e6:.1f} MB in 16 bits, {mini['q8_0']['kept_mini'] / 1e6:.1f} in `q8_0` "
        f"({mini['q8_0']['kept_mini'] / mini['f16']['kept_mini']:.2f} times)."
    )
    return f"{note}\n\n{table(head, rows)}"


def from_storage() -> str:
    """What a model costs whose weights memory does not hold, mapped and read."""
    facts = json.loads((RESULTS / "from_storage.json").read_text())
    weights, free = facts["weights"], facts["free"]
    rows = [["mapped, no limit", *_a_token(free["mapped"])]]
    for row in facts["mapped"]:
        rounds = row["read_again_of_rounds"]
        again = f"{row['read_again']:.2f} ({min(rounds):.2f} to {max(rounds):.2f})"
        rows.append([f"mapped, {row['share']:.2f}", *_a_token(row, again)])
    rows.append(["read into memory, no limit", *_a_token(free["read"])])
    for row in facts["read"]:
        ended = row.get("killed", False)
        rows.append([f"read into memory, {row['share']:.2f}", *(["killed", "–", "–"] if ended else _a_token(row))])
    speed = statistics.median(facts["storage_bytes_per_second"])
    copied = free["mapped and repacked"]["anonymous"] - free["mapped"]["anonymous"]
    return "\n\n".join([
        f"Weights of {weights / 1e9:.2f} GB: a 4B's shapes with {facts['layers']} of its 34 layers, random, `{facts['recipe']}`. "
        f"Linux {facts['kernel']}, control groups of version 1.",
        table(["room for the weights", "read again", "seconds a token", "of these computing"], rows),
        f"Storage gave {speed / 1e9:.2f} GB a second from beginning to end. Reading in between took "
        f"**{facts['slower']:.1f} times** as long. Repacked, {copied / weights:.2f} of these weights were a copy in memory.",
    ])  # fmt: skip


def _a_token(row: dict[str, Any], again: str = "") -> list[str]:
    return [again or f"{row['read_again']:.2f}", f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}"]


def finish() -> str:
    """What a finish takes off the distance of each recipe, and what it costs."""
    rows = json.loads((RESULTS / "finish.json").read_text())["rows"]
    kinds = list(rows[0]["held_back"])
    files = {(row["recipe"], row["rounding"]): row for row in rows}
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    pairs = [(files[recipe, "compensated"], files[recipe, "finished"]) for recipe in recipes]
    gains = [
        [f"`{after['recipe']}`", f"{after['bytes'] / 1e6:.0f}", f"{after['bits']:.2f}", other,
         *(f"{_kld(after, kind) / _kld(files[after['recipe'], other], kind):.2f}" for kind in kinds)]
        for after in (after for _, after in pairs)
        for other in ("compensated", ROUNDINGS[0]) if (after["recipe"], other) in files
    ]  # fmt: skip
    costs = [
        [f"`{after['recipe']}`", f"{after['examples']:,}", f"{after['steps']}", f"{after['factors']:,}",
         *(f"{after[key] / 60:.0f}" if key in after else "–" for key in ("seconds", "cpu_seconds")),
         f"{after['figures']['divergence_before']:.3f}", f"{after['figures']['divergence']:.3f}"]
        for _, after in pairs
    ]  # fmt: skip
    values = [[f"`{row['recipe']}`", row["rounding"], *_held_back(row, kinds)] for row in rows]
    worse = [
        f"`{after['recipe']}` on {kind}" for before, after in pairs for kind in kinds if _kld(after, kind) > _kld(before, kind)
    ]  # fmt: skip
    tokens = ", ".join(f"{found['tokens']:,} of {kind}" for kind, found in rows[0]["held_back"].items())
    return "\n\n".join([
        f"KL divergence is judged on tokens that nothing was learned on: {tokens}. "
        + (f"The finish made it greater: {', '.join(worse)}." if worse else "On none of them the finish made it greater."),
        table(["KL divergence of the finished file", "MB", "bits a weight", "as a share of", *kinds], gains),
        table(["recipe", "rounding", *_held_back_heads(kinds)], values),
        table(["recipe", "examples", "steps", "factors", "minutes", "processor minutes", "KL divergence by PyTorch, before",
               "after"], costs),
    ])  # fmt: skip


def _held_back_heads(kinds: Sequence[str]) -> list[str]:
    """Of the columns that `_held_back` fills."""
    return [f"{kind}, {figure}" for figure in ("KL divergence", "same first choice") for kind in kinds]


def _held_back(row: dict[str, Any], kinds: Sequence[str]) -> list[str]:
    """A file's KL divergence and its share of same first choices on each kind of text."""
    found = [row["held_back"][kind] for kind in kinds]
    return [*(with_interval(one["kld"]) for one in found), *(f"{100 * one['same_top']['value']:.1f}%" for one in found)]


def _kld(row: dict[str, Any], kind: str) -> float:
    return float(row["held_back"][kind]["kld"]["value"])


def vocabulary() -> str:
    """What a vocabulary that is cut by script saves and costs."""
    facts = json.loads((RESULTS / "vocabulary.json").read_text())
    choices, first = facts["choices"], facts["choices"][0]
    kinds = list(first["saved"]["rows_4b"])
    head = ["`--vocabulary`", "tokens", "dropped", *(f"a 4B's rows in {kind}, MB less" for kind in kinds), "pieces, MB less",
            "missed of held-back tokens"]  # fmt: skip
    rows = []
    for row in choices:
        held = row["held_back"].values()
        missed, of = sum(one["missed"] for one in held), sum(one["whole"] for one in held)
        rows.append([
            f"`{row['vocabulary']}`", f"{row['kept']:,}", f"{row['of'] - row['kept']:,}",
            *(f"{row['saved']['rows_4b'][kind] / 1e6:.0f}" for kind in kinds), f"{row['saved']['pieces'] / 1e6:.1f}",
            f"{missed} of {of:,}",
        ])  # fmt: skip
    use = facts["by_use"]
    files = "; ".join(
        f"`{recipe}` {found['whole'] / 1e6:.1f} MB whole, {found['cut'] / 1e6:.1f} cut" for recipe, found in first["mini"].items()
    )  # fmt: skip
    mass = ", ".join(
        f"{name} {100 * found['mean']:.3f}% (99% of places below {100 * found['p99']:.2f}%)"
        for name, found in first["dropped_mass"].items()
    )
    places = sum(found["places"] for found in first["dropped_mass"].values())
    return "\n\n".join([
        table(head, rows),
        f"medgemma-mini's file with `{first['vocabulary']}`: {files}.",
        f"Cut by use instead, to the {use['tokens']:,} tokens that other texts of the same kinds have, it would miss "
        f"{use['missed']:,} of {use['of']:,} held-back tokens ({100 * use['missed'] / use['of']:.1f}%).",
        f"What the whole medgemma-mini gives to the tokens that `{first['vocabulary']}` drops, on average at {places:,} "
        f"places of held-back texts: {mass}.",
        _longer(choices),
        "Sentences of other scripts, foretold by medgemma-mini from tokens or, with the cut, from bytes (nats a character):",
        table(
            ["language", "whole", f"`{first['vocabulary']}`"],
            [[name, f"{found['whole']:.2f}", f"{found['cut']:.2f}"] for name, found in first["nats_a_character"].items()],
        ),
    ])  # fmt: skip


def _longer(choices: Sequence[dict[str, Any]]) -> str:
    """How many times the tokens texts become."""
    head = ["texts", "tokens without a cut", *(f"times, `{row['vocabulary']}`" for row in choices)]
    rows = [
        [name, f"{found['whole']:,}", *(f"{row['texts'][name]['cut'] / row['texts'][name]['whole']:.2f}" for row in choices)]
        for name, found in choices[0]["texts"].items()
    ]  # fmt: skip
    return table(head, rows)


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
            f"{row['seconds']:.1f}", ratio_text(row), f"{row['peak_bytes_beside'] / 1e9:.2f}",
        ]
        for row in facts["full_size"]
    ]  # fmt: skip
    return "\n\n".join([
        table(head, rows), f"Questions: {items}.",
        "At MedGemma 4B's size (random weights), where only speed can be measured; each against llama.cpp's `q8_0` in turns. "
        "Memory is the process's, less the language model's file:",
        table(["tower", "merged a block", "patches left", "MB", "seconds an image", "to `q8_0`", "peak memory, GB"], full),
        RATIO_NOTE,
    ])  # fmt: skip


ROUNDINGS = ("llama.cpp's matrix", "medge's matrix", "compensated")


def compensation() -> str:
    """Each recipe's roundings at one size, on each kind of held-back text: two plots and two tables."""
    facts = json.loads((RESULTS / "compensation.json").read_text())
    rows = facts["rows"]
    kinds = list(rows[0]["held_back"])
    head = ["recipe", "rounding", "MB", "bits a weight of the layers", "of all", *_held_back_heads(kinds)]
    body = [
        [
            f"`{row['recipe']}`", row["rounding"], f"{row['bytes'] / 1e6:.0f}", f"{row['layer_bits']:.2f}", f"{row['bits']:.2f}",
            *_held_back(row, kinds),
        ] for row in rows
    ]  # fmt: skip
    found = rows[0]["held_back"][kinds[0]]
    note = (
        f"A stream of {facts['width']} channels; calibrated on {facts['abstracts']} abstracts and 40 images; {found['tokens']} "
        f"tokens of each kind of text."
    )
    return "\n\n".join([note, _said(rows, kinds), *_plots(rows, kinds), _ratios(rows, kinds), table(head, body)])


def _said(rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> str:
    """What compensation gives beside llama.cpp's at equal size, and where it made a file worse."""
    found_by = {(row["recipe"], row["rounding"]): row["held_back"] for row in rows}

    def ratios(rival: str) -> dict[tuple[str, str], float]:
        return {
            (recipe, kind): found[kind]["kld"]["value"] / found_by[recipe, rival][kind]["kld"]["value"]
            for (recipe, rounding), found in found_by.items() for kind in kinds
            if rounding == "compensated" and (recipe, rival) in found_by
        }  # fmt: skip

    theirs = ratios(ROUNDINGS[0])
    worse = {**theirs, **{pair: ratio for pair, ratio in ratios(ROUNDINGS[1]).items() if ratio > 1}}
    lost = [f"`{recipe}` on {kind}" for (recipe, kind), ratio in worse.items() if ratio > 1]
    least, middle, most = min(theirs.values()), statistics.median(theirs.values()), max(theirs.values())
    return (
        f"At equal size and with the same types, medge's files have {least:.2f} to {most:.2f} of the KL divergence of "
        f"llama.cpp's own, the median {middle:.2f}. "
        f"Compensation made a file worse: {', '.join(lost) or 'nowhere'}."
    )


def _ratios(rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> str:
    """What compensation leaves of the KL divergence, of each recipe that llama.cpp's quantizer makes as well."""
    found_by = {(row["recipe"], row["rounding"]): row["held_back"] for row in rows}
    body = []
    for row in rows:
        if row["rounding"] != "compensated":
            continue
        cells = [f"`{row['recipe']}`"]
        for kind in kinds:
            ours = row["held_back"][kind]["kld"]["value"]
            theirs = [found_by.get((row["recipe"], rival)) for rival in ROUNDINGS[:2]]
            cells += ["–" if one is None else f"{ours / one[kind]['kld']['value']:.2f}" for one in theirs]
        cells += [
            f"{row['before']:.5f}",
            f"{row['after']:.5f}",
            f"{row['changed']} of {row['matrices']}",
            f"{row['seconds']:.0f}",
        ]
        body.append(cells)
    of = [f"{kind}: of {rival}" for kind in kinds for rival in ROUNDINGS[:2]]
    return table(
        ["KL divergence of the compensated file", *of, "output error before", "after", "matrices changed", "seconds"],
        body,
    )


def _plots(rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> list[str]:
    """KL divergence and same first choice against the file's size, the mean of all kinds of text."""

    def series(figure: str, scale: float) -> dict[str, list[Point]]:
        return {
            rounding: [
                Point(
                    row["bytes"] / 1e6,
                    scale * statistics.fmean(row["held_back"][kind][figure]["value"] for kind in kinds),
                    row["recipe"] if rounding == "compensated" else "",
                ) for row in rows if row["rounding"] == rounding
            ] for rounding in (ROUNDINGS[0], ROUNDINGS[2])
        }  # fmt: skip

    def places(found: dict[str, list[Point]]) -> list[Point]:
        return [point for points in found.values() for point in points]

    lost, kept = series("kld", 1), series("same_top", 100)
    sizes = [point.x for point in places(lost)]
    across = range(int(min(sizes)) // 20 * 20, int(max(sizes)) // 20 * 20 + 41, 20)
    least, most = min(point.y for point in places(lost)), max(point.y for point in places(lost))
    steps = [step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if least / 2.5 <= step <= most * 2.5]
    lowest = int(min(point.y for point in places(kept))) // 10 * 10
    size = "MB of the file"
    return [
        scatter(
            lost, title="KL divergence, mean of the texts", x_name=size, x_ticks=across, y_ticks=steps, logarithmic=True
        ),
        scatter(
            kept, title="Same first choice, %, mean of the texts", x_name=size, x_ticks=across,
            y_ticks=range(lowest, 101, 10),
        ),
    ]  # fmt: skip
