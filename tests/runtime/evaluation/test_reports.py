"""Reports: their sections, the layouts in which they are downloaded, and figures of words. All texts here are invented."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from medge.runtime.errors import MissingExtraError, TaskError
from medge.runtime.evaluation.answers import reports
from medge.runtime.evaluation.compare import compare_reports
from medge.runtime.evaluation.items import FoundQuestions, ReportItem
from medge.runtime.evaluation.layouts.report_sections import sections_of
from medge.runtime.evaluation.layouts.reports import IUReports
from medge.runtime.evaluation.task import NamedQuestions, read_task

USUAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old man with cough  // pneumonia?

 COMPARISON:  Radiographs from ___.

 FINDINGS:

 The lungs are clear.  The heart is of normal size:  no
 effusion is seen.

 IMPRESSION:

 No acute process.
"""


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (USUAL, {"findings": "The lungs are clear. The heart is of normal size: no effusion is seen.",
                 "impression": "No acute process."}),
        ("FINDINGS:  A small effusion.\nNOTIFICATION:  Told by phone at 5:12 p.m.", {"findings": "A small effusion."}),
        ("Findings: Clear lungs.\n\nConclusion: Normal.", {"findings": "Clear lungs.", "impression": "Normal."}),
        ("FINDINGS AND IMPRESSION:\n Stable.", {"findings": "Stable."}),
        ("FINDINGS/IMPRESSION: Stable.", {"findings": "Stable."}),
        ("COMPARISON: None. FINDINGS: Clear. IMPRESSION: Normal.", {"findings": "Clear.", "impression": "Normal."}),
        (" WET READ: ___ ___ ___ 5:02 AM\n FINDINGS: an old reading.\n ______\n                FINAL REPORT\n FINDINGS: Clear.",
         {"findings": "Clear."}),
        ("FINDINGS: Clear.\n\n                 FINAL ADDENDUM\n FINDINGS were called to Dr. ___.", {"findings": "Clear."}),
        ("IMPRESSION\n Normal.\n", {"impression": "Normal."}),
        (" PA AND LATERAL CHEST:\n The lungs are clear.\n\n IMPRESSION:  Normal.", {"impression": "Normal."}),
        ("AP CHEST, 5:54 A.M., ON ___\n\n IMPRESSION:  AP chest compared to ___, 5:54 a.m.: unchanged.",
         {"impression": "AP chest compared to ___, 5:54 a.m.: unchanged."}),
        ("FINDINGS: Lungs clear.\n FINDINGS: Bones intact.", {"findings": "Lungs clear. Bones intact."}),
        ("FINDINGS:\n\nIMPRESSION: Normal.", {"impression": "Normal."}),
        ("FINDINGS: No change. No new findings: stable.", {"findings": "No change. No new findings: stable."}),
        ("FINDINGS: Clear.\n\n RECOMMENDATION(S): CT of the chest.", {"findings": "Clear."}),
        ("FINDINGS: Clear.\n DICTATED BY: ___", {"findings": "Clear."}),
        ("FINDINGS:\n LUNGS:  Clear.\n HEART:  Normal.\nTECHNIQUE: AP.", {"findings": "LUNGS: Clear. HEART: Normal."}),
        ("FINDINGS: One.\n FINAL REPORT\n FINDINGS: Two.\n FINAL REPORT\n FINDINGS: Three.", {"findings": "Three."}),
        ("FINDINGS: One.\n FINAL REPORT\n", {"findings": "One."}),
        ("The lungs are clear. No effusion.", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_sections(text: str, sections: dict[str, str]) -> None:
    assert sections_of(text) == sections
    assert sections_of(text.replace("\n", "\r\n")) == sections


SPLIT = """dicom_id,study_id,subject_id,split
a1,50000001,10000001,test
a2,50000001,10000001,test
b1,50000002,10000001,test
c1,50000003,10000002,test
d1,50000004,10000002,test
e1,50000005,10000003,train
"""
METADATA = """dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition
a1,10000001,50000001,CHEST (PA AND LAT),LATERAL
a2,10000001,50000001,CHEST (PA AND LAT),PA
b1,10000001,50000002,CHEST (PORTABLE AP),AP
c1,10000002,50000003,CHEST (PORTABLE AP),AP
d1,10000002,50000004,CHEST (LAT),LL
e1,10000003,50000005,CHEST (PORTABLE AP),AP
"""


def write_mimic(folder: Path, *, metadata: bool = True, root: str = "") -> None:
    """Five studies as they are downloaded: one with two films, one without findings, one of a side film only, one to train on."""
    (folder / "mimic-cxr-2.0.0-split.csv").write_text(SPLIT)
    if metadata:
        (folder / "mimic-cxr-2.0.0-metadata.csv").write_text(METADATA)
    for film, study, patient, ending in (
        ("a1", 50000001, 10000001, "jpg"), ("a2", 50000001, 10000001, "jpg"), ("b1", 50000002, 10000001, "dcm"),
        ("c1", 50000003, 10000002, "jpg"), ("d1", 50000004, 10000002, "jpg"), ("e1", 50000005, 10000003, "jpg"),
    ):  # fmt: skip
        place = folder / "files" / f"p{patient // 10**6}" / f"p{patient}"
        (place / f"s{study}").mkdir(parents=True, exist_ok=True)
        (place / f"s{study}" / f"{film}.{ending}").write_bytes(b"film")
        text = folder / root / place.relative_to(folder) / f"s{study}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("IMPRESSION: Normal." if film == "c1" else f" FINDINGS: Of study {study}.")


def found_in(folder: Path, task: str) -> FoundQuestions:
    named = read_task(task)
    assert isinstance(named, NamedQuestions)
    return named.layout.read(folder, named.name)


def reports_in(folder: Path, task: str) -> list[ReportItem]:
    return [one for one in found_in(folder, task).questions if isinstance(one, ReportItem)]


@pytest.mark.parametrize("root", ["", "mimic-cxr-reports"])
def test_mimic_cxr_as_it_is_downloaded(tmp_path: Path, root: str) -> None:
    write_mimic(tmp_path, root=root)
    first, second = reports_in(tmp_path, "mimic-cxr-reports")
    assert (first.key, first.group, first.image, first.report) == ("s50000001", "10000001", "a2", "Of study 50000001.")
    assert (second.key, second.image) == ("s50000002", "b1")
    assert first.open() == tmp_path / "files" / "p10" / "p10000001" / "s50000001" / "a2.jpg"
    assert found_in(tmp_path, "mimic-cxr-reports").left_out == {"without the section": 1, "without a frontal film": 1}


def test_without_views_the_first_film_is_shown(tmp_path: Path) -> None:
    write_mimic(tmp_path, metadata=False)
    assert [one.image for one in reports_in(tmp_path, "mimic-cxr-reports")] == ["a1", "b1", "d1"]


def test_what_lacks_is_counted_or_refused(tmp_path: Path) -> None:
    write_mimic(tmp_path)
    place = tmp_path / "files" / "p10" / "p10000001"
    (place / "s50000001" / "a2.jpg").unlink()
    assert [one.key for one in reports_in(tmp_path, "mimic-cxr-reports")] == ["s50000002"]
    assert found_in(tmp_path, "mimic-cxr-reports").left_out["image not in the folder"] == 1
    (place / "s50000002.txt").unlink()
    with pytest.raises(
        TaskError, match="1 image not in the folder, 1 report not in the folder, 1 without a frontal film"
    ):
        found_in(tmp_path, "mimic-cxr-reports")
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,split\na1,50000001,test\n")
    with pytest.raises(TaskError, match="no column 'subject_id'"):
        found_in(tmp_path, "mimic-cxr-reports")


def iu_report(findings: str, *images: str) -> str:
    shown = "".join(f'<parentImage id="{name}"><panel type="single"/></parentImage>' for name in images)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<eCitation><MedlineCitation><Article><Abstract>'
        f'<AbstractText Label="INDICATION">Cough.</AbstractText><AbstractText Label="FINDINGS">{findings}</AbstractText>'
        f"</Abstract></Article></MedlineCitation>{shown}</eCitation>"
    )


def test_indiana_s_films_as_they_are_downloaded(tmp_path: Path) -> None:
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "png").mkdir()
    for name, text in (
        ("1", iu_report("The lungs are\n clear.", "CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
        ("2", iu_report("", "CXR2_IM-0652-1001")),
        ("3", iu_report("An effusion.", "CXR3_IM-1384-1001")),
    ):
        (tmp_path / "ecgen-radiology" / f"{name}.xml").write_text(text)
    (tmp_path / "png" / "CXR1_1_IM-0001-4001.png").write_bytes(b"film")
    [one] = reports_in(tmp_path, "iu-xray")
    assert (one.key, one.group, one.image, one.report) == (
        "CXR1", "CXR1", "CXR1_1_IM-0001-4001", "The lungs are clear."
    )  # fmt: skip
    assert found_in(tmp_path, "iu-xray").left_out == {"without the section": 1, "image not in the folder": 1}
    (tmp_path / "ecgen-radiology" / "3.xml").write_text("<eCitation>")
    with pytest.raises(TaskError, match=r"3\.xml: is no report in XML"):
        found_in(tmp_path, "iu-xray")


def test_indiana_s_real_reports(shared: Path, tmp_path: Path) -> None:
    """The shared data have the reports without their films: a file with the name of one stands in for each."""
    with tarfile.open(shared / "iu_xray" / "reports.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:60]
        archive.extractall(tmp_path, members, filter="data")
    for path in (tmp_path / "ecgen-radiology").iterdir():
        if 'id="' in (text := path.read_text()).partition("<parentImage")[2]:
            name = text.partition('<parentImage id="')[2].partition('"')[0]
            (tmp_path / f"{name}.png").write_bytes(b"")
    found = reports_in(tmp_path, "iu-xray")
    assert len(found) + sum(found_in(tmp_path, "iu-xray").left_out.values()) == 60
    assert len(found) > 40
    one = next(one for one in found if one.key == "CXR1000")
    assert one.report.startswith("There is XXXX increased opacity within the right upper lobe")
    impression = IUReports("impression").read(tmp_path, "iu-xray").questions
    assert any(isinstance(two, ReportItem) and two.key == one.key and two.report != one.report for two in impression)


ROWS = [
    {"label": "The lungs are clear. There is no pleural effusion.", "answer": "The lungs are clear. No pleural effusion is seen.",
     "group": "a"},
    {"label": "A small left effusion has grown since the last film.", "answer": "There is a small left effusion.", "group": "a"},
    {"label": "The heart is enlarged. No pneumothorax.", "answer": "", "group": "b"},
]  # fmt: skip


def test_figures_are_those_of_sacrebleu() -> None:
    metrics = pytest.importorskip(
        "sacrebleu.metrics", reason="sacrebleu is not installed: pip install 'medge[reports]'"
    )
    rows = [{**row, **reports.scores_of(row["answer"], row["label"])} for row in ROWS]
    found = reports.figures_of_reports(rows)["figures"]
    said, right = ([row[name] for row in ROWS] for name in ("answer", "label"))
    bleu = metrics.BLEU(lowercase=True, smooth_method="none").corpus_score(said, [right]).score / 100
    assert found["bleu"]["value"] == pytest.approx(bleu)
    assert 0 <= found["bleu"]["low"] <= bleu <= found["bleu"]["high"]
    chrf = [
        metrics.CHRF(lowercase=True).sentence_score(*pair).score / 100
        for pair in zip(said, [[one] for one in right], strict=True)
    ]
    assert found["chrf"]["value"] == pytest.approx(np.mean(chrf), abs=1e-6)
    assert rows[2]["chrf"] == rows[2]["f1"] == 0
    same = [{**row, "answer": row["label"].upper(), **reports.scores_of(row["label"], row["label"])} for row in ROWS]
    assert reports.figures_of_reports(same)["figures"]["bleu"]["value"] == pytest.approx(1)
    apart = compare_reports(rows, same)
    assert apart["figures"]["bleu"]["value"] == pytest.approx(1 - bleu)
    assert apart["figures"]["chrf"]["low"] <= 1 - np.mean(chrf) <= apart["figures"]["chrf"]["high"]


def test_without_sacrebleu_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"medge\[reports\]"):
        reports.figures_of_reports(ROWS)
