"""Tables of what nothing may break: code at arm's length, files changed at random, thousands of requests."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from .form import RESULTS, table


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


def isolation() -> str:
    facts = json.loads((RESULTS / "isolation.json").read_text())
    head = ["the model is", "start, s", "text, ms a token", "short answer about an image, s", "greatest memory, MB"]
    rows = [
        [
            name, f"{row['start_cpu_seconds']:.1f}", f"{1e3 * row['text_cpu_seconds_a_token']:.1f}",
            f"{row['image_cpu_seconds']:.2f}", " + ".join(str(size) for size in row["peak_megabytes"]),
        ]
        for name, row in (("in the caller's process", facts["here"]), ("in one of its own", facts["apart"]))
    ]  # fmt: skip
    note = (
        f"Median of {facts['rounds']} pairs in turns, {facts['tokens']} tokens each: {facts['text_cpu_ratio']:.2f} times the "
        f"processor time for text, {facts['image_cpu_ratio']:.2f} times with an image."
    )
    return f"{table(head, rows)}\n\n{note}"


def endurance() -> str:
    facts = json.loads((RESULTS / "endurance.json").read_text())
    head = ["work", "rounds", "memory after the warm-up, MB", "at the end", "growth, MB", "open files", "at the end"]
    rows = [
        [
            name, f"{row['rounds']:,}", f"{row['bytes_at_begin'] / 1e6:.0f}", f"{row['bytes_at_end'] / 1e6:.0f}",
            f"{row['growth_bytes'] / 1e6:+.1f}", str(row["files_at_begin"]), str(row["files_at_end"]),
        ]
        for name, row in facts.items() if isinstance(row, dict)
    ]  # fmt: skip
    return table(head, rows)


def station_store() -> str:
    facts = json.loads((RESULTS / "station_store.json").read_text())
    names = {
        "put": "an object put", "claim": "a job claimed", "worklist": "worklist", "worklist_waiting": "those that wait",
        "search": "search for nobody", "tidy": "tidy", "backup": "backup", "backup_again": "backup again", "restore": "restore",
    }  # fmt: skip
    rows = [
        [name, f"{facts[key]['loading'] + facts[key]['opening']:.2f}, of which opening {facts[key]['opening']:.3f}"]
        for key, name in (("start", "start"), ("start_after_kill", "start after a kill"))
    ]
    rows += [[name, f"{facts[key]:.3f}"] for key, name in names.items()]
    note = f"{facts['objects']:,} objects; the database takes {facts['database_bytes'] / 1e6:.0f} MB."
    return f"{table(['work', 'seconds'], rows)}\n\n{note}"


def signing() -> str:
    facts = json.loads((RESULTS / "signing.json").read_text())
    names = {
        "hash": "hash", "open": "open", "verify": "verify", "open signed": "open, signed", "model-signing": "model-signing",
    }  # fmt: skip
    rows = []
    for way, name in names.items():
        cells = [name]
        for clock in ("cpu", "wall"):
            ratios = sorted(turn[way][clock] / turn["hash"][clock] for turn in facts["rounds"])
            cells.append(f"{median(turn[way][clock] for turn in facts['rounds']):.2f}")
            cells.append("1" if way == "hash" else f"{median(ratios):.2f} (at most {ratios[-1]:.2f})")
        rows.append(cells)
    head = ["", "processor time, s", "to hashing", "by the clock, s", "to hashing"]
    weights = [
        [
            f"{name} {facts['versions'][name]}", str(facts["weight"][name]["packages"]),
            f"{facts['weight'][name]['bytes'] / 1e6:.0f}", f"{1e3 * facts['imports'][name]['cpu']:.0f}",
        ]
        for name in ("cryptography", "model-signing")
    ]  # fmt: skip
    note = (
        f"A bundle of {facts['bytes'] / 1e9:.1f} GB in {len(facts['rounds'])} rounds; its signature has "
        f"{facts['signature_bytes']:,} bytes."
    )
    needs = table(["verifying by", "packages", "MB installed", "import, ms of processor time"], weights)
    return f"{table(head, rows)}\n\n{note}\n\n{needs}"


def kit() -> str:
    facts = json.loads((RESULTS / "kit.json").read_text())
    head = ["kit, GB", "files", "minutes", "processor, s", "load", "making it: minutes"]
    put, built = facts["install"], facts["build"]
    row = [
        f"{facts['kit_bytes'] / 1e9:.2f}", f"{facts['files']:,}", f"{put['minutes']:.1f}", f"{put['cpu_seconds']:.0f}",
        f"{facts['load_before']:.0f}", f"{built['wall_seconds'] / 60:.1f}",
    ]  # fmt: skip
    return table(head, [row])
