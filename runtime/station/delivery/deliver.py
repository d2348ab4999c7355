"""`deliver`: a study's results and its report go back to the clinic's own systems.

Settings of the station: "pacs" (see `dicom.asked.Pacs`), "fhir" ({"folder": ...} or {"url": ..., "token": ...}), "institution",
"language" of reports, and "deliver_unsigned", without which nothing unsigned leaves the station.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset

from ...errors import MedgeError, StationError
from ...pictures.dicom_header import read_header
from ..dicom import pacs, web
from ..dicom.asked import Pacs
from ..models.catalogue import Catalogue
from ..reading.intake import DELIVER
from ..station import Station
from ..store.records import Instance, Received, Result
from ..work.worker import Task
from .facts import Facts, Image, Machine, SignedReport, findings_of, manifest_hash
from .fhir import fhir_bundle, name_of, to_folder, to_server
from .marks import sr_series
from .pdf import encapsulated, pdf, pdf_series

WHO = "station"  # in the audit log
_STEPS = 4


class Deliverer:
    """Delivers studies.

    Args:
        station: which holds them.
        report_of: a study's report as it may leave the station; None where there is none.
        version: of medge.
        catalogue: with the bundles, for their hashes; None where they are not at hand.
    """

    def __init__(
        self, station: Station, report_of: Callable[[str], SignedReport | None], version: str,
        catalogue: Catalogue | None = None,
    ) -> None:  # fmt: skip
        self._station, self._report_of, self._version, self._catalogue = station, report_of, version, catalogue

    def deliver(self, task: Task) -> dict[str, Any]:
        """The handler of `deliver`; the job's payload is {"study": UID}. Done twice, it makes the same objects.

        Returns:
            {"version", "signed", "sr": UID, "pdf": UID, "fhir": id, "sent": ["pacs", "fhir"]}; "" of what was not made.

        Raises:
            StationError: there is no such study, or no report that may leave the station.
            PeerError: a system that it goes to can't be reached, or refused.
        """
        study = str((task.job.payload or {}).get("study") or task.job.study or "")
        task.progress("reading", 0, _STEPS)
        facts, earlier = self.facts(study)
        headers = self._headers(facts)
        task.progress("writing", 1, _STEPS)
        document = pdf(facts)
        made = self._stored(facts, document, headers) if headers else []
        sr, of_pdf = ([""] * 2 + [one.instance.uid for one in made])[-2:]
        transaction = fhir_bundle(replace(facts, amends=bool(earlier)), document, sr)
        task.progress("sending", 2, _STEPS)
        sent, failures = [], []
        for name, send in self._ways(made, transaction):
            try:
                send()
                sent.append(name)
            except MedgeError as error:
                failures.append(str(error))
            task.progress("sending", 3, _STEPS)
        if failures:
            raise StationError("; ".join(failures))
        report = facts.report
        told = {"version": report.version, "signed": report.signed, "sr": sr, "pdf": of_pdf}
        self._station.note(WHO, "delivered", study, {**told, "sent": sent, "bundle": facts.machine.bundle})
        return {**told, "fhir": name_of(transaction), "sent": sent}

    def facts(self, uid: str) -> tuple[Facts, list[Result]]:
        """All that is delivered about a study, and what was delivered before of other versions.

        Raises:
            StationError: there is no such study, or no report that may leave the station.
        """
        study = self._station.study(uid)
        if study is None:
            raise StationError("the study is not in the station")
        report = self._report_of(uid)
        if report is None:
            raise StationError("the study has no report; nothing was sent")
        if not report.signed and not self._station.setting("deliver_unsigned", False):
            raise StationError("no person has signed the report; nothing was sent")
        results = self._station.results(uid)
        findings, reduced, newest = findings_of(results)
        earlier = [one for one in results if one.kind == DELIVER and one.content.get("version") != report.version]
        language = str(self._station.setting("language", report.language))
        facts = Facts(
            study, tuple(self._images(uid)), findings, reduced, replace(report, language=language),
            self._machine(newest), str(self._station.setting("institution", "")),
        )  # fmt: skip
        return facts, earlier

    def _machine(self, newest: Any) -> Machine:
        bundle = str(newest.get("model", ""))
        entry = None if self._catalogue is None else self._catalogue.entries.get(bundle)
        recipe = ", ".join(sorted({str(one) for one in dict(newest.get("recipes") or {}).values()}))
        sha256 = str(newest.get("sha256") or ("" if entry is None else manifest_hash(entry.folder)))
        return Machine(self._version, bundle, sha256, str(newest.get("parity", "")), recipe)

    def _images(self, uid: str) -> Iterable[Image]:
        ours = {sr_series(uid), pdf_series(uid)}
        for series in self._station.series(uid):
            for one in self._station.instances(series.uid):
                if series.uid not in ours and (one.kind != "dicom" or one.rows is not None):
                    yield Image(one.uid, series.uid, one.sop_class, one.frames)

    def _headers(self, facts: Facts) -> list[Dataset]:
        """Headers of the study's DICOM images; those that can't be read are left out."""
        found: list[Dataset] = []
        for image in facts.images:
            instance = self._station.instance(image.instance)
            if instance is not None and instance.kind == "dicom":
                with contextlib.suppress(MedgeError):
                    found.append(self._header(instance))
        return found

    def _header(self, instance: Instance) -> Dataset:
        with self._station.read(instance) as stream:
            return read_header(stream, "an image of the study", None)

    def _stored(self, facts: Facts, document: bytes, headers: list[Dataset]) -> list[Received]:
        """The structured report, where it can be made, and the PDF, stored in the station."""
        before = self._station.instances(sr_series(facts.study.uid))
        older = [one for one in before if (one.number or 0) < facts.report.version][-1:]
        try:
            files = [encapsulated(facts, document, headers)]
            if importlib.util.find_spec("highdicom") is not None:  # what it needs has no wheel for Python 3.14
                from .structured_report import structured_report

                files.insert(0, structured_report(facts, headers, [self._header(one) for one in older]))
        except MedgeError:
            raise
        except Exception as error:  # headers that break the standard's rules
            raise StationError(
                f"no DICOM object can be made of the headers of this study's images ({type(error).__name__})"
            ) from error
        return [self._station.put(one, who=WHO) for one in files]

    def _ways(self, made: list[Received], transaction: dict[str, Any]) -> Iterable[tuple[str, Callable[[], object]]]:
        """Where it goes: (name, what sends it)."""
        at = Pacs.of(self._station.setting("pacs"))
        if at is not None and made:
            yield "pacs", lambda: self._to_pacs(at, made)
        fhir = self._station.setting("fhir") or {}
        if folder := fhir.get("folder"):
            yield "fhir", lambda: to_folder(transaction, Path(str(folder)))
        if url := fhir.get("url"):
            yield "fhir", lambda: to_server(transaction, str(url), fhir.get("token"))

    def _to_pacs(self, at: Pacs, made: list[Received]) -> None:
        with contextlib.ExitStack() as stack:
            files: list[BinaryIO] = [stack.enter_context(self._station.read(one.instance)) for one in made]
            (web if at.web else pacs).send(at, files)
