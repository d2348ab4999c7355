"""Memory of a server that embeds images: the station with the int8 encoder, and what one writes around transformers; for
station_load.py.

The other server is a plain FastAPI application with one route, which opens the same checkpoint with PyTorch in fp32 and gives
`get_image_features`, of length one, by OpenAI's form; it is `plain()` here. Each runs alone and embeds the same images, one at a
time. Memory is that of all of a server's processes, read after the last image, and most of what was read meanwhile.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.data import get_testdata_file
from station_serving import Server, free_port, serving, station

from medge.runtime.pictures.images import read_image
from medge.runtime.station.reading.pictures import as_png

IMAGES = 60
SIDE = 512  # pixels of an image's longer side


def plain(checkpoint: str, port: int) -> None:
    """Serve; `measure` runs it as a process."""
    import io

    import torch
    import uvicorn
    from fastapi import FastAPI
    from PIL import Image
    from transformers import AutoImageProcessor, SiglipModel

    app, model = FastAPI(), SiglipModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(checkpoint)

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embed(asked: dict[str, Any]) -> dict[str, Any]:
        data = []
        for place, url in enumerate(asked["input"]):
            image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
            with torch.inference_mode():
                found = model.get_image_features(**processor(images=image, return_tensors="pt"))
            row = found if isinstance(found, torch.Tensor) else found.pooler_output  # of transformers 5
            data.append({"index": place, "embedding": torch.nn.functional.normalize(row[0], dim=0).tolist()})
        return {"object": "list", "data": data}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def urls() -> list[str]:
    """Images as data URLs: a film, turned and cut, so that they differ."""
    film = read_image(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    found = []
    for number in range(IMAGES):
        part = np.rot90(film[number * 10 :, number * 5 :], number % 4)
        found.append(f"data:image/png;base64,{base64.b64encode(as_png(part, SIDE)).decode()}")
    return found


def watched(server: Server, model: str, images: list[str]) -> dict[str, Any]:
    """Embed all images one by one; the memory, and the embeddings."""
    idle, most, over = server.tree.memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.2):
            most = max(most, server.tree.memory())

    thread = threading.Thread(target=watch)
    thread.start()
    begun, worked = time.perf_counter(), server.tree.cpu()
    rows = [server.ask("/v1/embeddings", {"model": model, "input": [url]})["data"][0]["embedding"] for url in images]
    seconds, worked = time.perf_counter() - begun, server.tree.cpu() - worked
    over.set()
    thread.join()
    after = server.tree.memory()
    return {
        "bytes_idle": idle, "bytes_after": after, "bytes_most": max(most, after), "processes": server.tree.processes(),
        "seconds_an_image": seconds / len(images), "cpu_seconds_an_image": worked / len(images), "rows": rows,
    }  # fmt: skip


def measure(folder: Path, name: str, checkpoint: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Memory of both, and that they embed alike.

    Args:
        folder: the bundles.
        name: of the encoder's bundle.
        checkpoint: that it was made of.
        say: told what was found.
    """
    images, port = urls(), free_port()
    with station(folder, "--encoder", name, "--allow-failed-parity") as server:
        ours = watched(server, name, images)
    command = [sys.executable, "-W", "ignore", __file__, checkpoint, str(port)]
    with serving(command, port, "/healthz") as server:
        theirs = watched(server, name, images)
    cosines = (np.array(ours.pop("rows")) * np.array(theirs.pop("rows"))).sum(axis=1)
    found = {
        "images": len(images), "station": ours, "plain": theirs, "least_cosine": float(cosines.min()),
        "ratio": {part: ours[part] / theirs[part] for part in ("bytes_idle", "bytes_after", "bytes_most")},
        "checkpoint_bytes": sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")),
    }  # fmt: skip
    say(str(found))
    return found


if __name__ == "__main__":
    plain(sys.argv[1], int(sys.argv[2]))
