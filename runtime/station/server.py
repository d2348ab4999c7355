"""The station's server: where it listens, and how it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from ..errors import StationError
from .doors.tls import Tls

GRACE = 5  # seconds that running answers are given when the station ends
_RENEWAL = 12 * 3600.0  # seconds between two looks at the certificate


@dataclass(frozen=True)
class Address:
    """Where the station listens; port 0 for one that is free."""

    host: str
    port: int


def listen(address: Address) -> tuple[socket.socket, Address]:
    """Open the door; the address has the port that was given. Who may come through it is for `entrance` to decide.

    Raises:
        StationError: the port is taken, or the address is not this machine's.
    """
    door = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((address.host, address.port))
        door.listen(128)
    except OSError as error:
        door.close()
        raise StationError(
            f"port {address.port} of {address.host} can't be opened ({error.strerror}); choose another with --port"
        ) from error
    return door, Address(address.host, door.getsockname()[1])


def serve(
    app: ASGIApp, door: socket.socket, begun: Callable[[], None], ending: Callable[[], None] = lambda: None,
    tls: Tls | None = None,
) -> None:  # fmt: skip
    """Answer requests until Ctrl-C or SIGTERM, which is raised again once running answers and models are ended.

    Args:
        app: the application.
        door: as `listen` opens it.
        begun: called when requests are answered.
        ending: called when the station is told to end, before running answers are waited for.
        tls: where requests come by TLS; looked at twice a day, and renewed.
    """
    logging.getLogger("medge.station").setLevel(logging.INFO)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=30, h11_max_incomplete_event_size=16_384, proxy_headers=False, ws="none",
    )  # fmt: skip

    config.load()
    config.ssl = None if tls is None else tls.context

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if tls is not None:
                self.renewal = asyncio.create_task(_renew(tls))
            begun()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            ending()
            await super().shutdown(sockets)

    with door:
        Server(config).run(sockets=[door])


async def _renew(tls: Tls) -> None:
    while True:
        await asyncio.sleep(_RENEWAL)
        await asyncio.to_thread(tls.renew)
