"""The DICOM node: who may send, what is answered when something is stored or refused, and how it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medge[station]'")

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.association import Association
from station_films import film

from medge.runtime.errors import StationError
from medge.runtime.station.dicom.node import Node
from medge.runtime.station.dicom.peers import Peers
from medge.runtime.station.dicom.taking import Expected, Joined, take
from medge.runtime.station.station import Station
from medge.runtime.station.store.objects import Space
from medge.runtime.station.work.jobs import NewJob

SECONDARY, VERIFY = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.1"


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station.open(tmp_path / "s") as opened:
        yield opened


@pytest.fixture
def node(station: Station) -> Iterator[Node]:
    with Node(
        station, "MEDGE", Peers.of(["CT1@127.0.0.1"]), port=0, then=lambda one: [NewJob("judge", one.uid)]
    ) as made:
        yield made


def call(node: Node, title: str = "CT1", called: str = "MEDGE") -> Association:
    ae = AE(title)
    ae.add_requested_context(VERIFY)
    ae.add_requested_context(SECONDARY, [ExplicitVRLittleEndian])
    ae.add_requested_context(SECONDARY, [JPEG2000Lossless])
    return ae.associate("127.0.0.1", node.port, ae_title=called)


@contextlib.contextmanager
def sender(node: Node) -> Iterator[Association]:
    talk = call(node)
    assert talk.is_established
    yield talk
    talk.release()


def sent(talk: Association, content: bytes, **changes: Any) -> Dataset:
    one = dcmread(io.BytesIO(content))
    for name, value in changes.items():
        setattr(one, name, value)
    return talk.send_c_store(one)


def test_echo_and_store(node: Node, station: Station) -> None:
    with sender(node) as talk:
        assert talk.send_c_echo().Status == 0
        assert [sent(talk, film(number)).Status for number in (1, 2, 1)] == [0, 0, 0]
        one = dcmread(io.BytesIO(film(3)))
        one.file_meta.TransferSyntaxUID = JPEG2000Lossless  # its pixels are nobody's here
        assert talk.send_c_store(one).Status == 0
    assert station.queue.counts() == {"waiting": 3}
    kept = station.instance("1.2.1.1.9.3")
    assert kept is not None
    assert kept.transfer_syntax == JPEG2000Lossless
    first = station.instance("1.2.1.1.9.1")
    assert first is not None
    with station.read(first) as stream:
        read = dcmread(stream)
    assert (read.PatientName, read.PixelData, read.file_meta.ImplementationVersionName) == (
        "Mark^Ann", b"\0" * 16, "MEDGE",
    )  # fmt: skip
    assert [entry.who for entry in station.history() if entry.action == "sent a study"] == ["CT1"]


def test_the_same_object_from_another_way_is_the_same(node: Node, station: Station) -> None:
    station.put(film(1), who="ann")
    with sender(node) as talk:
        assert sent(talk, film(1)).Status == 0
        other = sent(talk, film(1, pixels=b"\1" * 16))
    assert (other.Status, other.ErrorComment) == (
        0xC111,
        "another object with this SOP Instance UID is here and was kept",
    )
    assert station.studies()[0].instances == 1


def test_a_class_of_a_makers_own_is_stored(node: Node, station: Station) -> None:
    own = "1.3.12.2.1107.5.9.1"  # Siemens's
    ae = AE("CT1")
    ae.add_requested_context(own, [ExplicitVRLittleEndian])
    talk = ae.associate("127.0.0.1", node.port, ae_title="MEDGE")
    one = dcmread(io.BytesIO(film(1, SOPClassUID=own)))
    assert talk.send_c_store(one).Status == 0
    talk.release()
    kept = station.instance("1.2.1.1.9.1")
    assert kept is not None
    assert kept.sop_class == own


def test_what_is_refused(node: Node, station: Station, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with sender(node) as talk:
        assert sent(talk, film(1), StudyInstanceUID="").Status == 0xC000
        assert sent(talk, film(1), SeriesInstanceUID="no uid").Status == 0xC000
        assert talk.send_c_echo().Status == 0  # it goes on
    assert station.studies() == []
    assert "refused with status C000" in caplog.text
    assert "Mark" not in caplog.text


def test_a_data_set_of_another_class(station: Station) -> None:
    assert take(station, film(1), who="CT1", expected=Expected(sop_class="1.2.840.10008.5.1.4.1.1.1")).status == 0xA900
    assert take(station, film(1), who="CT1", expected=Expected(uid="1.2.3")).status == 0xA900
    assert station.studies() == []


def test_a_full_disk_and_space_again(tmp_path: Path) -> None:
    free = [0]
    space = Space(reserve=0, ballast=0, free=lambda folder: free[0])
    with Station.open(tmp_path / "s", space=space) as station, Node(
        station, "MEDGE", Peers.of(["CT1@127.0.0.1"]), port=0
    ) as node, sender(node) as talk:  # fmt: skip
        assert sent(talk, film(1)).Status == 0xA700
        free[0] = 1 << 30
        assert sent(talk, film(1)).Status == 0


def test_a_fault_ends_neither_node_nor_association(
    node: Node, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: Any, **__: Any) -> None:
        raise ValueError("Mark^Ann")

    with sender(node) as talk:
        with monkeypatch.context() as patched:
            patched.setattr(station, "put", fault)
            found = sent(talk, film(1))
            assert (found.Status, found.ErrorComment) == (0x0110, "a fault in the station")
        assert sent(talk, film(1)).Status == 0


@pytest.mark.parametrize(("title", "called"), [("CT2", "MEDGE"), ("CT1", "OTHER")])
def test_a_stranger_is_refused(node: Node, title: str, called: str) -> None:
    talk = call(node, title, called)
    assert (talk.is_established, talk.is_rejected) == (False, True)


def test_a_listed_title_from_elsewhere_is_refused(station: Station) -> None:
    peers = Peers.of(["CT1@10.0.0.9", "CT2@127.0.0.1"])
    with Node(station, "MEDGE", peers, port=0) as node:
        assert not call(node, "CT1").is_established
    with Node(station, "MEDGE", Peers.of(["CT1@10.0.0.9"]), port=0) as node:
        assert not call(node, "CT1").is_established


def test_it_ends_after_what_it_is_storing(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, put = threading.Event(), station.put

    def slow(*given: Any, **named: Any) -> Any:
        begun.set()
        time.sleep(0.3)
        return put(*given, **named)

    monkeypatch.setattr(station, "put", slow)
    found: list[Dataset] = []
    node = Node(station, "MEDGE", Peers.of(["CT1@127.0.0.1"]), port=0)
    node.start()
    talk = call(node)
    thread = threading.Thread(target=lambda: found.append(sent(talk, film(1))))
    thread.start()
    assert begun.wait(10)
    node.stop()
    thread.join(10)
    assert [one.get("Status") for one in found] == [0]
    assert station.instance("1.2.1.1.9.1") is not None
    assert not call(node).is_established
    node.stop()  # once more does nothing


def test_what_it_is_started_with(station: Station, node: Node) -> None:
    for written, words in (
        ("CT1", "TITLE@192.168.1.5"), ("CT1@clinic", "no IP address"), ("@127.0.0.1", "no AE title"),
        ("A" * 17 + "@::1", "no AE title"),
    ):  # fmt: skip
        with pytest.raises(StationError, match=words):
            Peers.of([written])
    with pytest.raises(StationError, match="this machine only"):
        Node(station, "MEDGE", Peers.of([]), host="0.0.0.0")
    with pytest.raises(StationError, match="can't be opened for DICOM"):
        Node(station, "MEDGE", Peers.of([]), port=node.port).start()


def test_an_address_may_be_written_in_either_form() -> None:
    peers = Peers.of([" CT1 @127.0.0.1", "CT2@::1"])
    assert peers.knows("CT1", "::ffff:127.0.0.1")
    assert peers.knows("CT2  ", "0:0::1")
    assert not peers.knows("CT2", "127.0.0.1")


def test_a_header_and_a_data_set_read_as_one_file() -> None:
    whole = Joined(b"head", io.BytesIO(b"0123456789"))
    assert whole.read(6) == b"head01"
    assert (whole.read(3), whole.tell()) == (b"234", 9)
    whole.seek(2)
    assert whole.read() == b"ad0123456789"
    assert (whole.seek(-2, 2), whole.read(), whole.read()) == (12, b"89", b"")
