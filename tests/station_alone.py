"""Run in a network of its own: a station beyond this machine, with a loopback and nothing else. Prints what it saw as JSON.

python station_alone.py BUNDLES STORE IMAGE
"""

from __future__ import annotations

import array
import base64
import fcntl
import http.client
import json
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from station_doors import NAMES, PASSWORD


def loopback_up() -> None:
    """Linux: SIOCGIFFLAGS, SIOCSIFFLAGS and IFF_UP, of netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = array.array("B", struct.pack("16sH14x", b"lo", 0))
        fcntl.ioctl(any_socket, 0x8913, asked)
        flags = struct.unpack_from("16sH", asked)[1]
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))


def medge(*words: object, said: str = "") -> Any:
    """What a command prints with --json."""
    done = subprocess.run(
        [sys.executable, "-m", "medge", *map(str, words), "--json"],
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


class Client:
    """A client that has installed the station's authority."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.port = int(told["url"].rpartition(":")[2])
        self.trust = ssl.create_default_context(cafile=told["tls"]["authority"])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
        link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.trust)
        content = None if body is None else json.dumps(body)
        link.request(method, path, content, {"Content-Type": "application/json", **headers})
        answer = link.getresponse()
        text = answer.read()
        link.close()
        return answer.status, json.loads(text) if text else None, answer.headers.get("Set-Cookie", "")

    def sent(self, image: str, entered: dict[str, str]) -> dict[str, Any]:
        """A film that is sent, and what the station has found of it by itself."""
        name = 'Content-Disposition: form-data; name="files"; filename="film.dcm"'
        body = b"".join((b"--edge\r\n", name.encode(), b"\r\n\r\n", Path(image).read_bytes(), b"\r\n--edge--\r\n"))
        link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.trust)
        link.request("POST", "/v1/studies", body, {**entered, "Content-Type": "multipart/form-data; boundary=edge"})
        answer = link.getresponse()
        told = json.loads(answer.read())
        link.close()
        uid = told["received"][0]["study"]
        found: dict[str, Any] = {"state": "waiting"}
        for _ in range(240):
            found = self.ask("GET", f"/v1/studies/{uid}", **entered)[1]
            if found["state"] not in ("waiting", "running"):
                break
            time.sleep(0.5)
        kinds = [result["kind"] for result in found["results"]]
        return {"status": answer.status, "state": found["state"], "results": kinds}


def main(bundles: str, store: str, image: str) -> dict[str, Any]:
    loopback_up()
    seen: dict[str, Any] = {}
    words = [
        "serve",
        "--bundles",
        bundles,
        "--store",
        store,
        "--host",
        "0.0.0.0",
        "--port",
        "0",
        "--name",
        "clinic.lan",
    ]
    seen["without users"] = medge(*words)
    medge("station", "user", "add", store, NAMES["admin"], "--role", "admin", said=f"{PASSWORD}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said, ended = "", False
        while not ended:
            line = process.stdout.readline() if process.stdout else ""
            said, ended = said + line, line in ("}\n", "")
        told = seen["told"] = json.loads(said)
        client = Client(told)
        seen["health"] = client.ask("GET", "/healthz")[0]
        seen["no login"] = client.ask("GET", "/v1/models")[0]
        status, who, cookie = client.ask("POST", "/v1/session", {"name": NAMES["admin"], "password": PASSWORD})
        seen["login"], seen["cookie"] = (status, who["role"]), cookie
        entered = {"Cookie": cookie.partition(";")[0], "X-CSRF-Token": who["csrf"]}
        film = "data:application/dicom;base64," + base64.b64encode(Path(image).read_bytes()).decode()
        status, classified, _ = client.ask("POST", "/v1/classify", {"images": [film]}, **entered)
        seen["classified"] = (status, len(classified["results"][0]["labels"]))
        seen["study"] = client.sent(image, entered)
        # A token that is added beside the running station, and removed.
        token = medge("station", "token", "add", store, "ris")["token"]
        seen["token"] = client.ask("GET", "/v1/models", Authorization=f"Bearer {token}")[0]
        medge("station", "token", "remove", store, "ris")
        seen["token removed"] = client.ask("GET", "/v1/models", Authorization=f"Bearer {token}")[0]
        seen["another name"] = client.ask("GET", "/healthz", Host="evil.example")[0]
        with socket.create_connection(("127.0.0.1", client.port), 10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: clinic.lan\r\n\r\n")
            seen["plain"] = plain.recv(100).decode("latin-1")
        seen["backup"] = medge("station", "backup", store, f"{store}-backup")["objects"]
        seen["audit"] = [entry["action"] for entry in medge("station", "audit", store)["results"]]
    finally:
        process.terminate()
        seen["stderr"] = process.communicate(timeout=60)[1]
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
