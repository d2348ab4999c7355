"""Calibration texts for the text tower: what people ask a medical image classifier, composed from short lists."""

from __future__ import annotations

import itertools

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
