"""A PACS asked by DICOMweb: QIDO-RS, WADO-RS and STOW-RS."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import httpx
from pydicom.datadict import keyword_for_tag

from ... import json_text
from ...errors import PeerError, StationError
from ..station import Station
from .asked import RETURNED, Fetched, Found, Pacs, Sought
from .parts import Parts
from .taking import STORED, Expected, Taken, Then, no_jobs, take

_TIMES = httpx.Timeout(60.0, connect=10.0)
_PIECE = 1 << 20
_MOST_JSON = 32 << 20  # bytes of an answer


def _client(pacs: Pacs) -> httpx.Client:
    """Asks the PACS's root, and no other: a redirection or a proxy of the environment is not followed."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log addresses, and a search holds a patient's name
    headers = {"Authorization": f"Bearer {pacs.token}"} if pacs.token else {}
    return httpx.Client(base_url=pacs.web.rstrip("/"), headers=headers, timeout=_TIMES, trust_env=False)


def find(pacs: Pacs, sought: Sought) -> list[Found]:
    """The studies that a PACS has, as it orders them (QIDO-RS).

    Raises:
        PeerError: it can't be reached, refused, or answers in another form.
    """
    asked = [(name, value) for name, value in sought.attributes().items() if value]
    asked += [("includefield", name) for name in (*RETURNED, "ModalitiesInStudy")] + [("limit", str(sought.limit))]
    # What an address may hold stays as it is: Orthanc 1.10 looks for %2A where * is escaped. Accents have to be.
    path = "/studies?" + urlencode(asked, safe="*?^", quote_via=quote)
    with _client(pacs) as client:
        answer = _asked(client, "GET", path, "the search", headers={"Accept": "application/dicom+json"})
    if answer.status_code == 204:
        return []
    try:
        found = json_text.loads(answer.text)
        return [Found.of(_values(one)) for one in found][: sought.limit]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise PeerError("the PACS's answer to a search is no list of studies in DICOM's JSON") from error


def _values(found: dict[str, Any]) -> dict[str, Any]:
    """Values by keyword, of an object in DICOM's JSON."""
    values: dict[str, Any] = {}
    for tag, element in found.items():
        held = element.get("Value") or []
        plain = [one.get("Alphabetic", "") if isinstance(one, dict) else one for one in held]
        name = keyword_for_tag(int(tag, 16))
        values[name] = plain if name == "ModalitiesInStudy" else (plain[0] if plain else None)
    return values


def fetch(pacs: Pacs, study: str, station: Station, then: Then = no_jobs) -> Fetched:
    """Get a study (WADO-RS), in the transfer syntaxes that the PACS has.

    Args:
        pacs: which has it.
        study: its UID.
        station: takes its objects, each as it comes.
        then: the jobs that a new object asks for.

    Raises:
        PeerError: the PACS can't be reached, refused, or has no such study.
        StationFullError: the disk is full.
    """
    taken: list[Taken] = []
    who = pacs.title or "PACS"
    kinds = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    try:
        with _client(pacs) as client, client.stream("GET", f"/studies/{study}", headers=kinds) as answer:
            _check(answer, "to send the study")
            with Parts(answer.headers.get("content-type", ""), station.folder / "arriving") as parts:
                for piece in answer.iter_bytes(_PIECE):
                    parts.feed(piece)
                    for _, part in parts.complete():
                        taken.append(take(station, part, who=who, expected=Expected(study=study), then=then))
                parts.finish()
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    reasons = [one.reason for one in taken if one.status != STORED]
    return Fetched(len(taken) - len(reasons), len(reasons), reasons[-1] if reasons else "")


def send(pacs: Pacs, files: Iterable[BinaryIO]) -> int:
    """Store objects in a PACS (STOW-RS); one that it has already is no error.

    Args:
        pacs: where to.
        files: DICOM files.

    Returns:
        How many it has.

    Raises:
        PeerError: it can't be reached, or did not take one of them.
    """
    boundary, count = secrets.token_hex(16), 0

    def body() -> Iterator[bytes]:
        nonlocal count
        for one in files:
            count += 1
            yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            while piece := one.read(_PIECE):
                yield piece
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
    }
    with _client(pacs) as client:
        answer = _asked(client, "POST", "/studies", "to store objects", content=body(), headers=headers)
    try:
        said = json.loads(answer.text) if answer.text.strip() else {}
        failed = said.get("00081198", {}).get("Value") or []
    except (ValueError, AttributeError) as error:
        raise PeerError("the PACS's answer to what was stored is not in DICOM's JSON") from error
    if failed:
        raise PeerError(f"the PACS did not take {len(failed)} of {count} objects")
    return count


def _asked(client: httpx.Client, method: str, path: str, what: str, **given: Any) -> httpx.Response:
    try:
        with client.stream(method, path, **given) as answer:
            _check(answer, what)
            content = b""
            for piece in answer.iter_bytes(_PIECE):
                content += piece
                if len(content) > _MOST_JSON:
                    raise PeerError(f"the PACS's answer to {what} is too large")
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    return httpx.Response(answer.status_code, content=content)


def _check(answer: httpx.Response, what: str) -> None:
    if answer.status_code == 404:
        raise PeerError("the PACS has no such study, or no DICOMweb at this address")
    if not answer.is_success:
        raise PeerError(f"the PACS refused {what} (HTTP status {answer.status_code})")


def _unreachable(error: httpx.HTTPError) -> StationError:
    return PeerError(f"the PACS's DICOMweb does not answer ({type(error).__name__}); is it running at that address?")
