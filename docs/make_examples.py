"""Run the example of every command's help on stand-ins and real images, and keep what it prints in the package.

python docs/make_examples.py [--bundle BUNDLE] [--reader BUNDLE] [--only COMMAND]...

Needs pydicom-data, and for language models the checkpoint of medgemma-mini, which it makes; half an hour on two cores. The
examples of a station's PACS need Orthanc, which `bash tests/station_tools/prepare ~/.cache/medge/dicom` gets.
With a bundle of medsiglip-mini (int8) or of medgemma-mini (q8_0) at hand, the examples that make or measure such bundles stay as
they are.
What is kept is at most `MOST` lines of `WIDTH` columns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from medge.command_line import every_command
from medge.quant.texts.prompts import medical_texts
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.console.help.examples import read_examples, typed

KEPT = Path(__file__).parents[1] / "runtime" / "console" / "help" / "examples.json"
MOST, WIDTH = 8, 74  # with the indent, a help page of 80 columns holds them
# In this order: what one command makes, the next uses.
MAKING = ("standin", "export medsiglip", "parity", "bench", "distill medsiglip", "demo")
USING = (
    "classify", "embed", "index build", "index add", "index search", "index info",
    "index remove", "probe fit", "probe predict", "probe evaluate", "evaluate", "compare", "inspect", "verify", "golden",
    "calibrate-scores", "help",
)  # fmt: skip
STATION = (
    "serve", "station user add", "station user list", "station user password", "station token add", "station token list",
    "station token remove", "station connect", "station find", "station fetch", "station audit", "station backup",
    "station user remove",
)  # fmt: skip
KEYS = ("keys new", "keys show", "keys sign", "keys trust", "keys rotate", "keys revoke")
# A distillation takes a quarter of an hour, and the stand-in's answers are none to learn from; a kit's commands need a stick,
# and most of them an installation.
NOT_RUN = (
    "distill medgemma", "distill finish", "distill answers",
    "kit build", "kit install", "kit apply", "kit rollback", "kit status", "kit selftest", "kit migrate",
    "kit update", "kit collect", "kit open", "kit key", "kit fleet",
)  # fmt: skip
LAST = ("station restore",)  # where the station is no longer
MAKING_READER = ("calibrate", "export medgemma")
ANSWERING = ("ask", "chat", "report", "record")
WITH_READER = ("doctor", *ANSWERING)
PASSWORD = "one-for-the-examples\n"
TYPED = {  # on standard input
    "chat": "what is on @film.dcm?\n/quit\n", "station user add": PASSWORD, "station user password": PASSWORD,
}  # fmt: skip
ELSEWHERE = {"/media/usb/": "usb/", "/srv/fhir": "fhir"}  # where an example writes, and where it writes here
TOO_SMALL = "(by medgemma-mini, a stand-in that is too small to be right)"
PICTURES = ("CT_small", "MR_small", "693_J2KI", "examples_ybr_color", "examples_rgb_color")
PATIENT = [
    {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1950-02-03"},
    {"resourceType": "MedicationRequest", "id": "m1", "status": "active", "intent": "order", "authoredOn": "2024-05-01",
     "medicationCodeableConcept": {"text": "metformin 500 mg tablets"}, "subject": {"reference": "Patient/p1"}},
    {"resourceType": "AllergyIntolerance", "id": "a1", "code": {"text": "penicillin"}, "patient": {"reference": "Patient/p1"}},
]  # fmt: skip


def examples() -> Iterator[tuple[str, str]]:
    """(command, its example as it is typed)."""
    for name, called, _ in every_command():
        if example := typed(called.__doc__ or ""):
            yield name, example


def prepare(folder: Path) -> None:
    """Put what the examples name into a folder: real images, and words."""
    from PIL import Image
    from pydicom.data import get_testdata_file

    from medge.runtime.pictures.images import read_image

    for place in ("films", "archive", "archive/withdrawn"):
        (folder / place).mkdir()
    shutil.copy(str(get_testdata_file("RG1_UNCR.dcm", download=False)), folder / "film.dcm")
    sources = {name: Path(str(get_testdata_file(f"{name}.dcm", download=False))) for name in PICTURES}
    for number, (name, path) in enumerate(sources.items()):
        shutil.copy(path, folder / "films")
        shutil.copy(path, folder / "archive" / ("", "", "", "withdrawn", "withdrawn")[number])
        shutil.copy(folder / "film.dcm", folder / "archive" / "film.dcm")
        image = read_image(path)
        middle, label = image.shape[1] // 2, "ultrasound" if "color" in name else "slice"
        for side, half in (("training", image[:, :middle]), ("held-back", image[:, middle:])):
            (folder / side / label).mkdir(parents=True, exist_ok=True)
            for part, lines in (("upper", slice(None, len(half) // 2)), ("lower", slice(len(half) // 2, None))):
                Image.fromarray(half[lines]).save(folder / side / label / f"{name}-{part}.png")
    shutil.copytree(folder / "training" / "slice", folder / "pictures")
    (folder / "labels.txt").write_text("abdomen CT\nchest x-ray\nhead MRI\n", encoding="utf-8")
    (folder / "reports").mkdir()
    for place in (folder / "reports.txt", folder / "reports" / "reports.txt"):
        place.write_text("\n\n".join(medical_texts()), encoding="utf-8")
    entries = [{"resource": resource} for resource in PATIENT]
    record = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    (folder / "patient.json").write_text(json.dumps(record), encoding="utf-8")


def borrow(bundle: Path, place: Path) -> None:
    """Put a bundle into a folder under the name that the examples give it."""
    shutil.copytree(bundle, place, copy_function=os.link)
    manifest = replace(Manifest.read(place), name=place.name)
    (place / "manifest.json").unlink()  # the other is the bundle's own
    (place / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def before(command: str, folder: Path) -> None:
    """What changes in the folder before an example: new images come to an archive that is indexed, a checkpoint is made."""
    if command == "index add":
        (folder / "archive" / "new").mkdir()
        from pydicom.data import get_testdata_file

        shutil.copy(str(get_testdata_file("RG3_UNCR.dcm", download=False)), folder / "archive" / "new" / "film.dcm")
    checkpoint = "medgemma-mini" if command in MAKING_READER else "medsiglip-mini"
    if (
        command in (*MAKING, *MAKING_READER, "compare")
        and command not in ("standin", "demo")
        and not (folder / checkpoint).exists()
    ):
        call(["standin", checkpoint, checkpoint], folder)
    if command == "compare":
        words = ["--checkpoint", "medsiglip-mini", "--out", "smaller", "--recipe", "int4", "--labels", "labels.txt"]
        call(["export", "medsiglip", *words], folder)
        call(["evaluate", "smaller", "--task", "folder", "--data", "held-back/", "--items", "csv"], folder)
    if command == "calibrate-scores":
        write_labelled(folder / "labelled")
    if command == "serve":
        (folder / "bundles").mkdir()
        (folder / "bundles" / "bundle").symlink_to(folder / "bundle")
    if command == "keys rotate":
        call(["keys", "new", "Makers 2027", "--out", "makers-2027.key"], folder, "\n\n")
    if command == "station user remove":  # who is not the last admin
        call(["station", "user", "add", "clinic", "Nurse Bintou", "--role", "admin"], folder, PASSWORD)
    if command == "station restore":
        (folder / "clinic").rename(folder / "clinic-before")


def write_labelled(place: Path, each: int = 150) -> None:
    """Some hundreds of public pictures that the stand-in was not trained on, a folder for each label of `labels.txt`."""
    import tarfile

    from medge.export.standin.public_data import write_folder

    data = KEPT.parents[3] / "shared" / "data"
    drawn = write_folder(data, "mednist", "test", place.with_name("drawn"), each)
    for folder, label in (("AbdomenCT", "abdomen CT"), ("CXR", "chest x-ray")):
        shutil.copytree(drawn / folder, place / label)
    (place / "head MRI").mkdir()
    with tarfile.open(data / "domains" / "mri_brain_tumour.tar") as archive:
        pictures = [one for one in archive if one.name.startswith("test/") and one.isfile()]
        for one in pictures[:: len(pictures) // each][:each]:
            one.name = Path(one.name).name
            archive.extract(one, place / "head MRI", filter="data")


@contextlib.contextmanager
def pacs(folder: Path) -> Iterator[dict[str, str]]:
    """A PACS with one study; the addresses of the examples that stand for it, with those that it has here."""
    import clinic
    import pydicom

    with clinic.orthanc(folder / "pacs") as running:
        study = pydicom.dcmread(folder / "film.dcm")
        study.PatientName, study.PatientID, study.StudyDate = "Diallo^Mariam", "4711", "20260112"
        study.StudyInstanceUID, study.StudyDescription = "1.2.840.113619.2.1", "Chest, follow-up"
        study.save_as(folder / "follow-up.dcm")
        running.ask("/instances", (folder / "follow-up.dcm").read_bytes())
        running.knows("MEDGE", 11112)
        yield {"192.168.1.9:4242": f"127.0.0.1:{running.dicom}"}


def run(example: str, folder: Path, said: str = "", places: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """What an example prints in a folder, with `said` typed into it: standard output, then standard error.

    `places` are addresses and folders that the example names, with those that stand for them here.
    """
    here = example
    for there, instead in places.items():
        here = here.replace(there, instead)
    done = call(shlex.split(here)[1:], folder, said)
    printed = done.stdout + done.stderr
    for there, instead in places.items():
        printed = printed.replace(instead, there)
    return shortened(printed, folder)


def serve(example: str, folder: Path) -> list[str]:
    """What a station prints from its start until Ctrl-C."""
    command = [sys.executable, "-m", "medge", *shlex.split(example)[1:]]
    with subprocess.Popen(
        command, cwd=folder, env=plain(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as started:
        assert started.stdout is not None
        said = started.stdout.readline() + started.stdout.readline()
        started.send_signal(signal.SIGINT)
        said += started.stdout.read()
    return shortened(said, folder)


def call(words: Sequence[str], folder: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as in a terminal of `WIDTH` columns that shows no progress."""
    command = [sys.executable, "-m", "medge", *words]
    done = subprocess.run(command, cwd=folder, env=plain(), capture_output=True, text=True, input=said, check=False)
    if done.returncode not in (0, 3, 4):
        raise SystemExit(f"{shlex.join(words)}: {done.stderr}")
    return done


def plain() -> dict[str, str]:
    """The environment of a terminal of `WIDTH` columns without colours, where medge is this checkout's from any folder."""
    source = str(Path(__file__).parents[1].resolve() / "src")
    return {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": source}


def shortened(said: str, folder: Path) -> list[str]:
    """The first lines of what a command said in a folder."""
    lines = [line.rstrip() for line in said.replace(f"{folder}/", "").splitlines()]
    return lines[:MOST] + ["..."] * (len(lines) > MOST)


def masked(lines: Iterable[str]) -> list[str]:
    """Lines without what differs from machine to machine: numbers, and the width that a table gets by them."""
    return [re.sub(r"[0-9a-f]{16}|\d[\d.,]*", "#", re.sub(r"[ ─━═]+", " ", line)).strip() for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="an int8 bundle of medsiglip-mini")
    parser.add_argument("--reader", type=Path, help="a bundle of medgemma-mini")
    parser.add_argument("--only", action="append", default=[], help="a command whose example is wanted; repeat it")
    given = parser.parse_args()
    kept, known = dict(read_examples()), dict(examples())
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as opened:
        folder = Path(place).resolve()
        prepare(folder)
        for name in ("bundle", "reader"):
            if (source := getattr(given, name)) is not None:
                borrow(source, folder / name)
        order = (
            *(() if given.bundle else MAKING), *USING, *KEYS, *STATION, *LAST,
            *(() if given.reader else MAKING_READER), *WITH_READER,
        )  # fmt: skip
        asked = [name for name in order if not given.only or name in given.only]
        places = {there: str(folder / instead) + "/" * there.endswith("/") for there, instead in ELSEWHERE.items()}
        if {"station find", "station fetch"} & set(asked):
            places |= opened.enter_context(pacs(folder))
        for command in asked:
            before(command, folder)
            if command == "serve":
                said = serve(known[command], folder)
            else:
                said = run(known[command], folder, TYPED.get(command, ""), places)
            kept[command] = [*([TOO_SMALL] if command in ANSWERING else []), *said]
            print(f"$ {known[command]}", *kept[command], "", sep="\n")
            ordered = {command: kept[command] for command in known if command in kept}
            KEPT.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
