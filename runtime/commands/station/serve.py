"""`medge serve`."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Annotated

import typer

from ...console.generator_options import ContextOption
from ...console.options import AllowFailed, JsonOption, ThreadsOption
from ...console.terminal import err, out, print_json, warn


def serve(
    bundles: Annotated[Path, typer.Option(help="The folder that holds the bundles' folders.", show_default=False)],
    host: Annotated[str, typer.Option(help="The address to listen on; only this machine's own for now.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for one that is free.")] = 8642,
    encoder: Annotated[
        str | None, typer.Option(help="The encoder that requests mean that name none.", show_default="the only one")
    ] = None,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the bundles of a folder to programs on this machine, over HTTP.

    Chat and embeddings in OpenAI's form, '/predict' in the form of Google's MedSigLIP service, and '/v1/classify'.
    The page '/docs' describes them. A model is loaded when it is first asked for, and put away when another one needs its memory.

    Example: medge serve --bundles bundles/ --port 8642
    """
    from .... import __version__
    from ...errors import MissingExtraError
    from ...station.models.catalogue import Catalogue
    from ...station.models.opening import BundleOpener
    from ...station.models.shelf import Shelf

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "station")
    catalogue = Catalogue.read(bundles, allow_failed_parity=allow_failed_parity, encoder=encoder)
    from ...station import server
    from ...station.api.app import create_app
    from ...station.api.service import Service

    door, address = server.listen(server.Address(host, port))
    opener = BundleOpener(threads=threads, context=context, allow_failed_parity=allow_failed_parity)
    app = create_app(Service(catalogue, Shelf(opener)), version=__version__)
    for why in catalogue.refused.values():
        warn(f"left out: {why}")
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)

    def begun() -> None:
        if as_json:
            models = [{"id": one.id, "kind": one.kind, "parity": one.parity} for one in catalogue.entries.values()]
            print_json({"url": address.url, "models": models, "refused": catalogue.refused})
        else:
            out.print(f"{address.url}: {', '.join(catalogue.entries)}; described at {address.url}/docs", soft_wrap=True)
            err.print("medge: not a medical device; Ctrl-C ends the station", soft_wrap=True)
        out.file.flush()

    server.serve(app, door, begun)
