"""Beyond this machine: when the station refuses to be reached, and by which names; one that has no network but a loopback."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'medge[station]'")

from station_doors import Clock, doors_at, with_users

from medge.runtime.commands.station.entrance_options import tell_certificate
from medge.runtime.errors import StationError
from medge.runtime.station import entrance as module
from medge.runtime.station.api.entry.guard import LOOPBACK
from medge.runtime.station.doors.authority import Files, Wanted, make_certificate
from medge.runtime.station.doors.tls import machine_addresses
from medge.runtime.station.entrance import entrance
from medge.runtime.station.station import Station

TESTS = Path(__file__).parents[2]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """With users."""
    with Station.open(tmp_path / "station") as made:
        made.doors = with_users(doors_at(made.folder, Clock()))
        yield made


def test_this_machine_needs_neither_users_nor_tls() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        way = entrance(host, None)
        assert (way.tls, way.always_locked, way.hsts) == (None, False, False)
        assert way.hosts == LOOPBACK
    assert entrance("::1", None).called == "[::1]"
    assert entrance("127.0.0.1", None, names=["Films.local."]).hosts == LOOPBACK | {"films.local"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1", "10.0.0.1"])
def test_beyond_it_users_are_needed(tmp_path: Path, host: str) -> None:
    with pytest.raises(StationError, match="give --store and add a user"):
        entrance(host, None)
    with (
        Station.open(tmp_path / "empty") as empty,
        pytest.raises(StationError, match=r"has no users: add an admin with `medge station user add"),
    ):
        entrance(host, empty)


def test_beyond_it_everybody_logs_in_by_tls_and_names_are_those_given(station: Station) -> None:
    way = entrance("192.168.1.5", station, names=["clinic.lan", "10.9.8.7"])
    assert way.tls is not None
    assert way.hosts == {"clinic.lan", "192.168.1.5", "10.9.8.7"}
    assert (way.called, way.always_locked, way.hsts) == ("clinic.lan", True, False)
    assert way.tls.facts().authority == station.folder / "tls" / "authority.pem"
    assert entrance("2001:db8::1", station).hosts == {"[2001:db8::1]"}


def test_all_addresses_of_the_machine(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tuple(map(ipaddress.ip_address, ("127.0.0.1", "192.168.7.7", "fe80::1")))
    monkeypatch.setattr(module, "machine_addresses", lambda host: own)
    way = entrance("0.0.0.0", station)
    assert way.hosts == LOOPBACK | {"192.168.7.7", "[fe80::1]"}
    assert way.called == "192.168.7.7"
    assert ipaddress.ip_address("127.0.0.1") in machine_addresses("0.0.0.0")
    assert machine_addresses("10.1.1.1") == (ipaddress.ip_address("10.1.1.1"),)


def test_a_clinics_certificate(station: Station, tmp_path: Path) -> None:
    files = Files.of(tmp_path / "given")
    make_certificate(files, Wanted(("clinic.lan",), ()))
    for words in ({"certificate": files.chain}, {"key": files.key}):
        with pytest.raises(StationError, match="belong together"):
            entrance("127.0.0.1", None, **words)  # type: ignore[arg-type]  # what is refused is of other types, too
    way = entrance("192.168.1.5", station, names=["clinic.lan"], certificate=files.chain, key=files.key)
    assert way.hsts
    assert way.tls is not None
    assert way.tls.own is None
    here = entrance("127.0.0.1", None, certificate=files.chain, key=files.key)
    assert (here.hsts, here.always_locked) == (False, False)
    assert not (station.folder / "tls").exists()


def test_the_fingerprints_are_printed_for_staff_to_compare(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    way = entrance("192.168.1.5", station)
    assert way.tls is not None
    facts = way.tls.facts()
    tell_certificate(way.tls)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"SHA-256 {facts.fingerprint}")
    assert second == f"install {facts.authority} on other machines, SHA-256 {facts.authority_fingerprint}"


@pytest.mark.parametrize(
    "name", ["", "a b", "clinic.lan:8642", "http://clinic.lan", "*.lan", "-x", "x" * 64, "müller.lan", "a..b"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(StationError, match="is no host name"):
        entrance("127.0.0.1", None, names=[name])


@pytest.mark.parametrize("host", ["clinic", "", "256.1.1.1", "127.0.0.1:80", "\x1b[31m"])
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(StationError, match="is no IP address") as caught:
        entrance(host, None)
    assert "\x1b" not in str(caught.value)


def test_a_station_without_a_network_but_a_loopback_does_its_work(
    bundle: Path, few_images: Path, tmp_path: Path
) -> None:
    alone = next(
        (words for words in (["unshare", "-n"], ["unshare", "-rn"])
         if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0),
        None,
    )  # fmt: skip
    if alone is None:
        pytest.skip("this machine lets nobody make a network namespace (unshare -n, unshare -rn)")
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "eyes").symlink_to(bundle)
    store = tmp_path / "clinic"
    done = subprocess.run(
        [*alone, sys.executable, TESTS / "station_alone.py", tmp_path / "bundles", store, few_images / "CT_small.dcm"],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "has no users: add an admin" in seen["without users"]
    assert seen["told"]["url"].startswith("https://clinic.lan:")
    assert len(seen["told"]["tls"]["fingerprint"]) == 95
    assert seen["told"]["tls"]["authority"] == str(store / "tls" / "authority.pem")
    assert (seen["health"], seen["no login"], seen["login"]) == (200, 401, [200, "admin"])
    assert seen["cookie"].startswith("__Host-medge=")
    assert "Secure" in seen["cookie"]
    assert seen["classified"][0] == 200
    assert seen["classified"][1] > 1
    assert seen["study"] == {"status": 200, "state": "done", "results": ["classify"]}
    assert (seen["token"], seen["token removed"], seen["another name"]) == (200, 401, 421)
    assert "200" not in seen["plain"]
    assert seen["backup"] == 1
    assert seen["audit"][:2] == ["added a user", "logged in"]
    assert seen["audit"][-3:] == ["added a token", "removed a token", "backed up"]
    assert "Traceback" not in seen["stderr"]
    assert "POST /v1/session 200" in seen["stderr"]
    assert "Amina" not in seen["stderr"]
