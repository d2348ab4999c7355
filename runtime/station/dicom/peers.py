"""Which devices may send: by the title that they call themselves and the address that they call from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import StationError

_LONGEST = 16  # of an AE title, PS3.5 section 6.2
_SIGNS = re.compile(r"[\x20-\x5b\x5d-\x7e]+")  # the default repertoire without the backslash


@dataclass(frozen=True)
class Peer:
    """A device that is known.

    Attributes:
        title: its AE title.
        address: the IP address that it calls from.
    """

    title: str
    address: str

    @classmethod
    def of(cls, written: str) -> Peer:
        """Read "TITLE@address".

        Raises:
            StationError: it is not in this form.
        """
        title, sign, address = written.rpartition("@")
        if not sign:
            raise StationError(f"{written!r} names no device; write its AE title and IP address as TITLE@192.168.1.5")
        try:
            return cls(ae_title(title), str(ipaddress.ip_address(address.strip())))
        except ValueError as error:
            raise StationError(f"{address!r} is no IP address; write a device as TITLE@192.168.1.5") from error


def ae_title(written: str) -> str:
    """An AE title without the blanks around it.

    Raises:
        StationError: it is none.
    """
    title = written.strip()
    if not title or len(title) > _LONGEST or not _SIGNS.fullmatch(title):
        raise StationError(f"{written!r} is no AE title: 1 to {_LONGEST} letters, digits and signs of ASCII")
    return title


@dataclass(frozen=True)
class Peers:
    """The list of devices that may send.

    Attributes:
        known: those devices.
    """

    known: frozenset[Peer]

    @classmethod
    def of(cls, written: Iterable[str]) -> Peers:
        """Read a list of "TITLE@address".

        Raises:
            StationError: one is not in this form.
        """
        return cls(frozenset(Peer.of(one) for one in written))

    def knows_address(self, address: str) -> bool:
        """Whether any of them calls from there."""
        return any(peer.address == plain(address) for peer in self.known)

    def knows(self, title: str, address: str) -> bool:
        """Whether one of them is so called and calls from there."""
        return Peer(title.strip(), plain(address)) in self.known


def plain(address: str) -> str:
    """An address as it is listed: an IPv4 address within IPv6 is that IPv4 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    inner = getattr(found, "ipv4_mapped", None)
    return str(inner or found)
