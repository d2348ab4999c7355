"""The public pictures that the stand-in is trained and judged on: one reader for each way they are stored.

Sources, counts and licences are those of the data folder's README. Weights that ship are trained only on pictures
whose licence allows it (`Picture.ships`); all others evaluate. Nothing read here is copied into the repository.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import public_data
from .words import BLOOD, NIH_FINDINGS, with_what_cannot_be

# Domains whose licence allows weights that ship; of the two below, only pictures under these licences.
SHIPS = (
    "cxr_pneumonia", "cxr_nih", "us_breast_busi", "mri_brain_tumour", "cells_blood", "cells_malaria", "histo_crc",
    "histo_breakhis", "histo_osteosarcoma", "mammo_masses",
)  # fmt: skip
SHIPS_BY_PICTURE = ("us_lung_pocus", "cxr_covid")
FREE = ("CC BY 3.0", "CC BY 4.0", "CC BY", "CC0", "CC0 1.0")
# What each set is and who made it; its licence stands with each picture.
ORIGINS = {
    "mednist": "MedNIST (B. Erickson, Mayo Clinic; from TCIA, RSNA, NIH)",
    "pneumoniamnist": "PneumoniaMNIST (MedMNIST v2; Kermany et al. 2018), a re-split",
    "vqa_rad": "VQA-RAD (Lau et al. 2018; MedPix)",
    "cxr_pneumonia": "chest films of children (Kermany et al. 2018)",
    "cxr_nih": "ChestX-ray14 (Wang et al. 2017; NIH Clinical Center), 64 × 64",
    "cxr_covid": "covid-chestxray-dataset (Cohen et al. 2020)",
    "us_breast_busi": "breast ultrasound, BUSI (Al-Dhabyani et al. 2020)",
    "us_lung_pocus": "lung ultrasound, POCUS (Born et al. 2021)",
    "mri_brain_tumour": "brain MRI (Nickparvar on Kaggle; Cheng 2017 and others)",
    "cells_blood": "blood cells, PBC (Acevedo et al. 2020)",
    "cells_malaria": "blood cells with and without malaria, NLM (Rajaraman et al. 2018)",
    "ct_kidney": "kidney CT (Islam et al. 2022)",
    "derm_ham10000": "dermatoscopy, HAM10000 (Tschandl et al. 2018)",
    "endo_polyp": "endoscopy, Kvasir-SEG (Jha et al. 2020)",
    "fundus_disease": "fundus photographs (ODIR-5K, EyePACS, retina_dataset)",
    "fundus_dr_grade": "fundus photographs with grades of retinopathy (EyePACS)",
    "histo_breakhis": "breast histology, BreakHis (Spanhol et al. 2016)",
    "histo_crc": "colon histology, CRC-VAL-HE-7K (Kather et al. 2019)",
    "histo_lc25000": "lung and colon histology, LC25000 (Borkowski et al. 2019)",
    "histo_osteosarcoma": "bone histology, Osteosarcoma-Tumor-Assessment (Leavey et al. 2019)",
    "mammo_masses": "mammograms, DDSM masses (Huang and Lin 2020)",
}

# What a class folder says. A key that is absent is unknown; what cannot be of such a picture is added by `words`.
_FILM = {"modality": "xray", "part": "chest"}
_BREAST = {"modality": "us", "part": "breast"}
_LUNG = {"modality": "us", "part": "chest"}
_BRAIN = {"modality": "mri", "part": "head"}
CLASS_FACTS: dict[str, dict[str, dict[str, str]]] = {
    "cxr_pneumonia": {
        "normal": {**_FILM, "film": "normal", "pneumonia": "no", "infection": "none"},
        "bacterial_pneumonia": {**_FILM, "film": "abnormal", "pneumonia": "yes", "infection": "bacterial"},
        "viral_pneumonia": {**_FILM, "film": "abnormal", "pneumonia": "yes", "infection": "viral"},
    },
    "cxr_nih": {
        "no_finding": {**_FILM, "film": "normal", "pneumonia": "no", "infection": "none"},
        "finding": {**_FILM, "film": "abnormal"},
    },
    "cxr_covid": {
        "covid19": {**_FILM, "film": "abnormal", "pneumonia": "yes", "infection": "covid"},
        "other_pneumonia": {**_FILM, "film": "abnormal", "pneumonia": "yes"},
    },
    "us_breast_busi": {
        "normal": {**_BREAST, "breast": "normal", "lump": "no"},
        "benign": {**_BREAST, "breast": "benign", "lump": "yes"},
        "malignant": {**_BREAST, "breast": "malignant", "lump": "yes"},
    },
    "us_lung_pocus": {
        "covid": {**_LUNG, "lung": "covid"}, "pneumonia": {**_LUNG, "lung": "pneumonia"},
        "regular": {**_LUNG, "lung": "normal"},
    },
    "mri_brain_tumour": {
        "glioma": {**_BRAIN, "brain": "glioma", "tumour": "yes"},
        "meningioma": {**_BRAIN, "brain": "meningioma", "tumour": "yes"},
        "pituitary": {**_BRAIN, "brain": "pituitary", "tumour": "yes"},
        # Other scanners, and some CT among them: how these were made is left unknown.
        "notumor": {"part": "head", "brain": "none", "tumour": "no"},
    },
    "cells_blood": {name: {"modality": "microscopy", "part": "blood", "cell": name} for name in BLOOD},
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What is known of a picture.

    Attributes:
        domain: the set it comes from.
        name: its file inside the set.
        label: its class in the set.
        group: patient, lesion or series; its own name where none is known. A group is never on two sides.
        split: "train" or "test", as the set says.
        licence: as the set states it.
        ships: whether weights trained on it may be shipped.
        facts: what is known, by `words.QUESTIONS`; empty where no caption is made of the set.
    """

    domain: str
    name: str
    label: str
    group: str
    split: str
    licence: str
    ships: bool
    facts: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class Picture(Known):
    """One picture with what is known of it; `image` is (H, W) or (H, W, 3), uint8."""

    image: NDArray[np.uint8] = field(hash=False, repr=False)


def ships(domain: str, licence: str) -> bool:
    """Whether the data folder's README lets weights trained on such a picture be shipped."""
    return domain in SHIPS or (domain in SHIPS_BY_PICTURE and licence in FREE)


def facts_of(domain: str, label: str, extra: dict[str, str]) -> dict[str, str]:
    """What a class folder and the `extra` column of labels.csv say, in the keys of `words.QUESTIONS`."""
    facts = CLASS_FACTS.get(domain, {}).get(label)
    if facts is None:
        return {}
    facts = dict(facts)
    if domain == "cxr_nih":
        named = set(extra["Finding Labels"].split("|"))
        facts |= {key: "yes" if label in named else "no" for key, label in NIH_FINDINGS.items()}
        if "Pneumonia" in named:
            facts["pneumonia"] = "yes"
    return with_what_cannot_be(facts)


def domain_pictures(archive: Path) -> Iterator[Picture]:
    """Yield all pictures of one `domains/<domain>.tar`, in the order of its labels.csv."""
    domain = archive.stem
    with tarfile.open(archive) as tar:
        table = tar.extractfile("labels.csv")
        assert table is not None
        for row in csv.DictReader(io.TextIOWrapper(table, encoding="utf-8")):
            stream = tar.extractfile(row["file"])
            assert stream is not None
            with Image.open(stream) as opened:
                image = np.asarray(opened if opened.mode == "L" else opened.convert("RGB"))
            extra = json.loads(row["extra"]) if row["extra"] else {}
            yield Picture(
                domain, row["file"], row["class"], row["group"] or row["file"], row["file"].split("/")[0],
                row["licence"], ships(domain, row["licence"]), facts_of(domain, row["class"], extra), image,
            )  # fmt: skip


def grey_sets(data: Path) -> Iterator[Picture]:
    """Yield MedNIST, PneumoniaMNIST and VQA-RAD with the split that the first stand-in had."""
    licences = {"mednist": "CC BY-SA 4.0", "pneumoniamnist": "CC BY 4.0", "vqa_rad": "CC0 1.0"}
    for domain, licence in licences.items():
        splits = ("train", "val", "test") if domain == "pneumoniamnist" else ("train", "test")
        for split in splits:
            for example in public_data.DATASETS[domain](data, split):
                facts = dict(example.facts)
                if domain == "pneumoniamnist":
                    ill = example.label == "pneumonia"
                    facts |= {"film": "abnormal", "pneumonia": "yes"} if ill else {"film": "normal", "pneumonia": "no"}
                    if not ill:
                        facts["infection"] = "none"
                facts = with_what_cannot_be(facts)
                side = "test" if split == "test" else "train"
                yield Picture(
                    domain, example.name, example.label, example.name, side, licence, True, facts, example.image
                )


def all_pictures(data: Path, longest: int = 256) -> Iterator[Picture]:
    """Yield every picture of the data folder, none longer than `longest` pixels (shrunk with antialiasing)."""
    for picture in _each(data):
        height, width = picture.image.shape[:2]
        if max(height, width) > longest:
            factor = longest / max(height, width)
            size = (max(round(width * factor), 1), max(round(height * factor), 1))
            small = Image.fromarray(picture.image).resize(size, Image.Resampling.BILINEAR)
            picture = replace(picture, image=np.asarray(small))
        yield picture


def _each(data: Path) -> Iterator[Picture]:
    yield from grey_sets(data)
    for archive in sorted((data / "domains").glob("*.tar")):
        yield from domain_pictures(archive)
