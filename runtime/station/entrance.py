"""How the station is reached: on this machine only, or beyond it by TLS, by which names, and whether everybody has to log in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import StationError, one_line
from .api.entry.guard import LOOPBACK
from .doors.authority import IPAddress, Wanted
from .doors.tls import Tls, machine_addresses
from .station import Station

_FOLDER = "tls"  # in the station's
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Entrance:
    """How the station is reached.

    Attributes:
        host: the address to listen on.
        called: the name or address for a browser, without a port.
        hosts: names and addresses by which it may be called, as the header Host writes them.
        tls: None where it listens on this machine only and was given no certificate.
        always_locked: everybody has to log in, also when the last user has gone: beyond this machine.
        hsts: browsers are told to come by TLS only. Not with a certificate of the station's own: who lost its authority could
            not come in any more.
    """

    host: str
    called: str
    hosts: frozenset[str]
    tls: Tls | None
    always_locked: bool
    hsts: bool


def entrance(
    host: str, station: Station | None, *, names: Sequence[str] = (), certificate: Path | None = None, key: Path | None = None
) -> Entrance:  # fmt: skip
    """Decide how the station is reached; beyond this machine with a certificate of its own where none is given.

    Args:
        host: the address to listen on; 0.0.0.0 or :: for all of the machine's.
        station: what it holds; None without a store.
        names: by which it may be called.
        certificate: the clinic's own, PEM.
        key: of the certificate.

    Raises:
        StationError: no address or name; beyond this machine without users; a certificate without its key, or one that has ended.
    """
    given = _address("127.0.0.1" if host == "localhost" else host)
    if (certificate is None) != (key is None):
        raise StationError("a certificate and its key belong together; give --certificate and --key")
    beyond = not given.is_loopback
    if beyond and station is None:
        raise StationError(
            f"the station answers only this machine (127.0.0.1) without users, and {host} is beyond it: give --store and add a "
            "user (`medge station user add`), or reach it through an SSH tunnel"
        )
    if beyond and station is not None and not station.doors.locked():
        raise StationError(
            f"the station answers only this machine (127.0.0.1) while it has no users: add an admin with "
            f"`medge station user add {station.folder} NAME --role admin` first"
        )
    wanted = _wanted(given, names)
    tls = None
    if certificate is not None and key is not None:
        tls = Tls.given(certificate, key, wanted)
    elif beyond and station is not None:
        tls = Tls.made(station.folder / _FOLDER, wanted)
    own = frozenset({*wanted.names, *map(_in_host, wanted.addresses)})
    hosts = own if beyond and not given.is_unspecified else own | LOOPBACK
    away = [_in_host(one) for one in wanted.addresses if not one.is_loopback and not one.is_link_local]
    called = [*wanted.names, *(away if beyond else []), _in_host(given)][0]
    return Entrance(str(given), called, hosts, tls, beyond, hsts=certificate is not None and bool(wanted.names))


def _address(host: str) -> IPAddress:
    try:
        return ipaddress.ip_address(host)
    except ValueError as error:
        raise StationError(f"{one_line(host, 80)} is no IP address; use 127.0.0.1") from error


def _wanted(host: IPAddress, names: Sequence[str]) -> Wanted:
    """Names and addresses; an address among the names is one by which other machines reach this one."""
    words, addresses = list[str](), [*machine_addresses(str(host))]
    for name in (one.lower().removesuffix(".") for one in names):
        try:
            addresses.append(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            if len(name) > 253 or not _NAME.fullmatch(name):
                raise StationError(
                    f"{one_line(name, 80)!r} is no host name; it has letters a-z, digits, hyphens and dots, and no port"
                ) from None
            words.append(name)
    return Wanted(tuple(dict.fromkeys(words)), tuple(dict.fromkeys(addresses)))


def _in_host(address: IPAddress) -> str:
    """As the header Host and a browser write it."""
    return f"[{address}]" if address.version == 6 else str(address)
