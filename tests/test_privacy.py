"""No patient's name, number, birth date or file name in what commands write by themselves; no runtime sends anything, leaves
anything beside what was asked for, or needs a network."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import command_line
import pydicom
import pytest
from pydicom.dataset import Dataset
from watched import Watched, needs_strace

from medge.command_line import COMMANDS

PERSON = {
    "PatientName": "QUACKMARK^ZELDA", "PatientID": "PID-77313", "PatientBirthDate": "19310203", "OtherPatientIDs": "OID-88424",
    "AccessionNumber": "ACC-55919", "ReferringPhysicianName": "REFMARK^DOC", "PatientAddress": "MARKSTREET 9",
    "StudyDescription": "QUACKMARK ZELDA 19310203", "PatientComments": "QUACKMARK",
}  # fmt: skip
MARKS = ("QUACKMARK", "ZELDA", "PID-77313", "19310203", "1931-02-03", "OID-88424", "ACC-55919", "REFMARK", "MARKSTREET")
# It holds a door open, so a socket is what it is for: tests/runtime/station has tests of what goes through it.
OF_A_STATION = {"serve", "station"}
# What they load and do, others do as well: export and classify, embed and probe fit.
OF_OTHERS = {"demo", "calibrate-scores"}
FILE_MARK = (
    "FILMOFQUACK"  # in the files' names: allowed where results are asked for, and in the sentence about a broken file
)


def marked(source: Path) -> Dataset:
    film = pydicom.dcmread(source)
    for name, value in PERSON.items():
        setattr(film, name, value)
    return film


@pytest.fixture(scope="module")
def films(pydicom_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and broken DICOM files of a marked patient, two to a folder that is its label."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(("CT_small", "MR_small", "CT_small", "MR_small")):
        label = folder / f"label{number % 2}"
        label.mkdir(exist_ok=True)
        marked(pydicom_files / f"{name}.dcm").save_as(label / f"{FILE_MARK}-{number}.dcm")
    return folder


@pytest.fixture(scope="module")
def broken(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same film, damaged where libraries quote what they can't read."""
    folder = tmp_path_factory.mktemp("broken")
    whole = (films / "label0" / f"{FILE_MARK}-0.dcm").read_bytes()
    for cut in (140, 400, 900, 1500, len(whole) // 2, len(whole) - 1000):
        (folder / f"{FILE_MARK}-cut{cut}.dcm").write_bytes(whole[:cut])
    for name, old, new in (
        ("number", b"19310203", b"QUACKMA!"), ("charset", b"ISO_IR 100", b"QUACKMARK!"),
        ("vr", b"PN", b"XX"), ("spacing", b"0.661468\\", b"QUACKMAR\\"), ("rows", b"\x28\x00\x10\x00US\x02\x00\x80\x00",
         b"\x28\x00\x10\x00US\x02\x00\x81\x00"),
    ):  # fmt: skip
        (folder / f"{FILE_MARK}-{name}.dcm").write_bytes(whole.replace(old, new))
    return folder


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes().decode("utf-8", "replace")


def marks_in(text: str) -> list[str]:
    return [mark for mark in MARKS if mark in text]


def commands(bundle: Path, reader: Path, films: Path, out: Path) -> list[list[object]]:
    """Every command that looks at images, over films."""
    film, unmeasured = next(films.rglob("*.dcm")), ["--allow-failed-parity", "--context", 512, "--limit", 4]
    return [
        ["classify", bundle, films, "--out", out / "r.jsonl"], ["classify", bundle, films, "--json"],
        ["embed", bundle, films, "--out", out / "e.safetensors"],
        ["index", "build", bundle, out / "a.index", films],
        ["index", "search", bundle, out / "a.index", "--image", film],
        ["probe", "fit", bundle, films, "--out", out / "p.safetensors"],
        ["probe", "predict", bundle, out / "p.safetensors", films],
        ["ask", reader, "What is it?", "--image", film, *unmeasured], ["report", reader, film, *unmeasured],
        ["golden", bundle, "--out", out / "golden", "--images", films],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def watched(
    bundle: Path, tiny_reader: Path, tiny_gemma: Path, shallow: Path, few_images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Watched]]:  # fmt: skip
    """Every command, each beside those that load the same; other tests run while they stay for half a minute after their work."""
    place = tmp_path_factory.mktemp("watched")
    record = place / "record.json"
    record.write_text('{"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-02-03"}')
    labelled = place / "labelled"
    for number, name in enumerate(("CT_small", "CT_small", "MR_small", "MR_small")):
        (labelled / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(few_images / f"{name}.dcm", labelled / name / f"{number}.dcm")
    film, unmeasured = few_images / "CT_small.dcm", ["--allow-failed-parity", "--context", 512]
    folder = ["--task", "folder", "--data", labelled]
    commands: list[list[Sequence[object]]] = [
        [["classify", bundle, film, "--json"], ["embed", bundle, film, "--out", "e.safetensors"], ["help", "gate"],
         ["index", "build", bundle, "films.index", few_images], ["index", "search", bundle, "films.index", "--image", film],
         ["inspect", bundle], ["verify", bundle], ["golden", bundle, "--out", "golden", "--images", labelled],
         ["keys", "new", "Makers", "--out", "makers.key"], ["kit", "key", "makers.private"]],
        [["doctor"], ["bench", bundle, "--rounds", 1]],
        [["probe", "fit", bundle, labelled, "--out", "p.safetensors"], ["probe", "predict", bundle, "p.safetensors", film],
         ["evaluate", bundle, *folder, "--out", "one"], ["evaluate", bundle, *folder, "--out", "two"], ["compare", "one", "two"]],
        [["report", tiny_reader, film, "--limit", 4, *unmeasured],
         ["ask", tiny_reader, "What is it?", "--image", film, "--limit", 4, *unmeasured], ["chat", tiny_reader, *unmeasured],
         ["record", tiny_reader, record, "How old?", "--limit", 24, *unmeasured]],
        [["standin", "medsiglip-mini", "mini"],
         ["export", "medsiglip", "--checkpoint", shallow, "--calibration", few_images, "--out", "bundle"],
         ["parity", "bundle", "--reference", shallow, "--images", few_images, "--out", "measured"],
         ["distill", "medsiglip", "--teacher", shallow, "--images", labelled, "--out", "s", "--student", "tiny", "--steps", 1,
          "--batch", 2, "--cpu"]],
        [["calibrate", "--checkpoint", tiny_gemma, "--out", "m.gguf", labelled],
         ["export", "medgemma", "--checkpoint", tiny_gemma, "--out", "r", "--recipe", "q8_0", "--skip-parity"]],
    ]  # fmt: skip
    started = [Watched(place / str(number), *group) for number, group in enumerate(commands)]
    yield started
    for one in started:
        one.process.communicate()


@needs_strace
def test_every_command_is_watched(watched: list[Watched]) -> None:
    tried = {words[0] for one in watched for words in one.words}
    assert tried | OF_A_STATION | OF_OTHERS == set(COMMANDS)


def test_no_patient_in_what_commands_say_and_write(
    bundle: Path, tiny_reader: Path, films: Path, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for source in (films, broken):
        out = tmp_path / source.name
        out.mkdir()
        for words in commands(bundle, tiny_reader, source, out):
            done = command_line.medge(*words, code=None)
            assert marks_in(done.stdout + done.stderr) == [], words
            if source is films:
                assert done.returncode in (0, 3), done.stderr
                assert FILE_MARK not in done.stderr, words
    for path, text in texts(tmp_path):
        assert marks_in(text) == [], path
        # Results that were asked for name their images: rows, embeddings, an index, and golden files, by whose names another
        # language finds the films again. Nothing else does.
        named = path.suffix in (".jsonl", ".index") or path.name == "e.safetensors" or path.parent.name == "golden"
        assert named or FILE_MARK not in text, path


def test_no_patient_in_a_bundle_that_was_calibrated_on_their_films(
    shallow: Path, films: Path, broken: Path, tmp_path: Path
) -> None:
    archive = tmp_path / f"{FILE_MARK}-archive"
    shutil.copytree(films, archive / "a")
    shutil.copytree(broken, archive / "b")
    done = command_line.medge(
        "export", "medsiglip", "--checkpoint", shallow, "--calibration", archive, "--out", tmp_path / "made", code=None
    )
    assert marks_in(done.stdout + done.stderr) == []
    found = dict(texts(tmp_path / "made"))
    assert {"manifest.json", "parity.json", "parity.html"} <= {path.name for path in found}
    for path, text in found.items():
        assert marks_in(text) == [], path
        assert f"{FILE_MARK}-0" not in text, path


def test_a_damaged_record_does_not_print_what_is_in_it(tiny_reader: Path, tmp_path: Path) -> None:
    person = {
        "resourceType": "Patient", "id": "PID-77313", "birthDate": "QUACKMARK", "name": [{"family": "QUACKMARK"}],
    }  # fmt: skip
    for number, text in enumerate((
        json.dumps(person)[:-9], json.dumps({**person, "resourceType": "QUACKMARK"}),
        json.dumps({"resourceType": "Bundle", "entry": [{"resource": {**person, "birthDate": 19310203}}]}),
    )):  # fmt: skip
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        done = command_line.medge(
            "record", tiny_reader, path, "How old?", "--limit", 4, "--allow-failed-parity", "--context", 2048, code=None
        )
        assert marks_in(done.stderr) == [], text


def cut_off() -> list[str]:
    """What puts a command into a network of its own that has not even a loopback."""
    for words in (["unshare", "-n"], ["unshare", "-rn"]):
        if (
            shutil.which(words[0])
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words
    pytest.skip("this machine lets nobody make a network namespace (unshare -n, unshare -rn)")


def test_everything_runs_where_there_is_no_network(
    bundle: Path, tiny_reader: Path, films: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-02-03"}')
    alone = cut_off()
    asked = {"classify", "index", "probe", "ask", "report"}
    words = [*(one for one in commands(bundle, tiny_reader, films, tmp_path)[1:] if one[0] in asked),
             ["record", tiny_reader, record, "How old?", "--limit", 24, "--allow-failed-parity", "--context", 512]]  # fmt: skip
    # One process for all: each in its own would load everything again.
    code = (
        "import json, socket, sys; sys.path.insert(0, sys.argv[1]); import command_line\n"
        "try: socket.create_connection(('127.0.0.1', 9), 1)\n"
        "except OSError as error: print(json.dumps(['alone', error.errno]))\n"
        "for words in json.loads(sys.argv[2]):\n"
        "    done = command_line.medge(*words, code=None)\n"
        "    print(json.dumps([words[0], done.returncode, done.stderr[-300:]]))"
    )
    done = subprocess.run(
        [*alone, sys.executable, "-c", code, str(Path(__file__).parent), json.dumps(words, default=str)],
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    alone_code, *said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert alone_code == ["alone", errno.ENETUNREACH]  # outside, a loopback would refuse the connection
    assert [row for row in said if row[1] not in (0, 3)] == []
    assert [row[0] for row in said] == [row[0] for row in words]


@needs_strace
def test_nothing_is_sent_and_nothing_is_left(watched: list[Watched]) -> None:
    """Last of this file: by now most of what the processes wait for is over."""
    for one in watched:
        one.check()
