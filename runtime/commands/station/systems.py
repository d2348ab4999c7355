"""`medge station connect|find|fetch`: the clinic's PACS and record system."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...console.options import JsonOption
from ...console.terminal import out, print_json, printable
from .stores import StoreArgument, command_user, station_at

if TYPE_CHECKING:
    from ...station.dicom.asked import Pacs
    from ...station.station import Station

NONE = "none"
NOT_SET = "not set"
_TOKENS = {"pacs": "MEDGE_PACS_TOKEN", "fhir": "MEDGE_FHIR_TOKEN"}  # never on a command line, which others can read
PacsOption = Annotated[
    str | None,
    typer.Option(help="TITLE@host:port, or the address of its DICOMweb; 'none' for no PACS.", show_default="as it is"),
]
FhirOption = Annotated[
    str | None,
    typer.Option(help="A folder, or the address of a FHIR server; 'none' for neither.", show_default="as it is"),
]


def connect(
    store: StoreArgument,
    pacs: PacsOption = None,
    fhir: FhirOption = None,
    ours: Annotated[str, typer.Option(help="How this station calls itself to the PACS.")] = "MEDGE",
    institution: Annotated[
        str | None, typer.Option(help="The clinic's name, for reports.", show_default="as it is")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of reports: en, fr, es, pt or sw.", show_default="as it is")
    ] = None,
    drafts: Annotated[
        bool | None,
        typer.Option("--drafts/--no-drafts", help="Whether unsigned reports may go out.", show_default="as it is"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say where released reports go: to a PACS as structured report and PDF, to a record system as FHIR. Tokens are read from
    MEDGE_PACS_TOKEN and MEDGE_FHIR_TOKEN. Without an option it prints what stands.

    Example: medge station connect clinic --pacs ORTHANC@192.168.1.9:4242 --fhir /srv/fhir --language fr
    """
    from ...errors import StationError
    from ...station.delivery.words import LANGUAGES

    if language is not None and language not in LANGUAGES:
        raise StationError(f"{language!r} is none of the languages {', '.join(LANGUAGES)}")
    changes: dict[str, Any] = {}
    if pacs is not None:
        changes["pacs"] = _pacs_setting(pacs, ours)
    if fhir is not None:
        changes["fhir"] = _fhir_setting(fhir)
    given = {"institution": institution, "language": language, "deliver_unsigned": drafts}
    changes |= {key: value for key, value in given.items() if value is not None}
    with station_at(store) as station:
        for key, value in changes.items():
            station.set(key, value, who=command_user())
        found = {key: station.setting(key) for key in ("pacs", "fhir", *given)}
    for key in _TOKENS:
        if isinstance(found[key], dict) and found[key].get("token"):
            found[key] = {**found[key], "token": "(set)"}
    if as_json:
        print_json(found)
    else:
        for what, value in _told(found).items():
            out.print(f"{what}: {value}", soft_wrap=True)


def _told(found: dict[str, Any]) -> dict[str, str]:
    """The settings in words."""
    return {
        "PACS": _pacs_in_words(found["pacs"]), "FHIR": _fhir_in_words(found["fhir"]),
        "institution": found["institution"] or NOT_SET, "language of reports": found["language"] or NOT_SET,
        "reports go out": "also unsigned" if found["deliver_unsigned"] else "once they are signed",
    }  # fmt: skip


def _pacs_in_words(pacs: dict[str, Any] | None) -> str:
    if not pacs:
        return NOT_SET
    if "web" in pacs:
        return f"{pacs['web']}{_with_token(pacs)}"
    return f"{pacs['title']} at {pacs['host']}:{pacs['port']}, which knows this station as {pacs['ours']}"


def _fhir_in_words(fhir: dict[str, Any] | None) -> str:
    if not fhir:
        return NOT_SET
    return str(fhir["folder"]) if "folder" in fhir else f"{fhir['url']}{_with_token(fhir)}"


def _with_token(setting: dict[str, Any]) -> str:
    return ", with a token" if setting.get("token") else ""


def _pacs_setting(written: str, ours: str) -> dict[str, Any] | None:
    """The setting "pacs" as it is written on a command line."""
    from ...errors import StationError
    from ...station.dicom.asked import Pacs

    if written == NONE:
        return None
    if "://" in written:
        made: dict[str, Any] = {"web": written, "ours": ours, "token": os.environ.get(_TOKENS["pacs"], "")}
    else:
        title, sign, place = written.rpartition("@")
        host, colon, port = place.rpartition(":")
        if not (sign and colon):
            raise StationError(f"{written!r} names no PACS; write TITLE@host:port, or the address of its DICOMweb")
        made = {"title": title, "host": host.strip("[]"), "port": port, "ours": ours}
    Pacs.of(made)
    return made


def _fhir_setting(written: str) -> dict[str, str] | None:
    if written == NONE:
        return None
    if "://" in written:
        from ...errors import StationError

        if not written.startswith(("http://", "https://")):
            raise StationError("the FHIR server's address begins with http:// or https://")
        return {"url": written, "token": os.environ.get(_TOKENS["fhir"], "")}
    return {"folder": str(Path(written).absolute())}


def find(
    store: StoreArgument,
    name: Annotated[str, typer.Option(help="The patient's; * stands for any letters.", show_default="all")] = "",
    number: Annotated[str, typer.Option(help="The patient's.", show_default="all")] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.", show_default="all")] = "",
    modality: Annotated[str, typer.Option(help="Such as CT.", show_default="all")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many studies at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Search the PACS for studies.

    Example: medge station find clinic --name "Diallo*" --date 20260101-
    """
    from ...station.dicom import pacs, web
    from ...station.dicom.asked import Sought

    sought = Sought(patient_name=name, patient_id=number, date=date, modality=modality, limit=limit)
    with station_at(store) as station:
        at = _connected(station)
    found = (web if at.web else pacs).find(at, sought)
    if as_json:
        print_json({"studies": [asdict(one) for one in found]})
        return
    if not found:
        out.print("no such study")
    for one in found:
        objects = f"{one.instances} object{'s' * (one.instances != 1)}" if one.instances else ""
        facts = (one.patient_name, one.patient_id, one.date, " ".join(one.modalities), one.description, objects)
        out.print(", ".join(filter(None, facts)), soft_wrap=True)
        out.print(f"    {one.uid}", soft_wrap=True)  # a line of its own, to be copied


def fetch(
    store: StoreArgument,
    studies: Annotated[list[str], typer.Argument(help="Study Instance UIDs, as find lists them.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Fetch studies from the PACS into the station, which judges them.

    Example: medge station fetch clinic 1.2.840.113619.2.1
    """
    from ...errors import StationError
    from ...station.dicom import pacs, web
    from ...station.reading.intake import jobs_for

    told: list[dict[str, Any]] = []
    with station_at(store) as station:
        at = _connected(station)
        for study in studies:
            got = (web if at.web else pacs).fetch(at, study, station, jobs_for)
            told.append({"study": study, **asdict(got)})
            if not as_json:
                out.print(f"{printable(study)}: {got.stored} objects stored, {got.failed} failed", soft_wrap=True)
    if as_json:
        print_json({"fetched": told})
    if lost := [one for one in told if one["failed"]]:
        raise StationError(f"{lost[-1]['failed']} objects of a study are missing: {lost[-1]['reason']}")


def _connected(station: Station) -> Pacs:
    from ...errors import StationError
    from ...station.dicom.asked import Pacs

    found = Pacs.of(station.setting("pacs"))
    if found is None:
        raise StationError("the station knows no PACS; say where it is with medge station connect --pacs")
    return found
