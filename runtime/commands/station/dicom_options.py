"""Options of `medge serve` for the clinic's own devices."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...station.dicom.node import Node
    from ...station.station import Station

DicomPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="The DICOM node's port; 0 for one that is free.", show_default="no node"),
]
Title = Annotated[str, typer.Option("--ae-title", help="How the DICOM node calls itself.")]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--allow", help="A device that may send, as TITLE@address; once for each.", show_default="none may"),
]


def node_of(station: Station | None, port: int | None, title: str, allowed: list[str] | None) -> Node | None:
    """The DICOM node that was asked for, not yet started.

    Raises:
        StationError: it has no studies to put objects into, or nobody may send to it.
        MissingExtraError: a package is missing.
    """
    from ...errors import MissingExtraError, StationError

    if port is None:
        if allowed:
            raise StationError(
                "--allow is for devices that send by DICOM; open a node for them with --dicom-port 11112"
            )
        return None
    if station is None:
        raise StationError("the DICOM node puts objects into the station's folder; give it with --store")
    if not allowed:
        raise StationError("nobody may send to the DICOM node; list each device with --allow TITLE@address")
    if importlib.util.find_spec("pynetdicom") is None:
        raise MissingExtraError("pynetdicom", "station")
    from ...station.dicom.node import Node
    from ...station.dicom.peers import Peers
    from ...station.reading.intake import jobs_for

    return Node(station, title, Peers.of(allowed), port=port, then=jobs_for)


def dicom_facts(node: Node | None) -> dict[str, dict[str, str | int]]:
    """What `--json` prints of a node that is started."""
    return {} if node is None else {"dicom": {"title": node.title, "port": node.port}}
