"""The language model's commands as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command_line import hears_ctrl_c, medge

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

from medge.export.standin.medgemma_mini import IMAGE_TOKENS
from medge.runtime.assistants.health_record import read_record
from medge.runtime.device.cpu import usable_cores


def test_ask(reader: Path, pydicom_files: Path) -> None:
    ct = pydicom_files / "CT_small.dcm"
    said = medge("ask", reader, "What kind of image is this?", "--image", ct, "--limit", 8, "--context", 512).stdout
    facts = json.loads(
        medge(
            "ask", reader, "What kind of image is this?", "--image", ct, "--limit", 8, "--context", 512, "--json"
        ).stdout
    )
    assert facts["answer"] == said.strip()
    assert facts["stop"] == "end"
    series = medge("ask", reader, "What is it?", "--ct", ct, "--limit", 16, "--context", 512, "--json").stdout
    assert json.loads(series)["note"] == ""
    for form in ((), ("--json",)):
        cut = medge("ask", reader, "What kind of image is this?", "--limit", 1, "--context", 512, *form, code=3)
        assert "the limit of 1 tokens cut the answer off; raise --limit" in cut.stderr
    assert "not both" in medge("ask", reader, "x", "--ct", ct, "--image", ct, code=2).stderr


def test_messages_of_ask(reader: Path, bundle: Path, pydicom_files: Path, tmp_path: Path) -> None:
    assert "medge classify" in medge("ask", bundle, "Why?", code=1).stderr
    missing = medge("ask", reader, "Why?", "--image", tmp_path / "nowhere.png", "--context", 512, code=1).stderr
    assert "nowhere.png: No such file" in missing
    long = medge("ask", reader, "word " * 900, "--context", 512, code=1).stderr
    assert "more than the context of 512" in long
    huge = medge("ask", reader, "Why?", "--context", 2_000_000_000, code=1).stderr
    assert "does not fit into memory" in huge
    mr = pydicom_files / "MR_small.dcm"
    assert "not CT" in medge("ask", reader, "Why?", "--ct", mr, "--context", 512, "--limit", 64, code=1).stderr


@pytest.mark.parametrize("words", [("ask", " ", "--ct", "series"), ("ask", ""), ("record", "x.json", "")])
def test_an_empty_question_is_refused(tiny_reader: Path, words: tuple[str, ...]) -> None:
    asked = (words[0], tiny_reader, *words[1:], "--allow-failed-parity", "--context", 512)
    assert "the question is empty" in medge(*asked, code=1).stderr


def test_report_and_record(reader: Path, pydicom_files: Path, shared: Path, tmp_path: Path) -> None:
    ct = pydicom_files / "CT_small.dcm"
    written = medge("report", reader, ct, "--limit", 200, "--context", 512, "--json", code=None)
    body = json.loads(written.stdout)
    assert set(body) == {"schema_version", "bundle", "template", "findings", "impression", "stop"}
    assert written.returncode == (0 if body["stop"] == "end" else 3)
    short = medge("report", reader, ct, "--limit", 5, "--context", 512, code=3)
    assert "the limit of 5 tokens cut the report off; raise --limit" in short.stderr
    words = "word " * (196 - IMAGE_TOKENS)  # most of the context
    full = medge("report", reader, ct, "--clinical", words, "--limit", 200, "--context", 256, "--json", code=3)
    assert json.loads(full.stdout)["stop"] == "context"
    assert "the context is full, so the report was cut off; give a longer --context" in full.stderr
    fhir = sorted((shared / "fhir").glob("*.json"))[0]
    recorded = medge("record", reader, fhir, "Which medicines?", "--context", 1024, "--json", code=None)
    answer, lines = json.loads(recorded.stdout), read_record(fhir).lines
    assert 0 < answer["lines_shown"] < answer["lines"] == len(lines)  # the record is longer than the context
    assert set(answer["sources"]) <= {line.resource for line in lines}
    assert recorded.returncode == (0 if answer["stop"] == "end" else 3)
    (tmp_path / "x.json").write_text("{}")
    assert "not FHIR (resourceType None)" in medge("record", reader, tmp_path / "x.json", "Why?", code=1).stderr


def test_chat_goes_on_after_a_mistake(reader: Path, pydicom_files: Path) -> None:
    said = f"what kind of image is @{pydicom_files / 'CT_small.dcm'}?\nand @/nowhere.png?\n/new\nhello\n/quit\n"
    done = medge("chat", reader, "--limit", 4, "--context", 512, said=said)
    assert "nowhere.png: No such file" in done.stderr
    assert done.stdout.count("> ") >= 4


def test_doctor_inspect_verify_bench(reader: Path, tmp_path: Path) -> None:
    facts = json.loads(medge("doctor", reader, "--json").stdout)
    assert facts["results"][0]["fits"]
    assert facts["device"]["cores"] == usable_cores()
    assert "does not fit" in medge("doctor", reader, "--context", 2_000_000_000, code=1).stdout
    beside = json.loads(medge("doctor", reader, "--phones", "--context", 1024, "--json").stdout)["results"][0]
    assert [(one["memory_gb"], one["fit"]) for one in beside["phones"]] == [
        (size, "in memory") for size in (3, 4, 6, 8)
    ]
    report = json.loads((reader / "parity.json").read_text())
    assert beside["losses"]["text.kld.mean"] == report["figures"]["text"]["kld"]["mean"]
    assert beside["parity"] == report["status"]
    shown = " ".join(medge("doctor", reader, "--phones").stdout.split())
    assert "3 GB: fits" in shown
    assert "[green]" not in shown  # mark-up is off, so that names are shown as they are
    assert f"KL div. {beside['losses']['text.kld.mean']:.3f}" in shown
    assert f"{IMAGE_TOKENS} tokens" in medge("inspect", reader).stdout
    assert json.loads(medge("verify", reader, "--json").stdout)["holds"]
    speed = json.loads(medge("bench", reader, "--rounds", 1, "--json").stdout)["results"][0]
    timed = {"cold_start_seconds", "prefill_tokens_per_second", "tokens_per_second", "first_question_seconds",
             "second_question_seconds", "peak_bytes"}  # fmt: skip
    assert timed <= {name for name, value in speed.items() if isinstance(value, int | float) and value > 0}
    copy = Path(shutil.copytree(reader, tmp_path / "copy"))
    projector = next(copy.glob("mmproj-*.gguf"))
    data = bytearray(projector.read_bytes())
    data[len(data) // 2] ^= 1
    projector.write_bytes(data)
    assert "was changed" in medge("verify", copy, code=1).stderr


def test_ctrl_c_while_generating_is_one_line(reader: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "medge",
        "ask",
        str(reader),
        "Once upon a time",
        "--limit",
        "100000",
        "--temperature",
        "1",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=hears_ctrl_c,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.read(1)  # it has begun to answer
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (130, 0)  # 0: the model had ended by itself just then
    assert "Traceback" not in said


def test_isolate_costs_one_question(tiny_reader: Path) -> None:
    """With --isolate, a crash of the model's process ends one answer of a conversation, and no more."""
    words = ("--isolate", "--allow-failed-parity", "--context", "512", "--temperature", "1", "--limit", "40")
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", "chat", str(tiny_reader), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("Why?\n")
        process.stdin.flush()
        while process.stdout.read(1) != ">":  # what the command says first
            pass
        assert len(process.stdout.read(2)) == 2  # a space, and the answer has begun
        [model] = psutil.Process(process.pid).children()
        model.send_signal(signal.SIGSEGV)
        told, said = process.communicate("And now?\n/quit\n", timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "the language model's process broke down (SIGSEGV" in said
    assert len(told.partition("> ")[2].strip()) > 1  # the second question was answered


def test_export_and_calibrate(tiny_gemma: Path, checkpoint: Path, few_images: Path, tmp_path: Path) -> None:
    matrix = tmp_path / "m.gguf"
    texts = tmp_path / "t.txt"
    texts.write_text("The heart is normal in size. " * 60)
    facts = json.loads(medge("calibrate", "--checkpoint", tiny_gemma, "--out", matrix, texts, "--json").stdout)
    assert facts["chunks"] >= 1
    assert facts["failed"] == []
    out = tmp_path / "bundle"
    made = medge("export", "medgemma", "--checkpoint", tiny_gemma, "--out", out, "--recipe", "q4_0", "--importance", matrix,
                 "--skip-parity", "--json")  # fmt: skip
    assert json.loads(made.stdout)["results"][0]["parity"] == {"gguf": None}
    assert (out / "Modelfile").read_text().startswith("FROM ./")
    assert "not measured" in medge("ask", out, "Why?", code=1).stderr
    again = ("export", "medgemma", "--checkpoint", tiny_gemma, "--out", out)
    assert "exists" in medge(*again, code=1).stderr
    for words, reason in (
        (("--recipe", "q7"), "there is no recipe 'q7'"),
        (("--target-size", "1 parsec"), "is no size"),
        (("--recipe", "f16", "--target-size", "1GB"), "start from q4_k_m"),
        (("--recipe", "small-3.0", "--target-size", "1GB"), "both say how large the file will be"),
        (("--recipe", "small-3.0"), "types below four bits need rows of a multiple of 256 values"),
        (("--recipe", "iq2_xs", "--without-importance"), "can't be made without an importance matrix"),
        (("--calibration", tmp_path / "gone"), "No such file"),
        (("--without-importance", "--importance", matrix), "leaves nothing"),
    ):
        other = ("export", "medgemma", "--checkpoint", tiny_gemma, "--out", tmp_path / "never")
        assert reason in medge(*other, *words, code=1).stderr
    wrong = medge("export", "medgemma", "--checkpoint", checkpoint, "--out", tmp_path / "never", code=1)
    assert "expected 'gemma3'" in wrong.stderr
    assert not (tmp_path / "never").exists()
    assert not list(tmp_path.glob(".never*"))
