"""`medge serve`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from pathlib import Path
from typing import Annotated

import typer

from ...console.generator_options import ContextOption
from ...console.options import AllowFailed, JsonOption, ThreadsOption
from ...console.terminal import err, out, print_json, warn
from .dicom_options import Allowed, DicomPort, Title, node_of


def serve(
    bundles: Annotated[Path, typer.Option(help="The folder that holds the bundles' folders.", show_default=False)],
    host: Annotated[str, typer.Option(help="The address to listen on; only this machine's own for now.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for one that is free.")] = 8642,
    encoder: Annotated[
        str | None, typer.Option(help="The encoder that requests mean that name none.", show_default="the only one")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="The station's own folder, where it holds studies.", show_default="none are held"),
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0.01, help="Days after which a study goes.", show_default="none goes")
    ] = None,
    keep_gb: Annotated[
        float | None,
        typer.Option(min=0.001, help="Gigabytes of studies beyond which the oldest go.", show_default="none go"),
    ] = None,
    dicom_port: DicomPort = None,
    ae_title: Title = "MEDGE",
    allow: Allowed = None,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the bundles of a folder to programs on this machine, over HTTP.

    Chat and embeddings in OpenAI's form, '/predict' in the form of Google's MedSigLIP service, and '/v1/classify'.
    With --store the station holds studies: what is sent to it is judged, searched and reported on.
    With --dicom-port the devices that --allow lists send their images by DICOM.
    The page '/docs' describes it all. A model is loaded when it is first asked for, and put away when another needs its memory.

    Example: medge serve --bundles bundles/ --store station/
    """
    from .... import __version__
    from ...errors import MissingExtraError, StationError
    from ...station.models.catalogue import Catalogue
    from ...station.models.opening import BundleOpener
    from ...station.models.shelf import Shelf

    for module in (
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "python_multipart",
        "pynetdicom",
        "highdicom",
        "reportlab",
        "httpx",
    ):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "station")
    catalogue = Catalogue.read(bundles, allow_failed_parity=allow_failed_parity, encoder=encoder)
    if store is None and (keep_days is not None or keep_gb is not None):
        raise StationError(
            "--keep-days and --keep-gb are for a station that holds studies; give its folder with --store"
        )
    from ...station import server
    from ...station.api.app import create_app
    from ...station.api.service import Service
    from ...station.keeping import Keeper
    from ...station.station import Station
    from ...station.store.retention import Retention
    from ...station.work.crew import Crew

    door, address = server.listen(server.Address(host, port))
    opener = BundleOpener(threads=threads, context=context, allow_failed_parity=allow_failed_parity)
    service = Service(catalogue, Shelf(opener))
    app = create_app(service, version=__version__)
    for why in catalogue.refused.values():
        warn(f"left out: {why}")
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)

    dicom: dict[str, dict[str, str | int]] = {}

    def begun() -> None:
        if as_json:
            models = [{"id": one.id, "kind": one.kind, "parity": one.parity} for one in catalogue.entries.values()]
            print_json({"url": address.url, "models": models, "refused": catalogue.refused, **dicom})
        else:
            out.print(f"{address.url}: {', '.join(catalogue.entries)}; described at {address.url}/docs", soft_wrap=True)
            for found in dicom.values():
                out.print(f"DICOM node {found['title']} at port {found['port']}", soft_wrap=True)
            err.print("medge: not a medical device; Ctrl-C ends the station", soft_wrap=True)
        out.file.flush()

    with contextlib.ExitStack() as stack:
        if store is not None:
            service.station = stack.enter_context(Station.open(store))
            kept = Retention(keep_days, None if keep_gb is None else int(keep_gb * 1e9))
            service.helpers += [Keeper(service.station, kept), Crew(service.station.queue, service.lanes())]
        node = node_of(service.station, dicom_port, ae_title, allow)
        if node is not None:
            stack.enter_context(node)
            dicom["dicom"] = {"title": node.title, "port": node.port}
        server.serve(app, door, begun, service.ending.set)
