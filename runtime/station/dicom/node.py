"""A DICOM node: devices that are listed send their objects to it.

with Node(station, "MEDGE", Peers.of(["CT1@192.168.1.5"]), port=11112):
    ...
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when the module is imported
from pynetdicom.transport import ThreadedAssociationServer

from ...errors import StationError
from ..station import Station
from .peers import Peers, ae_title
from .taking import FAULT, STORED, Then, no_jobs, take_request

_LOG = logging.getLogger("medge.station")
LOOPBACK = "127.0.0.1"
MOST_ASSOCIATIONS = 10  # at once
_GRACE = 10.0  # seconds that an object which is being stored is given when the node ends
_SILENT = 60.0  # seconds after which a sender that says nothing is let go of
# PS3.8 table 9-21: rejected for good, by the service user: calling AE title not recognized.
_REJECTED = (0x01, 0x01, 0x03)


class Node:
    """C-ECHO and C-STORE for devices that are listed, in every transfer syntax and for every storage SOP class.

    An object is answered with Success when it is on the disk and in the database. Until then it is in memory, with up to three
    times its size.

    Args:
        station: takes the objects.
        title: the node's AE title; a device that calls another name is refused.
        peers: the devices.
        host: the address to listen on; only this machine's own, since DICOM has neither passwords nor encryption of its own.
        port: 0 for one that is free; `port` says which, once the node is started.
        then: the jobs that a new object asks for.

    Raises:
        StationError: the title is none, or the address is not this machine's own.
    """

    def __init__(
        self, station: Station, title: str, peers: Peers, *, host: str = LOOPBACK, port: int = 11112,
        then: Then = no_jobs,
    ) -> None:  # fmt: skip
        self.title, self.host, self.port = ae_title(title), _own(host), port
        self._station, self._peers, self._then = station, peers, then
        self._busy = 0
        self._idle = threading.Condition()
        self._server: ThreadedAssociationServer | None = None
        prepare()
        self._ae = AE(self.title)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = MOST_ASSOCIATIONS
        self._ae.maximum_pdu_size = 0  # as large as the sender likes
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = _SILENT
        self._ae.add_supported_context(Verification)

    def start(self) -> None:
        """Listen.

        Raises:
            StationError: the port is taken.
        """
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_ECHO, lambda event: STORED), (evt.EVT_C_STORE, self._on_store),
        ]  # fmt: skip
        try:
            server = self._ae.start_server((self.host, self.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise StationError(
                f"port {self.port} can't be opened for DICOM ({error.strerror}); choose another with --dicom-port"
            ) from error
        self._server = cast(ThreadedAssociationServer, server)
        # Who calls from elsewhere is let go of before a word is said.
        self._server.verify_request = self._from_listed  # type: ignore[method-assign]
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        """Take no more; what is being stored is stored and answered first."""
        if self._server is None:
            return
        self._server.shutdown()
        until = time.monotonic() + _GRACE
        with self._idle:
            while self._busy and (left := until - time.monotonic()) > 0:
                self._idle.wait(left)
        time.sleep(0.05)  # the last answer is on its way
        for association in self._server.active_associations:
            association.abort()
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _from_listed(self, request: Any, client_address: Any) -> bool:
        """Whether a connection comes from an address that one of the devices has."""
        return self._peers.knows_address(str(client_address[0]))

    def _on_request(self, event: Event) -> None:
        request = event.assoc.requestor.primitive
        title = str(getattr(request, "calling_ae_title", "") or "")
        if not self._peers.knows(title, str(event.assoc.requestor.address)):
            _LOG.warning("DICOM: a device that is not listed was refused")
            event.assoc.acse.send_reject(*_REJECTED)
            event.assoc.kill()

    def _on_store(self, event: Event) -> int | Dataset:
        with self._idle:
            self._busy += 1
        try:
            return self._stored(event)
        except Exception as error:
            _LOG.error("DICOM: an object could not be taken: %s", type(error).__name__)
            return FAULT
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _stored(self, event: Event) -> int | Dataset:
        who, syntax = event.assoc.requestor.ae_title.strip(), str(event.context.transfer_syntax)
        taken = take_request(self._station, event.request, syntax, who=who, then=self._then)
        if taken.status == STORED:
            return STORED
        _LOG.warning("DICOM: an object was refused with status %04X", taken.status)
        answer = Dataset()
        answer.Status, answer.ErrorComment = taken.status, taken.reason[:64]
        return answer


def _own(host: str) -> str:
    """An address of this machine's own."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError as error:
        raise StationError(f"{host} is no IP address; use {LOOPBACK}") from error
    if not found.is_loopback:
        raise StationError(f"the DICOM node listens on this machine only ({LOOPBACK}); reach it through a tunnel")
    return str(found)


def prepare() -> None:
    """Let pynetdicom take every storage SOP class, and log nothing: it would write what objects and requests hold, names of
    patients among it."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # also the classes that makers of devices have of their own
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
