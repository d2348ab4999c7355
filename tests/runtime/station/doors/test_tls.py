"""Certificates and what is spoken: made, checked by a client, renewed, given; old versions and weak ciphers are refused."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'medge[station]'")
pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from cryptography import x509

from medge.runtime.errors import StationError
from medge.runtime.station.doors import authority, tls
from medge.runtime.station.doors.authority import Files, Wanted, make_certificate
from medge.runtime.station.doors.tls import Tls

DAY = 86_400.0
CLINIC = Wanted(("clinic.lan",), (ipaddress.ip_address("192.168.1.5"), ipaddress.ip_address("127.0.0.1")))


class Today:
    """The day, set by hand."""

    def __init__(self) -> None:
        self.at = datetime.datetime.now(datetime.UTC).timestamp()

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Today:
    made = Today()
    monkeypatch.setattr(authority, "now", made)
    monkeypatch.setattr(tls, "now", made)
    return made


@contextlib.contextmanager
def server(used: Tls) -> Iterator[int]:
    """A port on which handshakes are answered, each with a byte."""
    door = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                plain, _ = door.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain, used.context.wrap_socket(plain, server_side=True) as secured:
                secured.sendall(b"x")

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()


def spoken(port: int, context: ssl.SSLContext, name: str = "clinic.lan") -> tuple[str, str, bytes]:
    """Version, cipher and certificate that a client gets."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.recv(1)
        cipher, version, _ = secured.cipher() or ("", "", 0)
        return version, cipher, secured.getpeercert(binary_form=True) or b""


def trusting(used: Tls) -> ssl.SSLContext:
    """A client that has installed the authority, as strict as Python can be."""
    assert used.own is not None
    context = ssl.create_default_context(cafile=used.own.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_a_client_that_installed_the_authority_comes_in_by_each_name(tmp_path: Path) -> None:
    used = Tls.made(tmp_path / "tls", CLINIC)
    with server(used) as port:
        for name in ("clinic.lan", "192.168.1.5", "127.0.0.1", "localhost"):
            version, _, certificate = spoken(port, trusting(used), name)
            assert version == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            spoken(port, trusting(used), "bank.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            spoken(port, ssl.create_default_context())
    facts = used.facts()
    assert facts.fingerprint == x509_fingerprint(certificate)
    assert facts.authority_fingerprint == x509_fingerprint(ssl.PEM_cert_to_DER_cert(used.own.authority.read_text()))  # type: ignore[union-attr]  # of its own


def x509_fingerprint(der: bytes) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256

    return ":".join(f"{byte:02X}" for byte in x509.load_der_x509_certificate(der).fingerprint(SHA256()))


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make_certificate(Files.of(folder), CLINIC)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.glob("*.key")} == {
        "authority.key": "0o600", "server.key": "0o600",
    }  # fmt: skip


def test_a_stolen_authority_passes_for_no_other_place(tmp_path: Path) -> None:
    """Names outside the constraints are refused by the client, though the signature is right."""
    used = Tls.made(tmp_path / "tls", CLINIC)
    files = Files.of(tmp_path / "tls")
    stolen = authority._read(files.authority, files.authority_key)
    assert stolen is not None
    for place in (Wanted(("bank.example",), ()), Wanted((), (ipaddress.ip_address("203.0.113.9"),))):
        made, key = authority._server(place, *stolen)
        files.key.write_bytes(authority._pem_of_key(key))
        files.chain.write_bytes(authority._pem(made) + authority._pem(stolen[0]))
        name = place.names[0] if place.names else str(place.addresses[0])
        with (
            server(Tls(files.chain, files.key, place, None)) as port,
            pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"),
        ):
            spoken(port, trusting(used), name)


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [("TLSv1_1", "ALL:@SECLEVEL=0"), ("TLSv1", "ALL:@SECLEVEL=0"), ("TLSv1_2", "AES128-GCM-SHA256"),
     ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA"), ("TLSv1_2", "ECDHE-ECDSA-AES256-SHA384"), ("TLSv1_2", "DHE-RSA-AES128-GCM-SHA256"),
     ("TLSv1_2", "aNULL:@SECLEVEL=0")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_and_weak_ciphers_are_refused(tmp_path: Path, version: str, ciphers: str) -> None:
    used = Tls.made(tmp_path / "tls", CLINIC)
    client = trusting(used)
    client.minimum_version = client.maximum_version = ssl.TLSVersion[version]
    client.set_ciphers(ciphers)
    with server(used) as port, pytest.raises((ssl.SSLError, ConnectionError)):
        spoken(port, client)


def test_tls_1_2_is_spoken_with_forward_secrecy(tmp_path: Path) -> None:
    used = Tls.made(tmp_path / "tls", CLINIC)
    client = trusting(used)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with server(used) as port:
        version, cipher, _ = spoken(port, client)
    assert version == "TLSv1.2"
    assert cipher.startswith("ECDHE-ECDSA-")
    old = [one["name"] for one in used.context.get_ciphers() if one["protocol"] != "TLSv1.3"]
    assert old
    assert all(name.startswith("ECDHE") and ("GCM" in name or "CHACHA" in name) for name in old)


def test_an_own_certificate_is_renewed_before_it_ends_while_it_is_in_use(
    tmp_path: Path, today: Today, caplog: pytest.LogCaptureFixture
) -> None:
    today.at -= (
        authority.SERVER_DAYS - authority.RENEWED + 2
    ) * DAY  # so that it is renewed on the day of the client's clock
    used = Tls.made(tmp_path / "tls", CLINIC)
    first = used.facts()
    client = trusting(used)
    with server(used) as port:
        assert not used.renew()
        today.at += (authority.SERVER_DAYS - authority.RENEWED - 3) * DAY
        assert not used.renew()
        today.at += 5 * DAY
        assert used.renew()
        [*_, certificate] = spoken(port, client)  # who installed the authority notices nothing
    second = used.facts()
    assert x509_fingerprint(certificate) == second.fingerprint != first.fingerprint
    assert second.authority_fingerprint == first.authority_fingerprint
    assert f"its SHA-256 fingerprint is {second.fingerprint}" in caplog.text
    today.at += authority.AUTHORITY_DAYS * DAY
    assert used.renew()
    assert used.facts().authority_fingerprint != first.authority_fingerprint


def test_a_clock_that_was_never_set_is_told(tmp_path: Path, today: Today) -> None:
    today.at = 1000 * DAY
    [warning] = Tls.made(tmp_path / "tls", CLINIC).facts().warnings
    assert "clock is years behind" in warning


def test_a_new_address_of_the_clinic_needs_no_new_authority_and_a_new_name_does(tmp_path: Path) -> None:
    first = Tls.made(tmp_path / "tls", CLINIC).facts()
    moved = Tls.made(tmp_path / "tls", Wanted(CLINIC.names, (ipaddress.ip_address("10.3.3.3"),))).facts()
    assert moved.fingerprint != first.fingerprint
    assert moved.authority_fingerprint == first.authority_fingerprint
    named = Tls.made(tmp_path / "tls", Wanted(("films.clinic.example",), CLINIC.addresses)).facts()
    assert named.authority_fingerprint != first.authority_fingerprint


def test_what_is_damaged_or_lost_on_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    used = Tls.made(tmp_path / "tls", CLINIC)
    files = Files.of(tmp_path / "tls")
    files.key.unlink()
    assert used.renew()  # made anew
    files.chain.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert not used.renew()
    assert "is damaged; remove both" in caplog.text
    with pytest.raises(StationError, match="is damaged"):
        Tls.made(tmp_path / "tls", CLINIC)


@pytest.fixture
def clinics(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and a key as a clinic would give them."""
    files = Files.of(tmp_path / "given")
    make_certificate(files, CLINIC)
    return files.chain, files.key


def test_a_given_certificate_is_used_and_looked_at(clinics: tuple[Path, Path], today: Today) -> None:
    used = Tls.given(*clinics, Wanted(("clinic.lan", "other.lan"), ()))
    facts = used.facts()
    assert (facts.authority, facts.authority_fingerprint) == (None, None)
    assert [one.rpartition(" is ")[2] for one in facts.warnings] == ["not for the name other.lan"]
    today.at = facts.ends - 10 * DAY
    assert "ends in 10 days; replace it" in used.facts().warnings[0]
    today.at = facts.ends + 1
    with pytest.raises(StationError, match="has ended"):
        Tls.given(*clinics, CLINIC)


def test_a_given_certificate_that_was_replaced_is_taken(clinics: tuple[Path, Path], tmp_path: Path) -> None:
    used = Tls.given(*clinics, CLINIC)
    first = used.facts().fingerprint
    other = Files.of(tmp_path / "newer")
    make_certificate(other, CLINIC)
    for new, old in zip((other.chain, other.key), clinics, strict=True):
        old.write_bytes(new.read_bytes())
    assert used.renew()
    assert used.facts().fingerprint != first


def test_what_is_no_certificate_is_refused_in_words(clinics: tuple[Path, Path], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    chain, key = clinics
    other = Files.of(tmp_path / "other")
    make_certificate(other, CLINIC)
    locked = tmp_path / "locked.key"
    read: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        read.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    (tmp_path / "text").write_text("nonsense")
    for certificate, its_key, why in (
        (chain, other.key, "no certificate"), (tmp_path / "text", key, "no certificate"),
        (chain, tmp_path / "none", "can't be read"), (tmp_path / "none", key, "can't be read"),
        (chain, locked, "locked by a password"),
    ):  # fmt: skip
        with pytest.raises(StationError, match=why):
            Tls.given(certificate, its_key, CLINIC)
