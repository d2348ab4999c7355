"""A study with a report, as it leaves a station."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from medge.runtime.station.delivery.facts import Facts, Finding, Machine, SignedReport
from medge.runtime.station.store.records import Study

# One sentence with the accents of each language.
SENTENCES = {
    "en": "Naïve reading – “no effusion”, 5 mm ± 1.",
    "fr": "Opacité à droite, œdème, été, où, ça, naïf, aiguë, ÉTÉ.",
    "es": "Niño: ¿opacidad? ¡Sí! Región, pulmón, vergüenza.",
    "pt": "Não há lesão; coração, ângulo, avô, à direita, ÕÃÇ.",
    "sw": "Ng'ombe — mapafu hayana maji; ng’ombe.",
}
REPORT = "Findings:\n{}\n\nImpression:\nPneumonia."


@functools.cache
def ct_header() -> Dataset:
    """Of a real CT image."""
    return dcmread(Path(get_testdata_file("CT_small.dcm")), stop_before_pixels=True)


def facts(language: str = "en", **changes: Any) -> Facts:
    header = ct_header()
    uid = str(header.SOPInstanceUID)
    study = Study(str(header.StudyInstanceUID), "Roe^Zoë", "P1", "19700102", "F", "20260103", "", "A1", "Thorax", 1.8e9)
    report = SignedReport(
        study.uid,
        3,
        REPORT.format(SENTENCES[language]),
        "ann",
        "reader",
        "Zoë Müller",
        1.8e9 + 60,
        1.8e9 + 90,
        language,
    )
    findings = (Finding("pneumonia", 0.87341, "present", uid), Finding("head MRI", 0.01, "absent", uid))
    made = Facts(
        study, (), findings, 0, report, Machine("0.1.0", "eyes", "ab" * 32, "passed", "int8"), "Clinique d'Été"
    )
    return replace(made, **changes)


def unsigned(made: Facts) -> Facts:
    return replace(made, report=SignedReport(made.study.uid, 1, made.report.text, "station", "reader"))
