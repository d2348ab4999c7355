"""Time of an image in a headless Chromium against ONNX Runtime outside of it, on the same file, in turns.

python benchmarks/web_latency.py BUNDLE...

The bundles are made with --target web. The model's run alone is timed on both sides, with all cores of this process; what is
stored, in benchmarks/results/web_latency.json, are medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from playwright.sync_api import sync_playwright

from medge.runtime.bundles.bundle import Bundle
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.golden.phantom import phantom

RESULTS = Path(__file__).parent / "results" / "web_latency.json"


class Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no result."""


def measure(browser: Any, folder: Path, rounds: int) -> dict[str, Any]:
    bundle = Bundle.open(folder)
    encoder = Encoder(bundle, device="cpu", fast=True)  # prepacked weights, as onnxruntime-web keeps them
    pixels = encoder.prepare(phantom())[None]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    times: dict[str, list[float]] = {"browser": [], "native": []}
    with tempfile.TemporaryDirectory() as name:
        picture = Path(name) / "phantom.png"
        Image.fromarray(phantom()).save(picture)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        try:
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("document.documentElement.dataset.offline === 'ready'")
            page.reload()  # now under the service worker, which gives it threads
            page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")
            for _ in range(rounds + 2):
                page.set_input_files("#file", picture)
                page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
                times["browser"].append(
                    float(page.evaluate("document.querySelector('.result').dataset.milliseconds")) / 1e3
                )
                page.evaluate("document.getElementById('status').textContent = ''")
                start = time.perf_counter()
                encoder.embed_pixels(pixels)
                times["native"].append(time.perf_counter() - start)
            threads = bool(page.evaluate("crossOriginIsolated"))
        finally:
            page.close()
            server.shutdown()
            server.server_close()
    medians = {f"{name}_seconds": statistics.median(values[2:]) for name, values in times.items()}
    return {"recipe": bundle.manifest.towers["vision"].recipe, "parameters": bundle.manifest.encoder.parameters, **medians,
            "ratio": medians["browser_seconds"] / medians["native_seconds"], "threads": threads}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("chromium is not installed")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = [measure(browser, folder, arguments.rounds) for folder in arguments.bundles]
        browser.close()
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
