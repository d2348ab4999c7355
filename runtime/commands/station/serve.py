"""`medge serve`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from pathlib import Path
from typing import Annotated

import typer

from ...console.generator_options import ContextOption
from ...console.options import AllowFailed, JsonOption, ThreadsOption, TrustOption
from ...console.terminal import err, out, print_json, warn
from .dicom_options import Allowed, DicomPort, Title, dicom_facts, node_of
from .entrance_options import (
    CertificateOption,
    HostOption,
    KeyOption,
    NameOption,
    StoreOption,
    certificate_facts,
    tell_certificate,
)  # fmt: skip

CHECKED = "checked-bundles.json"  # in the store: which signed bundles have been hashed
CLINIC = ("pynetdicom", "reportlab", "httpx")  # what speaks to the clinic's own systems


def serve(
    bundles: Annotated[Path, typer.Option(help="The folder that holds the bundles' folders.", show_default=False)],
    store: StoreOption = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for one that is free.")] = 8642,
    name: NameOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="The encoder that requests mean that name none.", show_default="the only one")
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
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the bundles of a folder over HTTP: to this machine, or beyond it to users, by TLS.

    Chat and embeddings in OpenAI's form, '/predict' in the form of Google's MedSigLIP service, and '/v1/classify'.
    With --store the station holds studies: what is sent to it is judged, searched and reported on.
    With --dicom-port the devices that --allow lists send their images by DICOM.
    The page '/docs' describes it all. A model is loaded when it is first asked for, and put away when another needs its memory.

    Example: medge serve --bundles bundles/ --store station/
    """
    from .... import __version__
    from ...errors import MissingExtraError, StationError
    from ...station.models.admission import Admission
    from ...station.models.catalogue import Catalogue
    from ...station.models.opening import BundleOpener
    from ...station.models.shelf import Shelf

    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "argon2", "cryptography", *CLINIC):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "station")
    admission = Admission(trust, None if store is None else store / CHECKED)
    catalogue = Catalogue.read(bundles, allow_failed_parity=allow_failed_parity, encoder=encoder, admission=admission)
    if store is None and (keep_days is not None or keep_gb is not None):
        raise StationError(
            "--keep-days and --keep-gb are for a station that holds studies; give its folder with --store"
        )
    from ...station import server
    from ...station.api.app import create_app
    from ...station.api.service import Service
    from ...station.entrance import entrance
    from ...station.keeping import Keeper
    from ...station.station import Station
    from ...station.store.retention import Retention
    from ...station.work.crew import Crew

    with contextlib.ExitStack() as stack:
        station = None if store is None else stack.enter_context(Station.open(store))
        way = entrance(host, station, names=name or (), certificate=certificate, key=key)
        door, address = server.listen(server.Address(way.host, port))
        url = f"{'https' if way.tls else 'http'}://{way.called}:{address.port}"
        opener = BundleOpener(
            threads=threads, context=context, allow_failed_parity=allow_failed_parity, admission=admission
        )
        service = Service(catalogue, Shelf(opener), station=station)
        if station is not None:
            kept = Retention(keep_days, None if keep_gb is None else int(keep_gb * 1e9))
            service.helpers += [Keeper(station, kept), Crew(station.queue, service.lanes())]
        app = create_app(service, hosts=way.hosts, version=__version__, always_locked=way.always_locked, hsts=way.hsts)
        for why in catalogue.refused.values():
            warn(f"left out: {why}")
        logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)

        node = node_of(station, dicom_port, ae_title, allow)
        if node is not None:
            stack.enter_context(node)

        def begun() -> None:
            if as_json:
                models = [{"id": one.id, "kind": one.kind, "parity": one.parity} for one in catalogue.entries.values()]
                tls = {} if way.tls is None else {"tls": certificate_facts(way.tls)}
                print_json({"url": url, "models": models, "refused": catalogue.refused, **tls, **dicom_facts(node)})
            else:
                out.print(f"{url}: {', '.join(catalogue.entries)}; described at {url}/docs", soft_wrap=True)
                tell_certificate(way.tls)
                if node is not None:
                    out.print(f"DICOM node {node.title} at port {node.port}", soft_wrap=True)
                err.print("medge: not a medical device; Ctrl-C ends the station", soft_wrap=True)
            out.file.flush()

        server.serve(app, door, begun, service.ending.set, way.tls)
