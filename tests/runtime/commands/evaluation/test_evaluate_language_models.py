"""`medge evaluate` of language models: findings, records and reports, with one that answers from a list, and with a real one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from command_line import medge
from PIL import Image

from medge.runtime.bundles.manifest import sha256_file
from medge.runtime.commands.evaluation.comparison.runs import compared_with, read_run
from medge.runtime.commands.evaluation.generator.findings import AskedFindings, evaluate_findings
from medge.runtime.commands.evaluation.generator.questions import AskedQuestions, QuestionMethod, evaluate_questions
from medge.runtime.commands.evaluation.given import Finished
from medge.runtime.commands.evaluation.subject import BundleModel
from medge.runtime.errors import ContextError, RecordError
from medge.runtime.evaluation.task import Named, NamedQuestions, read_task
from medge.runtime.generator.conversation import Answer, Sampling, Turn
from medge.runtime.generator.generator import Generator

FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
TASKS = Path(__file__).parents[4] / "runtime" / "evaluation" / "tasks"


class Listed:
    """Answers by a function of the image's brightness (-1 without one) and the prompt, and counts."""

    context = 4096

    def __init__(self, folder: Path, answer: Callable[[float, str], str]) -> None:
        (folder / "manifest.json").write_text("{}")
        manifest = SimpleNamespace(name="listed", status="passed", towers={})
        self.bundle = SimpleNamespace(folder=folder, manifest=manifest, tower_bytes=lambda tower: 0)
        self.asked: list[str] = []
        self._answer = answer

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def chat(self, turns: Sequence[Turn], sampling: Sampling, *, schema: dict[str, Any] | None = None) -> Answer:
        [turn] = turns
        image, text = turn.parts if len(turn.parts) == 2 else (None, turn.parts[0])
        self.asked.append(str(text))
        said = self._answer(-1.0 if image is None else float(np.asarray(image).mean()), str(text))
        if schema is not None:
            said = json.dumps({"answer": said, "sources": []})
        return Answer(said, "", "end", 0, 0, len(said.split()))


def listed(folder: Path, answer: Callable[[float, str], str]) -> Listed:
    folder.mkdir(parents=True, exist_ok=True)
    return Listed(folder, answer)


def given(data: Path, place: Path, **changed: Any) -> dict[str, Any]:
    return {
        "data": data, "place": place, "form": "csv", "limit": None, "seed": 0, "no_names": False, "force": False,
        "counts_memory": True, **changed,
    }  # fmt: skip


def findings(model: Listed, data: Path, place: Path, **changed: Any) -> Finished:
    named = read_task("chexpert")
    assert isinstance(named, Named)
    return evaluate_findings(
        BundleModel(cast(Generator, model)), AskedFindings(named=named, **given(data, place, **changed))
    )


def questions(
    model: Listed, task: str, method: QuestionMethod, data: Path, place: Path, **changed: Any
) -> Finished:  # fmt: skip
    named = read_task(task)
    assert isinstance(named, NamedQuestions)
    return evaluate_questions(
        BundleModel(cast(Generator, model)), AskedQuestions(named=named, method=method, **given(data, place, **changed))
    )


def rows_of(place: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((place / "items.csv").open(newline="")))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """CheXpert's valid.csv as it is handed out; of film n, its brightness is 10 n and findings hold by the bits of n."""
    data = tmp_path / "CheXpert"
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    lines = [",".join(columns)]
    for number in range(8):
        name = f"CheXpert-v1.0-small/valid/patient{64540 + number // 2}/study1/view{number % 2 + 1}_frontal.jpg"
        truth = ["1.0" if number >> bit & 1 else "0.0" for bit in range(4)] + [""]
        lines.append(",".join([name, "Female", "60", "Frontal", "AP", *truth]))
        path = tmp_path / name.replace("CheXpert-v1.0-small", "CheXpert")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 10 * number, np.uint8)).save(path)
    (data / "valid.csv").write_text("\n".join(lines))
    return data


def knows(brightness: float, text: str) -> str:
    """Right on every finding but edema, of which it says nothing, and consolidation, which it always sees."""
    number, finding = round(brightness / 10), next(name for name in FINDINGS if name.lower() in text)
    if finding == "Edema":
        return "It is hard to say."
    holds = finding == "Consolidation" or bool(number >> FINDINGS.index(finding) & 1)
    return "Yes, there is." if holds else "No."


def test_findings_are_asked_for(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = listed(tmp_path / "bundle", knows)
    done = findings(model, films, tmp_path / "run")
    assert len(model.asked) == 8 * 5
    assert model.asked[4] == (
        "Is there evidence of pleural effusion in this chest X-ray? Answer with yes or no, and nothing else."
    )
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert facts["task"]["method"] == "ask"
    assert facts["task"]["prompts"]["Edema"] == model.asked[3]
    assert facts["task"]["asked"].startswith("A question a finding")
    assert facts["items"]["evaluated"] == 8
    assert facts["items"]["groups"] == {"of": "patient", "count": 4}
    labels = facts["labels"]
    assert [labels[name]["f1"]["value"] for name in FINDINGS[:3]] == pytest.approx([1, 1, 2 * 4 / (4 + 8)])
    assert labels["Edema"]["unreadable"] == 8
    assert labels["Edema"]["specificity"]["value"] == 0  # of a finding that no film has, F1 says nothing
    assert labels["Edema"]["f1"]["value"] is labels["Pleural Effusion"]["f1"]["value"] is None
    assert facts["figures"]["macro_f1"]["value"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert "8 answers are neither yes nor no, and count as wrong: Edema (8)" in capsys.readouterr().err
    done.tell()
    told = capsys.readouterr().out
    assert "8 images of 4 patients" in told
    assert "macro F1" in told
    [row] = [row for row in rows_of(tmp_path / "run") if row["id"].endswith("patient64541/study1/view2_frontal.jpg")]
    assert (row["label"], row["answer"]) == ("Atelectasis|Cardiomegaly", "Atelectasis|Cardiomegaly|Consolidation")
    assert (row["said Edema"], row["true Edema"], row["group"]) == ("", "0", "patient64541")
    assert json.loads(row["text"])["Edema"] == "It is hard to say."


def test_an_interrupted_run_goes_on(films: Path, tmp_path: Path) -> None:
    calls = iter(range(100))

    def stops(brightness: float, text: str) -> str:
        if next(calls) == 12:  # within the third film
            raise KeyboardInterrupt
        return knows(brightness, text)

    with pytest.raises(KeyboardInterrupt):
        findings(listed(tmp_path / "bundle", stops), films, tmp_path / "run")
    again = listed(tmp_path / "bundle", knows)
    findings(again, films, tmp_path / "run")
    assert len(again.asked) == 6 * 5
    whole = listed(tmp_path / "bundle", knows)
    findings(whole, films, tmp_path / "whole")
    figures = [json.loads((tmp_path / name / "metrics.json").read_text())["labels"] for name in ("run", "whole")]
    assert figures[0] == figures[1]


def test_two_models_asked_for_findings_are_compared(films: Path, tmp_path: Path) -> None:
    findings(listed(tmp_path / "one", lambda *_: "no"), films, tmp_path / "no")
    findings(listed(tmp_path / "two", knows), films, tmp_path / "knows")
    first, second = read_run(tmp_path / "no"), read_run(tmp_path / "knows")
    assert first.metrics.task.headline == "macro_f1"
    found = compared_with(first, second)
    assert found["figures"]["macro_f1"]["value"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found["labels"]["Atelectasis"]["answers"]["wrong_to_right"] == 4


def test_names_of_films_are_hidden(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (films / "valid" / "patient64541" / "study1" / "view1_frontal.jpg").write_bytes(b"no picture")
    done = findings(listed(tmp_path / "bundle", knows), films, tmp_path / "run", no_names=True)
    assert len(done.many["failed"]) == 1
    said = capsys.readouterr().err + "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "patient6454" not in said
    assert "view1" not in said
    assert done.facts["items"]["unreadable"] == 1


PATIENT = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-02-03"}
WEIGHT = {
    "resourceType": "Observation", "id": "w", "status": "final", "effectiveDateTime": "2020-05-01",
    "code": {"text": "Body Weight"}, "valueQuantity": {"value": 83.498, "unit": "kg"},
}  # fmt: skip


def write_records(folder: Path) -> None:
    (folder / "fhir").mkdir(parents=True)
    for name in ("SECRET-a.json", "SECRET-b.json"):
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in (PATIENT, WEIGHT)]}
        (folder / "fhir" / name).write_text(json.dumps(bundle))
    entries = [
        {"record": "SECRET-a.json", "question": "When was the patient born?", "kind": "date", "answer": "1950-02-03"},
        {"record": "SECRET-b.json", "question": "When was the patient born?", "kind": "date", "answer": "1950-02-03"},
        {"record": "SECRET-a.json", "question": "How heavy?", "kind": "number", "answer": "83.498 kg"},
        {"record": "SECRET-a.json", "question": "Which vaccines?", "kind": "list", "answer": ["Td", "Influenza"]},
        {"record": "SECRET-a.json", "question": "long", "kind": "yes or no", "answer": "no"},
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, entries)))


def test_records_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path / "data")

    def reads(_: float, text: str) -> str:
        if "Question: long" in text:
            raise ContextError("too long")
        if "When was" in text:
            return text.partition("born ")[2][:10]  # from the line of the patient
        return text.partition("Body Weight: ")[2][:9] if "How heavy" in text else "Td"

    model = listed(tmp_path / "bundle", reads)
    done = questions(model, "fhir-questions", "record", tmp_path / "data", tmp_path / "run")
    assert all("Give the answer alone" in text for text in model.asked)
    rows = {row["id"]: row for row in rows_of(tmp_path / "run")}
    assert [rows[str(number)]["right"] for number in range(5)] == ["1", "1", "1", "0", "0"]
    assert float(rows["3"]["f1"]) == pytest.approx(2 / 3, abs=1e-6)
    assert (rows["0"]["lines_shown"], rows["0"]["lines"], rows["0"]["kind"]) == ("2", "2", "date")
    assert rows["4"]["stop"] == "too long"
    facts = done.facts
    assert facts["items"] == {"evaluated": 5, "in_the_data": 5, "left_out": {}, "cut_off": 0, "too_long": 1}
    assert facts["figures"]["accuracy"]["value"] == pytest.approx(3 / 5)
    assert facts["figures"]["list_f1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    kinds = facts["subgroups"]["kind"]
    assert {kind: found["count"] for kind, found in kinds.items()} == {
        "date": 2, "number": 1, "list": 1, "yes or no": 1
    }  # fmt: skip
    done.tell()
    assert "yes or no (1)" in capsys.readouterr().out
    found = compared_with(read_run(tmp_path / "run"), read_run(tmp_path / "run"))
    assert found["figures"]["accuracy"]["value"] == 0
    questions(model, "fhir-questions", "record", tmp_path / "data", tmp_path / "hidden", no_names=True)
    assert "SECRET" not in "".join(path.read_text() for path in (tmp_path / "hidden").iterdir())


def test_a_broken_record_is_told_before_any_question(tmp_path: Path) -> None:
    write_records(tmp_path / "data")
    (tmp_path / "data" / "fhir" / "SECRET-b.json").write_text("{}")
    model = listed(tmp_path / "bundle", lambda *_: "no")
    with pytest.raises(RecordError, match=r"SECRET-b\.json: not FHIR"):
        questions(model, "fhir-questions", "record", tmp_path / "data", tmp_path / "run")
    assert not model.asked


def test_reports_are_written(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: pip install 'medge[reports]'")
    data = tmp_path / "data"
    (data / "ecgen-radiology").mkdir(parents=True)
    texts = {1: "The lungs are clear without effusion.", 2: "The heart is large."}
    for number, text in texts.items():
        (data / "ecgen-radiology" / f"{number}.xml").write_text(
            f'<eCitation><AbstractText Label="FINDINGS">{text}</AbstractText><parentImage id="CXR{number}"/></eCitation>'
        )
        Image.fromarray(np.full((16, 16), 10 * number, np.uint8)).save(data / f"CXR{number}.png")
    model = listed(tmp_path / "bundle", lambda brightness, _: texts[1] if round(brightness) == 10 else "\nNormal.\n")
    done = questions(model, "iu-xray", "report", data, tmp_path / "run")
    first, second = rows_of(tmp_path / "run")
    assert (first["id"], first["group"], first["label"], first["answer"]) == ("CXR1", "CXR1", texts[1], texts[1])
    assert float(first["chrf"]) == float(first["f1"]) == 1
    assert (second["answer"], second["text"], float(second["f1"])) == ("Normal.", "\nNormal.\n", 0)
    assert set(done.facts["figures"]) == {"bleu", "chrf", "token_f1"}
    assert done.facts["figures"]["token_f1"]["value"] == pytest.approx(0.5)
    run = read_run(tmp_path / "run")
    assert run.metrics.task.headline == "bleu"
    assert compared_with(run, run)["figures"]["bleu"]["value"] == 0
    questions(model, "iu-xray", "report", data, tmp_path / "hidden", no_names=True)
    assert "CXR" not in "".join(path.read_text() for path in (tmp_path / "hidden").iterdir())


def test_with_a_real_model(tiny_reader: Path, films: Path, tmp_path: Path) -> None:
    """The tiny reader babbles: what is tested is that the command finds the way, asks, writes and counts."""
    words = ("evaluate", tiny_reader, "--allow-failed-parity", "--items", "csv", "--context", "1024")
    own = tmp_path / "brief.toml"
    own.write_text((TASKS / "chexpert.toml").read_text() + "limit = 2\n")
    done = medge(*words, "--task", own, "--data", films, "--limit", "2", "--out", tmp_path / "asked", "--json")
    facts = json.loads(done.stdout)
    assert facts["items"]["evaluated"] == 2
    assert all(int(float(row["tokens"])) <= 2 * len(FINDINGS) for row in rows_of(tmp_path / "asked"))
    unread = sum(found["unreadable"] for found in facts["labels"].values())
    said = [json.loads(row["text"]) for row in rows_of(tmp_path / "asked")]
    readable = sum("yes" in text.lower() or "no" in text.lower() for one in said for text in one.values())
    assert unread >= 2 * len(FINDINGS) - readable
    before = sha256_file(tmp_path / "asked" / "items.csv")
    again = medge(*words, "--task", own, "--data", films, "--limit", "2", "--out", tmp_path / "asked")
    assert "2 images, 2 done before" in again.stderr
    assert sha256_file(tmp_path / "asked" / "items.csv") == before
    refused = medge(*words, "--task", "ham10000", "--data", films, code=1).stderr
    assert "is a language model, and the task 'ham10000' has no prompt for one" in refused
    assert "'zero-shot' is no method of this task: ask" in medge(
        *words, "--task", "chexpert", "--data", films, "--method", "zero-shot", code=2
    ).stderr.replace("\n", " ").replace("│", "").replace("  ", " ")
    write_records(tmp_path / "data")
    brief = tmp_path / "records.toml"
    brief.write_text((TASKS / "fhir-questions.toml").read_text().replace("limit = 320", "limit = 8"))
    medge(*words, "--task", brief, "--data", tmp_path / "data", "--limit", "2", "--out", tmp_path / "records")
    rows = rows_of(tmp_path / "records")
    assert [float(row["lines_shown"]) for row in rows] == [2, 2]
    assert all(row["stop"] in ("end", "limit") and row["text"] for row in rows)
