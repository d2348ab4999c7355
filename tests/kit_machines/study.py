"""Run on a machine made for the stick, by the Python that the stick brought: a study is sent, and what the station finds is told.

python3 study.py START IMAGE PORT: starts the station with START, sends IMAGE, prints what came of it as JSON, ends the station.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def ask(port: int, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    link.request(method, path, body, {"Content-Type": kind})
    answer = link.getresponse()
    text = answer.read()
    link.close()
    assert answer.status < 300, (answer.status, text[:500])
    return json.loads(text)


def wait(port: int, path: str, seconds: float, ends: Any) -> Any:
    until = time.monotonic() + seconds
    while True:
        try:
            found = ask(port, "GET", path)
            if ends(found):
                return found
        except OSError:
            found = None
        assert time.monotonic() < until, found
        time.sleep(0.5)


def main(start: str, image: str, port: int) -> dict[str, Any]:
    begun = time.monotonic()
    process = subprocess.Popen(
        [start], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        try:
            wait(port, "/healthz", 600, lambda found: True)
        except AssertionError:
            os.killpg(process.pid, signal.SIGKILL)
            assert process.stderr is not None
            raise AssertionError(process.stderr.read()[-2000:]) from None
        answers = time.monotonic() - begun
        edge = b"edge"
        name = b'Content-Disposition: form-data; name="files"; filename="film.dcm"'
        body = b"--edge\r\n" + name + b"\r\n\r\n" + Path(image).read_bytes() + b"\r\n--" + edge + b"--\r\n"
        told = ask(port, "POST", "/v1/studies", body, "multipart/form-data; boundary=edge")
        uid = told["received"][0]["study"]
        sent = time.monotonic()
        study = wait(port, f"/v1/studies/{uid}", 900, lambda found: found["state"] not in ("waiting", "running"))
        judged = time.monotonic() - sent
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return {
        "state": study["state"], "results": [result["kind"] for result in study["results"]], "ended": code,
        "links": [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]],
        "routes": len(Path("/proc/net/route").read_text().splitlines()) - 1,
        "answers_seconds": round(answers, 1), "judged_seconds": round(judged, 1), "python": sys.version.split()[0],
        "uid": next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
