"""A certificate for a station that was given none: an authority of its own, which staff install once, and a server's certificate.

The authority's certificate says for which names it may speak (name constraints, RFC 5280 4.2.1.10): those that the station was
given, and addresses of private networks. Who steals its key can pass for this station, not for a bank.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundles.atomic import replace_with_mode
from ...errors import MissingExtraError, StationError, storage_errors
from ..store.clock import now

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
AUTHORITY_DAYS, SERVER_DAYS = 3650, 397  # browsers refuse a server's certificate that is valid for longer than 398 days
RENEWED = 30  # days before the end
_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
    "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """For what a certificate is.

    Attributes:
        names: host names.
        addresses: of the machine.
    """

    names: tuple[str, ...]
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True)
class Files:
    """Certificates and keys in the station's folder, PEM.

    Attributes:
        authority: what staff install on other machines.
        authority_key: mode 0600.
        chain: the server's certificate and the authority's.
        key: of the server, mode 0600.
    """

    authority: Path
    authority_key: Path
    chain: Path
    key: Path

    @classmethod
    def of(cls, folder: Path) -> Files:
        """Their places in a folder."""
        return cls(*(folder / name for name in ("authority.pem", "authority.key", "server.pem", "server.key")))


def make_certificate(files: Files, wanted: Wanted) -> bool:
    """Make what is missing, ends soon, or is for other names; whether a certificate was made.

    Raises:
        StorageError: the file system refused.
        StationError: what lies there is no certificate or no key.
        MissingExtraError: cryptography is not installed.
    """
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("cryptography", "station") from error
    folder = files.authority.parent
    with storage_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        authority = _read(files.authority, files.authority_key)
        if authority is None or _ends(authority[0]) or not _may_speak_for(authority[0], wanted):
            authority = _authority(wanted)
            replace_with_mode(files.authority_key, _pem_of_key(authority[1]))
            replace_with_mode(files.authority, _pem(authority[0]), mode=0o644)
            files.chain.unlink(missing_ok=True)
        server = _read(files.chain, files.key)
        if server is not None and not _ends(server[0]) and _is_for(server[0], authority[0], wanted):
            return False
        made, key = _server(wanted, *authority)
        replace_with_mode(files.key, _pem_of_key(key))
        replace_with_mode(files.chain, _pem(made) + _pem(authority[0]), mode=0o644)
    return True


def _authority(wanted: Wanted) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509

    constraints = x509.NameConstraints(
        [*(x509.DNSName(name) for name in ("localhost", *wanted.names)), *map(x509.IPAddress, _networks(wanted))], None
    )
    return _signed("medge station's own authority", AUTHORITY_DAYS, None, [(constraints, True)])


def _server(
    wanted: Wanted, authority: x509.Certificate, key: EllipticCurvePrivateKey
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    known = [*map(x509.DNSName, ("localhost", *wanted.names)), *map(x509.IPAddress, wanted.addresses)]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName(known), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    return _signed("medge station", SERVER_DAYS, (authority, key), extensions)


def _signed(
    name: str, days: int, by: tuple[x509.Certificate, EllipticCurvePrivateKey] | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:  # fmt: skip
    """A certificate with a new key, signed by an authority, or by itself where it is one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, at = ec.generate_private_key(ec.SECP256R1()), _moment()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = by[1] if by else key
    usage = x509.KeyUsage(
        digital_signature=by is not None, key_cert_sign=by is None, crl_sign=by is None, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[0].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - datetime.timedelta(days=1))  # other machines' clocks are behind
        .not_valid_after(at + datetime.timedelta(days=days - 1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None if by else 0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256()), key


def _moment() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now(), datetime.UTC)


def _ends(certificate: x509.Certificate) -> bool:
    """Soon, or has ended."""
    return certificate.not_valid_after_utc - _moment() < datetime.timedelta(days=RENEWED)


def _networks(wanted: Wanted) -> list[IPNetwork]:
    """What the authority may speak for: an address of a private network may change without a new authority."""
    private = [ipaddress.ip_network(one) for one in _PRIVATE]
    public = [one for one in wanted.addresses if not any(one in network for network in private)]
    return [*private, *map(ipaddress.ip_network, public)]


def _may_speak_for(authority: x509.Certificate, wanted: Wanted) -> bool:
    from cryptography import x509

    given = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    names = {one.value for one in given if isinstance(one, x509.DNSName)}
    networks = {one.value for one in given if isinstance(one, x509.IPAddress)}
    return names >= set(wanted.names) and networks >= set(_networks(wanted))


def _is_for(server: x509.Certificate, authority: x509.Certificate, wanted: Wanted) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        server.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    known = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names, addresses = known.get_values_for_type(x509.DNSName), known.get_values_for_type(x509.IPAddress)
    return set(names) >= set(wanted.names) and set(addresses) >= set(wanted.addresses)


def _read(certificate: Path, key: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey] | None:
    """The first certificate of a file, and its key; None where either is missing or they do not belong together."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with contextlib.suppress(FileNotFoundError):
        try:
            found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
            read = load_pem_private_key(key.read_bytes(), None)
        except ValueError as error:
            raise StationError(
                f"{certificate} or {key.name} beside it is damaged; remove both, and the station makes new ones"
            ) from error
        if isinstance(read, EllipticCurvePrivateKey) and read.public_key() == found.public_key():
            return found, read
    return None


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
