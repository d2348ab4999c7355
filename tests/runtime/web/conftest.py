"""What tests of the page share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from encoder_page import open_page, ready

PROMPTS = {"abdomen CT": ["CT of the abdomen"], "2": ["a second label"], "1 [odd], {label}": ["MRI of the head"]}


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm",
    }  # fmt: skip

    def log_message(self, format: str, *args: Any) -> None:
        """A test's output is no place for a server's log."""


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on loopback: its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def web_bundles(
    once: Callable[[str, Callable[[Path], object]], Path],
    short: Path,
    few_images: Path,
    request: pytest.FixtureRequest,
) -> Callable[[str], Path]:
    """Bundles of the stand-in's first blocks with the page, by recipe. Tests that change one copy it first."""
    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.export.pages.web_page import INSTALL, VENDOR, default_libraries

    libraries = default_libraries()
    if not all((libraries / "node_modules" / name).is_file() for name in VENDOR):
        pytest.skip(f"the page's libraries are not installed: {INSTALL.format(folder=libraries)}")

    def write(recipe: str, out: Path) -> None:
        labels = out.with_name(f"{recipe}-labels.json")
        labels.write_text(json.dumps(PROMPTS))
        job = ExportJob(short, out, recipe, target="web", calibration=few_images, labels=labels, with_text=False)
        export_medsiglip(job, full=request.getfixturevalue("short_full"))

    return lambda recipe: once(f"web/{recipe}", lambda out: write(recipe, out))


@pytest.fixture(scope="module")
def page(browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path]) -> Iterator[Any]:
    """The page of the int8 bundle, ready."""
    opened = open_page(browser, serve(web_bundles("int8")))
    ready(opened)
    yield opened
    opened.context.close()
