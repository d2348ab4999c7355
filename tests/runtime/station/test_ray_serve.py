"""A station's models on two of Ray's nodes, as a hospital would run them on many machines."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tolerances import FP32_SUMS

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'medge[serve]'", exc_type=ImportError)

from medge.runtime.encoder.load import load

QUESTIONS = 8
LABELS = ["chest x-ray", "abdomen CT"]
# In a process of its own: Ray's nodes end with it.
PROGRAM = """
import base64, json, sys
from concurrent.futures import ThreadPoolExecutor
from medge.runtime.station.ray_serve import station
import httpx, ray
from ray import serve
from ray.cluster_utils import Cluster

port, film, count, labels = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(station, name="station", route_prefix="/")
replicas = serve.status().applications["station"].deployments["Replica"].replica_states
with open(film, "rb") as stream:
    data = "data:application/dicom;base64," + base64.b64encode(stream.read()).decode()
with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client, ThreadPoolExecutor(8) as pool:
    def ask(_):
        return client.post("/v1/classify", json={"images": [data], "labels": labels})
    answers = list(pool.map(ask, range(count)))
    stranger = client.get("/v1/models", headers={"host": "evil.example"}).status_code
    cluster.remove_node(other)  # as if its machine had lost its power
    tries = [ask(None).status_code for _ in range(4)]
print("TOLD " + json.dumps({
    "replicas": sum(replicas.values()), "answers": [(one.status_code, one.json()) for one in answers],
    "stranger": stranger, "afterwards": tries,
}))
serve.shutdown()
ray.shutdown()
cluster.shutdown()
"""


def test_two_machines_answer_as_one_station_and_one_when_the_other_is_lost(
    bundle: Path, few_images: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "bundles" / "eyes")
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    film = few_images / "CT_small.dcm"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(port), str(film), str(QUESTIONS), *LABELS],
        env={**os.environ, "MEDGE_BUNDLES": str(tmp_path / "bundles"), "MEDGE_CORES": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    [line] = [one for one in done.stdout.splitlines() if one.startswith("TOLD ")] or [done.stderr[-3000:]]
    told = json.loads(line.removeprefix("TOLD "))
    assert told["replicas"] == 2  # one on each node
    assert told["stranger"] == 421
    expected = {one.label: one.softmax for one in load(bundle).classify(film, LABELS)[0].ranked()}
    for status, answer in told["answers"]:
        assert status == 200
        [result] = answer["results"]
        assert {one["label"]: one["softmax"] for one in result["labels"]} == pytest.approx(expected, abs=FP32_SUMS)
    assert told["afterwards"][-1] == 200  # those on their way to what is gone may fail
