"""Servers as processes, for station_load.py: the station, llama.cpp's own, anything else; their time, memory and answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

BEGINNING = 120.0  # seconds until a server answers
HOST = "127.0.0.1"


class Tree:
    """A process and all that it has started."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def _each(self) -> Iterator[psutil.Process]:
        yield self._process
        yield from self._process.children(recursive=True)

    def cpu(self) -> float:
        """Seconds that its processors worked; of those that have ended, what their parents waited for."""
        times = [process.cpu_times() for process in self._each()]
        return sum(one.user + one.system + one.children_user + one.children_system for one in times)

    def memory(self) -> int:
        """Bytes of memory, each page that several share counted once (the kernel's PSS)."""
        found = 0
        for process in self._each():
            with contextlib.suppress(OSError, psutil.Error):  # it has just ended
                rows = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                found += sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
        return found

    def processes(self) -> int:
        return sum(1 for _ in self._each())


@dataclass
class Server:
    """A server that answers."""

    port: int
    tree: Tree
    log: Path

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=600)

    def ask(self, path: str, body: Any = None) -> Any:
        """What a request answers: GET, or POST of a body.

        Raises:
            RuntimeError: it answers with an error.
        """
        with contextlib.closing(self.connection()) as line:
            given = None if body is None else json.dumps(body)
            line.request("GET" if body is None else "POST", path, given, {"Content-Type": "application/json"})
            answer = line.getresponse()
            content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: status {answer.status}, {content[:500]!r}")
        return json.loads(content)


@contextlib.contextmanager
def serving(command: Sequence[str | Path], port: int, ready: str) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        command: starts it.
        port: where it listens.
        ready: the path that answers once it can be asked.

    Raises:
        RuntimeError: it does not start; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with log.open("wb") as words:
            process = subprocess.Popen([str(word) for word in command], stdout=words, stderr=words)
            try:
                server = Server(port, Tree(process.pid), log)
                _wait(server, process, ready)
                yield server
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes], ready: str) -> None:
    until = time.monotonic() + BEGINNING
    while True:
        try:
            server.ask(ready)
            return
        except (OSError, RuntimeError, ValueError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no server: {server.log.read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as door:
        door.bind((HOST, 0))
        return int(door.getsockname()[1])


def station(bundles: Path, *words: str | Path) -> contextlib.AbstractContextManager[Server]:
    """`medge serve`."""
    port = free_port()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "medge",
        "serve",
        "--bundles",
        bundles,
        "--port",
        str(port),
        *words,
    ]
    return serving(command, port, "/healthz")


def llama_server(
    binary: Path, model: Path, projector: Path | None, *, threads: int, context: int
) -> contextlib.AbstractContextManager[Server]:
    """llama.cpp's own server as it is, but for one answer at a time, and threads and context as given."""
    port = free_port()
    command = [
        binary,
        "-m",
        model,
        "--host",
        HOST,
        "--port",
        str(port),
        "-t",
        str(threads),
        "-c",
        str(context),
        "-np",
        "1",
    ]
    return serving([*command, *(() if projector is None else ("--mmproj", projector))], port, "/health")


class Reader:
    """A program of our own that is given lines of JSON, and answers each with one.

    Args:
        program: Python; it says a line once it is ready.
        words: its arguments.
    """

    def __init__(self, program: str, *words: str | Path) -> None:
        command = [sys.executable, "-W", "ignore", "-c", program, *map(str, words)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tree = Tree(self._process.pid)
        self.told = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, given: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Files as `POST /v1/studies` takes them, and the content's type."""
    boundary = secrets.token_hex(8)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files
    ]
    return b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
