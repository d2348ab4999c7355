"""Captions for the six-block stand-in's training, and the prompts that judge it.

A caption states some facts about an image. It is a positive for an image when every fact it states is known to be
true there, a negative when one is known to be false, and says nothing (no loss) where a fact is unknown. Whole
wordings are held out: `HELD_OUT` templates are never trained on, and the published scores use only them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

WORDS: dict[str, dict[str, list[str]]] = {
    "modality": {
        "xray": ["x-ray", "radiograph", "plain film", "plain radiograph", "x-ray image"],
        "ct": ["CT", "CT scan", "computed tomography", "CT image", "CT slice"],
        "mri": ["MRI", "MR image", "magnetic resonance image", "MRI scan", "magnetic resonance imaging"],
    },
    "part": {
        "head": ["head", "brain", "skull", "head and brain"],
        "chest": ["chest", "thorax", "lungs", "lungs and heart"],
        "abdomen": ["abdomen", "belly", "abdominal organs", "liver and bowel"],
        "breast": ["breast", "breasts"],
        "hand": ["hand", "hand and wrist", "fingers", "wrist"],
    },
    "finding": {
        "pneumonia": ["pneumonia", "lung infection", "consolidation", "a lung opacity", "infiltrates in the lung"],
        "normal": ["no pneumonia", "clear lungs", "healthy lungs", "no lung opacity", "no acute abnormality"],
    },
}
TRAINED: dict[tuple[str, ...], list[str]] = {
    ("modality", "part"): [
        "{modality} of the {part}", "a {modality} of the {part}", "{part} {modality}", "{modality}, {part}",
        "an image of the {part}, {modality}", "this is a {modality} showing the {part}", "axial {modality} of the {part}",
        "medical image: {part} {modality}", "a photo of a {part} {modality}", "frontal view of the {part}, {modality}",
        "a patient's {part} on {modality}", "{modality} scan through the {part}", "grey-scale {modality} of a {part}",
    ],
    ("part",): [
        "the {part}", "a picture of the {part}", "an image of the {part}", "this image shows the {part}",
        "anatomy: {part}", "{part}", "a photo of the {part}", "the organ shown is the {part}",
    ],
    ("modality",): ["a {modality}", "{modality}", "this is a {modality}", "modality: {modality}", "made by {modality}"],
    ("finding",): [
        "chest x-ray with {finding}", "a chest radiograph showing {finding}", "{finding}", "x-ray of the chest, {finding}",
        "this chest x-ray shows {finding}", "a photo of a chest x-ray with {finding}", "finding: {finding}",
        "frontal chest film, {finding}", "the lungs of a child with {finding}",
    ],
    ("normal",): ["normal chest x-ray", "a normal chest radiograph", "the lungs are clear", "a healthy chest x-ray",
                  "chest x-ray without pneumonia", "no sign of infection in the lungs"],
}  # fmt: skip
HELD_OUT: dict[tuple[str, ...], list[str]] = {
    ("modality", "part"): ["the {part} as seen on {modality}", "{part} imaged with a {modality}",
                           "radiology picture, {modality} taken of the {part}"],
    ("part",): ["a medical scan of the {part}", "radiology picture of the {part}", "the region shown is the {part}"],
    ("finding",): ["radiograph of a chest that has {finding}", "there is {finding} on this film",
                   "film of the thorax with {finding}"],
}  # fmt: skip


@dataclass(frozen=True)
class Caption:
    text: str
    facts: tuple[tuple[str, str], ...]


def draw_caption(facts: dict[str, str], rng: random.Random, *, finding: bool = False) -> Caption:
    """Draw a true caption of an image with these facts, in a trained wording; with `finding`, one that states it."""
    kinds: list[tuple[str, ...]] = [] if finding else [("part",)]
    if "modality" in facts and not finding:
        kinds += [("modality", "part"), ("modality", "part"), ("modality",)]
    if facts.get("finding") in WORDS["finding"]:
        kinds += [("finding",)] * 6
        if facts["finding"] == "normal":
            kinds += [("normal",)] * 3
    kind = rng.choice(kinds)
    stated = ("finding",) if kind == ("normal",) else kind
    text = rng.choice(TRAINED[kind]).format(**{key: rng.choice(WORDS[key][facts[key]]) for key in stated})
    return Caption(text, tuple((key, facts[key]) for key in stated))


def relation(facts: dict[str, str], caption: Caption) -> int:
    """+1 when the caption is true of an image with these facts, -1 when false, 0 when that isn't known."""
    known = [facts[key] == value for key, value in caption.facts if key in facts]
    if not all(known):
        return -1
    return 1 if len(known) == len(caption.facts) else 0


def prompts(facts: dict[str, str], held_out: bool = True) -> list[str]:
    """All wordings of one class, for zero-shot scoring: held-out templates, or (for comparison) trained ones."""
    key = tuple(facts)
    table = HELD_OUT if held_out else TRAINED
    return [
        template.format(**dict(zip(key, words, strict=True)))
        for template in table[key]
        for words in zip(*(WORDS[name][facts[name]][:3] for name in key), strict=False)
    ]


# What each held-back test asks: label -> the facts its prompts state.
ZERO_SHOT: dict[str, dict[str, dict[str, str]]] = {
    "mednist": {
        "AbdomenCT": {"modality": "ct", "part": "abdomen"}, "BreastMRI": {"modality": "mri", "part": "breast"},
        "CXR": {"modality": "xray", "part": "chest"}, "ChestCT": {"modality": "ct", "part": "chest"},
        "Hand": {"modality": "xray", "part": "hand"}, "HeadCT": {"modality": "ct", "part": "head"},
    },
    "pneumoniamnist": {"normal": {"finding": "normal"}, "pneumonia": {"finding": "pneumonia"}},
    "vqa_rad": {"head": {"part": "head"}, "chest": {"part": "chest"}, "abdomen": {"part": "abdomen"}},
}  # fmt: skip
