"""Commands in a fresh home, watched by strace: what they send, where they write, what they leave.

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
