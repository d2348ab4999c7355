"""The station's server: where it listens, and how it begins and ends."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from ..errors import StationError

GRACE = 5  # seconds that running answers are given when the station ends


@dataclass(frozen=True)
class Address:
    """Where the station listens; port 0 for one that is free."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def listen(address: Address) -> tuple[socket.socket, Address]:
    """Open the door; the address has the port that was given.

    Raises:
        StationError: beyond this machine, which needs users and TLS, or the port is taken.
    """
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        given = ipaddress.ip_address(host)
    except ValueError as error:
        raise StationError(f"{address.host} is no IP address; use 127.0.0.1") from error
    if not given.is_loopback:
        raise StationError(
            "the station answers only this machine (127.0.0.1): beyond it users and TLS are needed, which it does not have yet; "
            "reach it through an SSH tunnel"
        )
    door = socket.socket(socket.AF_INET6 if given.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, address.port))
        door.listen(128)
    except OSError as error:
        door.close()
        raise StationError(
            f"port {address.port} can't be opened ({error.strerror}); choose another with --port"
        ) from error
    return door, Address(host, door.getsockname()[1])


def serve(
    app: ASGIApp, door: socket.socket, begun: Callable[[], None], ending: Callable[[], None] = lambda: None
) -> None:
    """Answer requests until Ctrl-C or SIGTERM, which is raised again once running answers and models are ended.

    Args:
        app: the application.
        door: as `listen` opens it.
        begun: called when requests are answered.
        ending: called when the station is told to end, before running answers are waited for.
    """
    logging.getLogger("medge.station").setLevel(logging.INFO)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=30, h11_max_incomplete_event_size=16_384, proxy_headers=False, ws="none",
    )  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            begun()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            ending()
            await super().shutdown(sockets)

    with door:
        Server(config).run(sockets=[door])
