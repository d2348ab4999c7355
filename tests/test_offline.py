"""medge sends nothing, and leaves nothing beside its output: every runtime in a fresh home, watched by strace.

What libraries send, they send some time after they were imported: each process stays for half a minute after its work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import medge.no_telemetry
from medge.command_line import COMMANDS

WAIT = 30  # seconds; ONNX Runtime 1.32 looked up its maker's collector after some twenty
STAYING = f"""
import json, sys, time
from medge.__main__ import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["medge", *words]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code or 0)
    else:
        codes.append(0)
print(codes)
sys.stdout.flush()
time.sleep({WAIT})
sys.exit(any(code not in (0, 3, 4) for code in codes))
"""
# It holds a door open, so a socket is what it is for: tests/runtime/station has tests of what goes through it.
OF_A_STATION = {"serve", "station"}
# What they load and do, others do as well: export and classify, embed and probe fit.
OF_OTHERS = {"demo", "calibrate-scores"}
# Semaphores of joblib, which are gone when it has made them; where Linux is asked to count peak memory anew.
DEVICES = ("/dev/null", "/dev/tty", "/dev/shm/sem.", "/proc/self/clear_refs")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Watched:
    """Commands one after the other in a process with a home of its own, with every network call of its processes written down."""

    def __init__(self, place: Path, *commands: Sequence[object]) -> None:
        self.words = [[*map(str, words)] for words in commands]
        self.home, self.work, self.log = place / "home", place / "work", place / "calls.txt"
        self.temporary = place / "tmp"
        for folder in (self.home, self.work, self.temporary):
            folder.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if name not in medge.no_telemetry.SWITCHES}
        for name in [name for name in kept if name.startswith("XDG_")]:
            del kept[name]
        watch = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-e",
            "trace=connect,sendto,sendmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink",
            "-o",
            str(self.log),
        ]
        self.process = subprocess.Popen(
            [*watch, sys.executable, "-c", STAYING, json.dumps(self.words)], cwd=self.work,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**kept, "HOME": str(self.home), "TMPDIR": str(self.temporary), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def check(self) -> None:
        told, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, f"{self.words}: {told}"
        left = [str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir()]
        assert left == [], f"{self.words} left these in the home folder"
        # A socket alone says nothing: importing pydicom makes one, to see whether this machine knows IPv6.
        calls = [line for line in self.log.read_text(errors="replace").splitlines() if re.search(r"AF_INET6?\b", line)]
        assert calls == [], f"{self.words} opened the network"
        mine = (str(self.work), str(self.temporary))
        strange = [
            path for path in written(self.log, self.work) if not path.startswith(mine) and not path.startswith(DEVICES)
        ]
        assert strange == [], f"{self.words} wrote where nothing was asked for"
        left = [str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*") if not path.is_dir()]
        assert left == [], f"{self.words} left these in the folder for temporary files"


def written(log: Path, work: Path) -> set[str]:
    """The paths that the processes of a strace log opened for writing, made, renamed or removed."""
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if call is None or int(call[3]) < 0 or call[1] in {"connect", "sendto", "sendmsg"}:
            continue
        if call[1] in {"open", "openat"} and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call[2]):
            continue
        # A path below an open folder (a number before it) lies where that folder was opened.
        found |= {os.path.normpath(work / path) for path in re.findall(r'(?:AT_FDCWD, |^)"([^"]*)"', call[2])}
    return found


@needs_strace
def test_nothing_is_sent_and_nothing_is_left(
    bundle: Path, tiny_reader: Path, tiny_gemma: Path, shallow: Path, few_images: Path, tmp_path: Path
) -> None:
    """Every command, each beside those that load the same."""
    record = tmp_path / "record.json"
    record.write_text('{"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-02-03"}')
    labelled = tmp_path / "labelled"
    for number, name in enumerate(("CT_small", "CT_small", "MR_small", "MR_small")):
        (labelled / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(few_images / f"{name}.dcm", labelled / name / f"{number}.dcm")
    film, unmeasured = few_images / "CT_small.dcm", ["--allow-failed-parity", "--context", 512]
    folder = ["--task", "folder", "--data", labelled]
    commands: list[list[Sequence[object]]] = [
        [["classify", bundle, film, "--json"], ["embed", bundle, film, "--out", "e.safetensors"], ["help", "gate"],
         ["index", "build", bundle, "films.index", few_images], ["index", "search", bundle, "films.index", "--image", film],
         ["inspect", bundle], ["verify", bundle], ["golden", bundle, "--out", "golden", "--images", labelled],
         ["keys", "new", "Makers", "--out", "makers.key"], ["kit", "key", "makers.private"]],
        [["doctor"], ["bench", bundle, "--rounds", 1]],
        [["probe", "fit", bundle, labelled, "--out", "p.safetensors"], ["probe", "predict", bundle, "p.safetensors", film],
         ["evaluate", bundle, *folder, "--out", "one"], ["evaluate", bundle, *folder, "--out", "two"], ["compare", "one", "two"]],
        [["report", tiny_reader, film, "--limit", 4, *unmeasured],
         ["ask", tiny_reader, "What is it?", "--image", film, "--limit", 4, *unmeasured], ["chat", tiny_reader, *unmeasured],
         ["record", tiny_reader, record, "How old?", "--limit", 24, *unmeasured]],
        [["standin", "medsiglip-mini", "mini"],
         ["export", "medsiglip", "--checkpoint", shallow, "--calibration", few_images, "--out", "bundle"],
         ["parity", "bundle", "--reference", shallow, "--images", few_images, "--out", "measured"],
         ["distill", "medsiglip", "--teacher", shallow, "--images", labelled, "--out", "s", "--student", "tiny", "--steps", 1,
          "--batch", 2, "--cpu"]],
        [["calibrate", "--checkpoint", tiny_gemma, "--out", "m.gguf", labelled],
         ["export", "medgemma", "--checkpoint", tiny_gemma, "--out", "r", "--recipe", "q8_0", "--skip-parity"]],
    ]  # fmt: skip
    tried = {str(words[0]) for group in commands for words in group}
    assert tried | OF_A_STATION | OF_OTHERS == set(COMMANDS)
    watched = [Watched(tmp_path / str(number), *group) for number, group in enumerate(commands)]
    for one in watched:
        one.check()


@needs_strace
def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    """Were this not seen, the test above would say nothing."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    log = tmp_path / "calls.txt"
    subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=socket,connect", "-o", str(log), sys.executable,
                    "-c", code], check=False)  # fmt: skip
    assert "192.0.2.1" in log.read_text()


def test_the_switches_are_set_before_anything_is_imported() -> None:
    code = (
        "import os, sys, medge\n"
        "assert not {'onnxruntime', 'ray', 'transformers', 'huggingface_hub', 'llama_cpp'} & set(sys.modules)\n"
        "print(*(os.environ.get(name) for name in medge.no_telemetry.SWITCHES))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in medge.no_telemetry.SWITCHES}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(medge.no_telemetry.SWITCHES.values())


def test_openvinos_counter_can_not_be_imported(tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("print('counted')")  # as where it is installed
    code = "import medge\ntry:\n    import openvino_telemetry\nexcept ImportError:\n    print('refused')"
    path = os.pathsep.join((str(tmp_path), *(entry for entry in sys.path if entry)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


def test_ray_counts_nothing() -> None:
    usage = pytest.importorskip("ray._common.usage.usage_lib", reason="ray is not installed: pip install 'medge[ray]'")
    assert not usage.usage_stats_enabled()
