"""The station's figures: studies an hour, fifty clients, streamed answers, embeddings, against what does the same without it.

    python benchmarks/station_load.py --work DIR --llama-server FILE [--soak-minutes 60] [--parts studies,clients]

DIR keeps the stand-ins' bundles (1.5 GB); FILE is made by `benchmarks/build-llama-tools FOLDER server`. The parts are in
station_studies.py, station_clients.py, station_answers.py and station_embeddings.py. What is compared runs in turns. Stores
benchmarks/results/station_load.json after each part.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import station_answers
import station_clients
import station_embeddings
import station_studies
from station_serving import station

from medge.export.commands.demo import LABELS
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.standin.write import write_medsiglip_mini
from medge.runtime.device.cpu import usable_cores

ROOT = Path(__file__).parents[1]
PARTS = ("studies", "answers", "embeddings", "clients")
EYES, READER, LATIN = "eyes", "reader", "latin"


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def bundles(work: Path) -> Path:
    """The folder that the station serves: medsiglip-mini in int8, medgemma-mini in q4_k_m, whole and with Latin letters alone.

    Quality is measured elsewhere: the language models are neither calibrated nor compared with the original.
    """
    folder = work / "bundles"
    folder.mkdir(parents=True, exist_ok=True)
    if not (work / "medsiglip-mini").exists():
        write_medsiglip_mini(work / "medsiglip-mini")
    if not (folder / EYES).exists():
        (work / "labels.json").write_text(json.dumps(LABELS))
        export_medsiglip(ExportJob(work / "medsiglip-mini", folder / EYES, labels=work / "labels.json"))
    if not (work / "medgemma-mini").exists():
        write_medgemma_mini(work / "medgemma-mini")
    for name, scripts in ((READER, None), (LATIN, "latin")):
        if not (folder / name).exists():
            export_medgemma(
                GeneratorJob(
                    work / "medgemma-mini", folder / name, "q4_k_m", without_importance=True, skip_parity=True,
                    vocabulary=scripts,
                )
            )  # fmt: skip
    return folder


def main() -> None:
    """Measure, and write the figures; a part that is not asked for keeps those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--share", type=float, default=1.0, help="of the studies of a turn, and of the clients' minute")
    parser.add_argument("--soak-minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "station_load.json")
    asked = parser.parse_args()
    if asked.soak_minutes < station_clients.SHORTEST:
        parser.error(f"a soak of less than {station_clients.SHORTEST} minutes says nothing")
    folder, parts = bundles(asked.work), asked.parts.split(",")
    facts: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    facts |= {"date": date.today().isoformat(), "cores": usable_cores()}

    def record(name: str, found: Any) -> None:
        facts[name] = {"load_before": round(load, 2), **found}
        asked.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        say(f"{name}: done")

    for part in PARTS:
        if part not in parts:
            continue
        load, store = os.getloadavg()[0], asked.work / "store"
        shutil.rmtree(store, ignore_errors=True)
        if part == "answers":
            record(part, station_answers.measure(folder, asked.llama_server, READER, LATIN, asked.rounds, say))
        elif part == "embeddings":
            record(part, station_embeddings.measure(folder, EYES, asked.work / "medsiglip-mini", say))
        else:
            with station(folder, "--store", store, "--encoder", EYES, "--allow-failed-parity") as server:
                if part == "studies":
                    rows = station_studies.measure(
                        server, store, folder / EYES, asked.data, asked.rounds, asked.share, say
                    )
                    record(part, {"kinds": rows})
                else:
                    record(part, station_clients.measure(server, asked.data, asked.share, asked.soak_minutes, say))
        shutil.rmtree(store, ignore_errors=True)


if __name__ == "__main__":
    main()
