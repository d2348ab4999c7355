"""A PACS asked over DICOM's own protocol: C-ECHO, C-FIND, C-GET, C-MOVE and C-STORE."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import StoragePresentationContexts, build_context

from ...errors import PeerError
from ..station import Station
from .asked import RETURNED, Fetched, Found, Pacs, Sought
from .node import prepare
from .taking import FAULT, STORED, Taken, Then, no_jobs, take_request

_SILENT = 60.0  # seconds after which a PACS that says nothing is given up
_CONNECT = 10.0
_PENDING = (0xFF00, 0xFF01)
_MOST_CONTEXTS = 126  # of 128, beside the request's own
VERIFY = "1.2.840.10008.1.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))  # study root
# What a PACS may send in: the syntaxes that `pictures` decodes, the plainest first.
SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLossless,
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, RLELossless,
]  # fmt: skip


@contextlib.contextmanager
def _talk(
    pacs: Pacs, contexts: dict[str, list[str]], *, roles: Iterable[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: list[Any] | None = None,
) -> Iterator[Association]:  # fmt: skip
    """An association with a PACS.

    Raises:
        PeerError: it can't be reached, or refuses to talk.
    """
    prepare()
    ae = AE(pacs.ours)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _SILENT
    ae.connection_timeout = _CONNECT
    asked = [build_context(one, [*syntaxes]) for one, syntaxes in contexts.items()]
    talk = ae.associate(pacs.host, pacs.port, asked, ae_title=pacs.title, ext_neg=[*roles], evt_handlers=handlers or [])
    if not talk.is_established:
        why = (
            f"refuses to talk to a station called {pacs.ours}; list it there, and see that its own title is {pacs.title}"
            if talk.is_rejected
            else f"does not answer at {pacs.host}:{pacs.port}; is it running, and is a firewall between?"
        )
        raise PeerError(f"the PACS {why}")
    try:
        yield talk
        if talk.is_established:
            talk.release()
    finally:
        if talk.is_established:
            talk.abort()


def echo(pacs: Pacs) -> None:
    """Ask whether a PACS answers.

    Raises:
        PeerError: it does not.
    """
    with _talk(pacs, {VERIFY: [ImplicitVRLittleEndian]}) as talk:
        _status(talk.send_c_echo(), "to answer")


def find(pacs: Pacs, sought: Sought) -> list[Found]:
    """The studies that a PACS has, as it orders them.

    Raises:
        PeerError: it can't be reached, or refused.
    """
    return [Found.of({element.keyword: element.value for element in one}) for one in _find(pacs, sought, RETURNED)]


def _find(pacs: Pacs, sought: Sought, returned: Iterable[str]) -> list[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel, query.SpecificCharacterSet = "STUDY", "ISO_IR 192"
    for name, value in ({name: "" for name in returned} | sought.attributes()).items():
        setattr(query, name, value)
    found: list[Dataset] = []
    with _talk(pacs, {FIND: [ImplicitVRLittleEndian, ExplicitVRLittleEndian]}) as talk:
        for status, answer in talk.send_c_find(query, FIND):
            if _status(status, "the search", *_PENDING) in _PENDING and answer is not None:
                found.append(answer)
                if len(found) >= sought.limit:
                    break  # the association is aborted: it would go on otherwise
        else:
            return found
        talk.abort()
    return found


def fetch(pacs: Pacs, study: str, station: Station, then: Then = no_jobs) -> Fetched:
    """Get a study by C-GET, over the same connection: the PACS needs to know no address of this station.

    Args:
        pacs: which has it.
        study: its UID.
        station: takes its objects, each as it comes.
        then: the jobs that a new object asks for.

    Raises:
        PeerError: the PACS can't be reached, refused, or has no such study.
    """
    classes = _classes(pacs, study)
    taken: list[Taken] = []

    def on_store(event: Event) -> int:
        syntax = str(event.context.transfer_syntax)
        try:
            taken.append(take_request(station, event.request, syntax, who=pacs.title, study=study, then=then))
        except Exception:
            taken.append(Taken(FAULT, "a fault in the station"))
        return taken[-1].status

    contexts: dict[str, list[str]] = {GET: [ImplicitVRLittleEndian, ExplicitVRLittleEndian]}
    contexts |= {one: [*SYNTAXES] for one in classes}
    roles = [build_role(one, scp_role=True) for one in classes]
    with _talk(pacs, contexts, roles=roles, handlers=[(evt.EVT_C_STORE, on_store)]) as talk:
        lost = _sub_operations(talk.send_c_get(_of_study(study), GET), "to send the study")
    stored = sum(one.status == STORED for one in taken)
    reasons = [one.reason for one in taken if one.status != STORED]
    failed = max(len(reasons), lost)
    return Fetched(stored, failed, (reasons or ["the PACS could not send it"])[-1] if failed else "")


def _classes(pacs: Pacs, study: str) -> list[str]:
    """The SOP classes of a study; the usual ones where the PACS does not say.

    Raises:
        PeerError: it has no such study.
    """
    found = _find(pacs, Sought(uid=study), ["SOPClassesInStudy"])
    if not found:
        raise PeerError("the PACS has no such study")
    said = found[0].get("SOPClassesInStudy") or []
    classes = [str(one) for one in ([said] if isinstance(said, str) else said)]
    usual = [str(one.abstract_syntax) for one in StoragePresentationContexts]
    return (classes or usual)[:_MOST_CONTEXTS]


def move(pacs: Pacs, study: str, to: str) -> int:
    """Let a PACS send a study by C-MOVE to a node that it knows by its title: to this station's own.

    Returns:
        How many objects it could not send.

    Raises:
        PeerError: it can't be reached, refused, or does not know the node.
    """
    with _talk(pacs, {MOVE: [ImplicitVRLittleEndian, ExplicitVRLittleEndian]}) as talk:
        return _sub_operations(talk.send_c_move(_of_study(study), to, MOVE), f"to send the study to {to}")


def send(pacs: Pacs, files: Iterable[BinaryIO]) -> int:
    """Store objects in a PACS by C-STORE; one that it has already is no error.

    Args:
        pacs: where to.
        files: DICOM files.

    Returns:
        How many it has.

    Raises:
        PeerError: it can't be reached, or did not take one of them.
    """
    objects = [dcmread(one) for one in files]
    contexts: dict[str, list[str]] = {}
    for one in objects:
        syntaxes = contexts.setdefault(str(one.SOPClassUID), [])
        if (syntax := str(one.file_meta.TransferSyntaxUID)) not in syntaxes:
            syntaxes.append(syntax)
    with _talk(pacs, contexts) as talk:
        for one in objects:
            try:
                status = talk.send_c_store(one)
            except ValueError as error:
                raise PeerError("the PACS takes no objects of this kind; see which SOP classes it accepts") from error
            _status(status, "to store an object", 0xB000, 0xB006, 0xB007)
    return len(objects)


def _of_study(study: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    return query


def _sub_operations(answers: Iterator[tuple[Dataset, Dataset | None]], what: str) -> int:
    """Follow a C-GET or C-MOVE to its end; how many objects the PACS could not send."""
    status = Dataset()
    for status, _ in answers:
        _status(status, what, *_PENDING, 0xB000)
    return int(status.get("NumberOfFailedSuboperations") or 0)


def _status(said: Dataset, what: str, *fine: int) -> int:
    """The status of an answer.

    Raises:
        PeerError: it is neither success nor one of those that are fine.
    """
    if "Status" not in said:
        raise PeerError(f"the PACS ended the connection when it was asked {what}")
    status = int(said.Status)
    if status != STORED and status not in fine:
        raise PeerError(f"the PACS refused {what} (status {status:04X})")
    return status
