"""How long putting in a kit of about 4 GB takes, from `sh install.sh` to a station that has tried its models: with nothing asked.

python benchmarks/kit.py BUNDLE --json benchmarks/results/kit.json

The kit holds the bundle and random bytes up to its size, which stand for a language model. It is put in for one user, without a
service, from this machine's disk, so reading from a stick's USB port comes on top. Run by root, the user is one of a number that
nobody has. Needs three times the size in free disk.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from medge.runtime.console.terminal import progress
from medge.runtime.device.cpu import usable_cores
from medge.runtime.kit.admission import this_target
from medge.runtime.kit.building.job import BuildJob, build_kit
from medge.runtime.kit.building.makers import Makers
from medge.runtime.kit.layout import target_named
from medge.runtime.trust.keys import PrivateKey

NOBODY = 12345


def random_file(path: Path, size: int) -> None:
    """Bytes that are like no others."""
    with path.open("wb") as stream:
        for _ in range(size >> 20):
            stream.write(os.urandom(1 << 20))


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(bundle: Path, gigabytes: float) -> dict[str, object]:
    """Build the kit, put it in, and say what both took."""
    place = Path(tempfile.mkdtemp(prefix="medge-kit-", dir="/var/tmp"))
    try:
        place.chmod(0o755)
        (place / "web").mkdir()
        random_file(place / "web" / "model.bin", int((gigabytes - 0.47) * 1e9))
        PrivateKey.make(place / "keys" / "makers.key", "makers")
        makers = Makers.read(place / "keys" / "makers.key", None, lambda: "")
        machine = target_named(this_target())
        job = BuildJob(place / "stick", (bundle,), machine, "2026-11-27T09:00:00Z", 1, web=place / "web")
        begun, used = time.monotonic(), time.process_time()
        with progress() as advance:
            kit = build_kit(job, makers, progress=advance)
        built = {
            "wall_seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(time.process_time() - used, 1),
        }
        (place / "web" / "model.bin").unlink()
        home = place / "home"
        home.mkdir()
        drop: list[str] = []
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        words = [
            *drop,
            "sh",
            str(place / "stick/install.sh"),
            "--yes",
            "--no-service",
            "--fingerprint",
            makers.public.fingerprint,
        ]
        begun, used = time.monotonic(), children_seconds()
        subprocess.run(
            words, check=True, env={"PATH": os.environ["PATH"], "HOME": str(home)}, cwd="/", stdout=subprocess.DEVNULL
        )
        wall, cpu = time.monotonic() - begun, children_seconds() - used
        return {
            "date": datetime.date.today().isoformat(),
            "kit_bytes": sum(kit.statement.contents().values()), "files": len(kit.entries), "cores": usable_cores(),
            "load_before": round(os.getloadavg()[2], 1), "build": built,
            "install": {"wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1), "minutes": round(wall / 60, 2)},
            "demanded_minutes": 10,
        }  # fmt: skip
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.bundle, arguments.gigabytes), indent=2) + "\n"
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
