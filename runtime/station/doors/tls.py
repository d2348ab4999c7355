"""TLS: which versions and ciphers, with the clinic's certificate or one of the station's own, renewed while it runs."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MedgeError, MissingExtraError, StationError
from ..store.clock import EARLIEST, now
from .authority import RENEWED, Files, Wanted, make_certificate

if TYPE_CHECKING:
    from cryptography import x509

LOG = logging.getLogger("medge.station")
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption; all of TLS 1.3's have both


@dataclass(frozen=True)
class Facts:
    """What people are told of a certificate.

    Attributes:
        fingerprint: of the server's certificate, SHA-256 as browsers show it.
        ends: in seconds since 1970.
        authority: the file to install on other machines; None where the clinic gave the certificate.
        authority_fingerprint: of that.
        warnings: sentences about a given certificate that ends soon, or is for other names.
    """

    fingerprint: str
    ends: float
    authority: Path | None
    authority_fingerprint: str | None
    warnings: tuple[str, ...]


@dataclass
class Tls:
    """What a server needs for TLS; `given` or `own` makes one.

    Attributes:
        certificate: the server's, and those between it and its authority, PEM.
        key: its key, PEM, without a password.
        wanted: the names and addresses that it should be for.
        own: where the station's own lie; None where the clinic gave it.
        context: for `ssl`; takes a renewed certificate while it is in use.
    """

    certificate: Path
    key: Path
    wanted: Wanted
    own: Files | None
    context: ssl.SSLContext = field(init=False)
    _loaded: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        self._load()

    @classmethod
    def given(cls, certificate: Path, key: Path, wanted: Wanted) -> Tls:
        """With the clinic's own certificate.

        Raises:
            StationError: the files are no certificate with its key, or it has ended.
        """
        made = cls(certificate, key, wanted, None)
        if made.facts().ends <= now():
            raise StationError(f"{certificate} has ended; ask whoever made it for a new one")
        return made

    @classmethod
    def made(cls, folder: Path, wanted: Wanted) -> Tls:
        """With one of the station's own, made where there is none yet.

        Args:
            folder: for the certificates and their keys.
            wanted: names and addresses.

        Raises:
            StorageError: the file system refused.
        """
        files = Files.of(folder)
        make_certificate(files, wanted)
        return cls(files.chain, files.key, wanted, files)

    def renew(self) -> bool:
        """Make an own certificate anew where it ends soon, and take what has changed on the disk; whether anything has.

        Connections that are open go on. What goes wrong is logged, and the old certificate stays.
        """
        try:
            if self.own is not None:
                make_certificate(self.own, self.wanted)
            changed = self.certificate.read_bytes() != self._loaded
            if changed:
                self._load()
        except (MedgeError, OSError) as error:
            LOG.warning("the certificate could not be renewed: %s", error)
            return False
        if changed:
            LOG.warning("the certificate was renewed; its SHA-256 fingerprint is %s", self.facts().fingerprint)
        for warning in self.facts().warnings:
            LOG.warning("%s", warning)
        return changed

    def _load(self) -> None:
        def no_password() -> str:
            raise StationError(f"{self.key} is locked by a password, which nobody could type at a restart; take it off")

        try:
            content = self.certificate.read_bytes()
            self.context.load_cert_chain(self.certificate, self.key, no_password)
        except ssl.SSLError as error:
            raise StationError(
                f"{self.certificate} and {self.key} are no certificate (PEM) with its key: {error.reason or error}"
            ) from error
        except OSError as error:
            raise StationError(f"{error.filename or self.key} can't be read ({error.strerror})") from error
        self._loaded = content

    def facts(self) -> Facts:
        """What people are told of it."""
        try:
            from cryptography import x509
        except ModuleNotFoundError as error:
            raise MissingExtraError("cryptography", "station") from error

        first = x509.load_pem_x509_certificates(self._loaded)[0]
        authority = self.own.authority if self.own else None
        ends = first.not_valid_after_utc
        days = (ends - datetime.datetime.fromtimestamp(now(), datetime.UTC)).days
        warnings = []
        if now() < EARLIEST:
            warnings.append(
                "this machine's clock is years behind; set it, or other machines will refuse the certificate"
            )
        if not self.own and days < RENEWED:
            warnings.append(f"{self.certificate} ends in {days} days; replace it")
        if not self.own:
            warnings += [f"{self.certificate} is not for the name {name}" for name in _missing(first, self.wanted)]
        return Facts(
            _fingerprint(first), ends.timestamp(), authority,
            _fingerprint(x509.load_pem_x509_certificate(authority.read_bytes())) if authority else None, tuple(warnings),
        )  # fmt: skip


def _fingerprint(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def _missing(certificate: x509.Certificate, wanted: Wanted) -> list[str]:
    """The names that a certificate is not for; one with a star is for all names of one level."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return list(wanted.names)
    names = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
    return [name for name in wanted.names if name not in names and f"*.{name.partition('.')[2]}" not in names]


def machine_addresses(host: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """The addresses under which a server that listens on `host` is reached: all of the machine's where it listens on all."""
    import psutil

    given = ipaddress.ip_address(host)
    if not given.is_unspecified:
        return (given,)
    found = set[ipaddress.IPv4Address | ipaddress.IPv6Address]()
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            try:
                address = ipaddress.ip_address(one.address.partition("%")[0])
            except ValueError:  # of a network card
                continue
            if given.version == 6 or address.version == 4:  # "::" also takes IPv4 on most systems
                found.add(address)
    return tuple(sorted(found, key=lambda address: (address.version, int(address))))
