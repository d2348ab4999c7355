"""`medge serve` as a process."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from command_line import hears_ctrl_c


class Running:
    """A running `medge serve`."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process, self.told = process, told

    def get(self, path: str, body: Any = None) -> Any:
        """What a request answers: GET, or POST of a body."""
        given = None if body is None else json.dumps(body).encode()
        return self._ask(path, given, "application/json")

    def upload(self, *files: tuple[str, Any]) -> Any:
        """Send files by name."""
        boundary = secrets.token_hex(8)
        parts = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
            + content + b"\r\n"
            for name, content in files
        )  # fmt: skip
        return self._ask(
            "/v1/studies", parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
        )

    def bytes(self, path: str) -> bytes:
        """What a path answers, as it is."""
        with urllib.request.urlopen(self.told["url"] + path, timeout=120) as answer:
            found: bytes = answer.read()
        return found

    def _ask(self, path: str, given: Any, kind: str) -> Any:
        request = urllib.request.Request(self.told["url"] + path, given, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def wait(self, path: str, holds: Callable[[Any], bool], seconds: float = 120.0) -> Any:
        """What a path answers once that is as wanted."""
        until = time.monotonic() + seconds
        while not holds(found := self.get(path)):
            assert time.monotonic() < until, found
            time.sleep(0.2)
        return found

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; the exit code, and what it said on stderr."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextlib.contextmanager
def station(folder: Path, *words: str) -> Iterator[Running]:
    """Serve the bundles of a folder on a port that is free, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", "serve", "--bundles", str(folder), "--port", "0", "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c, env=os.environ,
    )  # fmt: skip
    try:
        told = ""
        assert process.stdout is not None
        while not told.endswith("}\n") or told.count("{") != told.count("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            told += line
        yield Running(process, json.loads(told))
    finally:
        process.kill()
        process.wait()
