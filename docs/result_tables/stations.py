"""Tables of the station under load: against its own runtime, llama.cpp's server, and a server around transformers."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from .form import RESULTS, table, text_table


def _of(found: dict[str, float], digits: int = 2) -> str:
    """A median with the least and the greatest of all turns."""
    return f"{found['median']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def _studies(facts: dict[str, Any]) -> str:
    rows = []
    for kind in facts["kinds"]:
        hour = median(3600 / one["wall"] for one in kind["station"])
        rows.append([f"{kind['kind']}, the station", f"{hour:,.0f}", f"{_cpu(kind['station'])}", "", ""])
        for key, name in (("alone", "the runtime"), ("asleep", "the runtime, threads asleep")):
            rows.append(
                [
                    f"{kind['kind']}, {name}", f"{median(3600 / one['wall'] for one in kind[key]):,.0f}", f"{_cpu(kind[key])}",
                    _of(kind[f"to_{key}"]["wall"]), _of(kind[f"to_{key}"]["cpu"]),
                ]
            )  # fmt: skip
    head = ["", "studies an hour", "processor, s a study", "the station's to it, by the clock", "by processor time"]
    kinds = "; ".join(
        f"{kind['kind']}: objects of a study {kind['objects']} ({kind['bytes'] / 1e6:.0f} MB), looked at {kind['shown']}, "
        f"studies of a turn {kind['studies']}"
        for kind in facts["kinds"]
    )
    return (
        f"{table(head, rows)}\n\n{kinds}. {facts['kinds'][0]['rounds']} turns, the least and the greatest in brackets."
    )


def _cpu(rows: list[dict[str, float]]) -> str:
    return f"{median(one['cpu'] for one in rows):.3f}"


def _clients(facts: dict[str, Any]) -> str:
    rows = []
    for name, one in (("no pause", facts["pressed"]), (f"pauses of {facts['pause_seconds']:.0f} s", facts["soak"])):
        for route, seen in one["routes"].items():
            rows.append(
                [
                    f"{name}, `{route}`", f"{seen['requests'] / one['seconds']:.1f}", f"{1e3 * seen['median']:.0f}",
                    f"{1e3 * seen['p99']:.0f}", f"{1e3 * seen['most']:.0f}",
                ]
            )  # fmt: skip
    soak, statuses = facts["soak"], {**facts["pressed"]["statuses"]}
    for status, count in soak["statuses"].items():
        statuses[status] = statuses.get(status, 0) + count
    rise = soak["bytes_an_hour"]
    answered = ", ".join(f"{count:,} with status {status}" for status, count in sorted(statuses.items()))
    size = {key: f"{soak[f'bytes_{key}'] / 1e6:.0f} MB" for key in ("after_warm_up", "at_end", "most")}
    slope = " to ".join(f"{rise[key] / 1e6:+.1f}" for key in ("low", "high"))
    note = (
        f"{facts['clients']} clients; {answered}. The soak took {soak['seconds'] / 60:.0f} minutes. {soak['processes']} "
        f"processes had {size['after_warm_up']} after its first fifth, {size['at_end']} at its end, {size['most']} at most. The "
        f"line through what was read between has a slope of {rise['value'] / 1e6:+.1f} MB an hour (95% interval {slope})."
    )
    return f"{table(['load', 'requests a second', 'median, ms', '99%, ms', 'most, ms'], rows)}\n\n{note}"


def _answers(facts: dict[str, Any]) -> str:
    rows, same = [], [0, 0, 0]
    for name, one in facts["questions"].items():
        worked = {engine: found["median"] for engine, found in one["cpu_seconds_a_token"].items()}
        for engine in ("station", "runtime", "llama-server"):
            to = {"runtime": "to_runtime", "llama-server": "to_llama_server"}.get(engine)
            rows.append(
                [
                    f"{name}, {one['prompt_tokens']} tokens: {engine}", f"{1e3 * one['first_seconds'][engine]['median']:.0f}",
                    "" if to is None else _of(one[f"first_{to}"]), f"{one['tokens_a_second'][engine]['median']:.1f}",
                    "" if to is None else _of(one[f"rate_{to}"]),
                    f"{1e3 * worked[engine]:.1f}", "" if to is None else f"{worked[engine] / worked['station']:.2f}",
                ]
            )  # fmt: skip
        for place, key in enumerate(("rounds", "same_text_as_runtime", "same_text_as_llama_server")):
            same[place] += one[key]
    head = [
        "question", "first text, ms", "the station's to it", "tokens a second", "the station's to it", "processor, ms a token",
        "tokens by processor time, the station's to it",
    ]  # fmt: skip
    note = (
        f"{same[0]} answers of {facts['limit']} tokens at most from one `q4_k_m` file, threads: {facts['threads']}. "
        f"{same[1]} of the station's were the runtime's word for word, {same[2]} llama.cpp's server's."
    )
    return f"{table(head, rows)}\n\n{note}"


def _cut(facts: dict[str, Any]) -> str:
    rows = [
        [
            f"{one['question']}{' (with a picture)' if one['picture'] else ''}", _short(one["medge"]),
            "the same" if one["same"] else _short(one["llama_server"]),
            f"{one['prompt_tokens']}, {one['llama_server_prompt_tokens']}",
        ]
        for one in facts["answers"]
    ]  # fmt: skip
    return text_table(["question", "medge", "llama.cpp's server", "tokens of the prompt"], rows)


def _short(text: str) -> str:
    """An answer in a cell."""
    flat = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return flat if len(flat) <= 90 else f"{flat[:87]}..."


def _embeddings(facts: dict[str, Any]) -> str:
    rows = [
        [
            said, *(f"{facts[key][part] / 1e6:.0f}" for part in ("bytes_idle", "bytes_after", "bytes_most")),
            f"{1e3 * facts[key]['seconds_an_image']:.0f}",
        ]
        for key, said in (("station", "the station, int8"), ("plain", "FastAPI and transformers, fp32"))
    ]  # fmt: skip
    ratio = facts["ratio"]
    rows.append(["ratio", *(f"{ratio[part]:.2f}" for part in ("bytes_idle", "bytes_after", "bytes_most")), ""])
    head = ["server", "before, MB", "after, MB", "most, MB", "ms an image"]
    note = f"{facts['images']} images; the embeddings' least cosine is {facts['least_cosine']:.3f}."
    return f"{table(head, rows)}\n\n{note}"


def station_load() -> str:
    facts = json.loads((RESULTS / "station_load.json").read_text())
    parts = {
        "Studies": _studies(facts["studies"]), "Clients": _clients(facts["clients"]), "Answers": _answers(facts["answers"]),
        "A cut vocabulary in llama.cpp's server": _cut(facts["answers"]["cut_vocabulary"]),
        "Embeddings": _embeddings(facts["embeddings"]),
    }  # fmt: skip
    return "\n\n".join(f"### {title}\n\n{body}" for title, body in parts.items())
