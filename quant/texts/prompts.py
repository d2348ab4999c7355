"""Calibration texts: what people ask a medical image classifier, and medical prose for language models."""

from __future__ import annotations

import itertools
from importlib.resources import files

MODALITIES = ("chest x-ray", "CT scan", "MRI", "ultrasound image", "fundus photograph", "histopathology slide",
              "dermatology photo", "mammogram")  # fmt: skip
FINDINGS = ("no abnormality", "pneumonia", "pleural effusion", "a fracture", "a mass", "haemorrhage", "cardiomegaly",
            "diabetic retinopathy", "melanoma", "an enlarged lymph node")  # fmt: skip
TEMPLATES = ("{modality} with {finding}", "a {modality} showing {finding}", "{finding} on {modality}", "{finding}")


def calibration_texts(count: int = 96) -> list[str]:
    """`count` different texts, spread over modalities, findings and wordings; the same on every call."""
    pairs = itertools.product(FINDINGS, MODALITIES)
    texts = [
        TEMPLATES[index % len(TEMPLATES)].format(modality=modality, finding=finding)
        for index, (finding, modality) in enumerate(pairs)
    ]
    return list(dict.fromkeys([*MODALITIES, *texts]))[:count]


def medical_texts(*, held_back: bool = False) -> list[str]:
    """Medical prose written for medge: reports, cases, abstracts. Every other text is kept for measuring.

    Enough to try the kit; a matrix from a user's own reports is better.
    """
    return _texts("medical_texts.txt")[1 if held_back else 0 :: 2]


def mixed_texts() -> list[str]:
    """More prose written for medge, to calibrate on: notes, letters, questions and records, everyday English, other languages.

    None of it measures anything.
    """
    return _texts("mixed_texts.txt")


def _texts(name: str) -> list[str]:
    source = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [text.strip() for text in source.split("\n\n") if text.strip()]


def prompt_texts() -> list[str]:
    """Every modality with every finding in every wording."""
    return [
        template.format(modality=modality, finding=finding)
        for template in TEMPLATES
        for finding, modality in itertools.product(FINDINGS, MODALITIES)
    ]
