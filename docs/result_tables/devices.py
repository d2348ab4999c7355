"""Tables of devices: ARM, browsers, phones."""

from __future__ import annotations

import json

from .form import RESULTS, table


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


def android() -> str:
    facts = json.loads((RESULTS / "android.json").read_text())
    sizes = ", ".join(f"{abi} {size / 1e6:.1f} MB" for abi, size in facts["apk_bytes"].items())
    phones = [row["gigabytes"] for row in next(iter(facts["plans"].values()))]
    rows = []
    for name, plans in facts["plans"].items():
        cells = []
        for plan in plans:
            context = f", {plan['context']} tokens" if plan["context"] else ""
            cells.append({
                "IN_MEMORY": f"fits{context}",
                "FROM_STORAGE": f"from storage{context}, {plan['read_again'] / 1e9:.1f} GB read for each",
                "NOT_AT_ALL": f"does not fit ({plan['room'] / 1e9:.2f})",
            }[plan["fit"]])  # fmt: skip
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
