"""What the stand-in's captions can state, in which words, and which pictures a caption is true of.

A fact is a key and a value ("breast": "malignant"). A caption states one or two facts in some wording. It is true of a
picture when every fact it states is known to hold there, false when one is known not to, and otherwise nothing is
known. Captions speak on four levels: what made the picture and the part of the body (kind), the part alone (organ),
a finding, and its grade or sort. Whole wordings are held out: `HELD_OUT` is never trained on and judges.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

BLOOD = (
    "basophil", "eosinophil", "erythroblast", "immature_granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet",
)  # fmt: skip
# Findings that NIH's labels name often enough to learn from: key -> label in the csv.
NIH_FINDINGS = {
    "effusion": "Effusion", "infiltration": "Infiltration", "atelectasis": "Atelectasis", "nodule": "Nodule",
    "cardiomegaly": "Cardiomegaly", "pneumothorax": "Pneumothorax",
}  # fmt: skip

_YES_NO: dict[str, dict[str, list[str]]] = {
    "effusion": {"yes": ["pleural effusion", "fluid in the pleura"], "no": ["no pleural effusion", "no pleural fluid"]},
    "infiltration": {"yes": ["infiltration", "lung infiltrates"], "no": ["no infiltration", "no infiltrates"]},
    "atelectasis": {"yes": ["atelectasis", "collapsed lung tissue"], "no": ["no atelectasis", "no collapse"]},
    "nodule": {"yes": ["a lung nodule", "a pulmonary nodule"], "no": ["no lung nodule", "no nodule"]},
    "cardiomegaly": {"yes": ["cardiomegaly", "an enlarged heart"], "no": ["no cardiomegaly", "a heart of normal size"]},
    "pneumothorax": {"yes": ["pneumothorax", "air in the pleura"], "no": ["no pneumothorax", "no pleural air"]},
}
WORDS: dict[str, dict[str, list[str]]] = {
    "modality": {
        "xray": ["x-ray", "radiograph", "plain film", "x-ray image"],
        "ct": ["CT", "CT scan", "computed tomography", "CT slice"],
        "mri": ["MRI", "MR image", "magnetic resonance image", "MRI scan"],
        "us": ["ultrasound", "ultrasound image", "sonogram", "ultrasonography"],
        "microscopy": ["microscopy", "microscope image", "light microscopy", "micrograph"],
    },
    "part": {
        "head": ["head", "brain", "skull", "head and brain"],
        "chest": ["chest", "thorax", "lungs", "lungs and heart"],
        "abdomen": ["abdomen", "belly", "abdominal organs"],
        "breast": ["breast", "breasts", "female breast"],
        "hand": ["hand", "hand and wrist", "fingers"],
        "blood": ["blood", "blood smear", "blood film", "blood cells"],
    },
    "film": {
        "normal": ["normal", "healthy", "unremarkable", "no finding", "no acute abnormality"],
        "abnormal": ["abnormal", "pathological", "a finding", "disease", "an abnormality"],
    },
    "pneumonia": {
        "yes": ["pneumonia", "lung infection", "consolidation", "a lung opacity"],
        "no": ["no pneumonia", "clear lungs", "healthy lungs", "no lung opacity"],
    },
    "infection": {
        "none": ["no pneumonia", "healthy lungs", "no lung infection"],
        "bacterial": ["bacterial pneumonia", "pneumonia caused by bacteria", "lobar bacterial pneumonia"],
        "viral": ["viral pneumonia", "pneumonia caused by a virus", "interstitial viral pneumonia"],
        "covid": ["covid-19", "covid-19 pneumonia", "coronavirus pneumonia"],
    },
    "breast": {
        "normal": ["normal tissue", "no lesion", "healthy breast tissue"],
        "benign": ["a benign lesion", "a benign tumour", "a benign mass"],
        "malignant": ["a malignant lesion", "breast cancer", "a malignant mass"],
    },
    "lump": {"yes": ["a lump", "a mass", "a lesion"], "no": ["no lump", "no mass", "no lesion"]},
    "lung": {
        "normal": ["healthy lung", "normal lung", "a-lines and no disease"],
        "covid": ["covid-19", "covid-19 pneumonia", "b-lines from covid-19"],
        "pneumonia": ["bacterial pneumonia", "pneumonia", "consolidated lung"],
    },
    "brain": {
        "none": ["no tumour", "healthy brain", "a normal brain"],
        "glioma": ["glioma", "a glioma tumour", "glial tumour"],
        "meningioma": ["meningioma", "a meningioma tumour", "tumour of the meninges"],
        "pituitary": ["pituitary tumour", "pituitary adenoma", "tumour of the pituitary gland"],
    },
    "tumour": {"yes": ["a tumour", "a brain tumour", "a mass"], "no": ["no tumour", "no brain tumour", "no mass"]},
    "cell": {name: [name.replace("_", " "), f"{name.replace('_', ' ')} cell"] for name in BLOOD},
    **_YES_NO,
}  # fmt: skip
WORDS["cell"]["immature_granulocyte"].append("myelocyte or promyelocyte")
WORDS["cell"]["erythroblast"].append("nucleated red blood cell")
WORDS["cell"]["platelet"] = ["platelet", "thrombocyte", "blood platelet"]

_FILM = ["chest x-ray with {x}", "a chest radiograph showing {x}", "x-ray of the chest, {x}", "{x}",
         "frontal chest film, {x}", "finding on the chest film: {x}", "a photo of a chest x-ray with {x}"]  # fmt: skip
_FILM_HELD = ["radiograph of a chest that has {x}", "film of the thorax, {x}", "{x} on a chest radiograph"]
_MRI = ["brain mri with {x}", "MR image of the head showing {x}", "{x}", "mri of the brain, {x}", "finding: {x}"]
_MRI_HELD = ["magnetic resonance image of a brain that has {x}", "{x} on brain mri", "head mri showing {x}"]
_BREAST = ["breast ultrasound with {x}", "sonogram of the breast showing {x}", "{x}", "ultrasound, breast: {x}",
           "a breast scan that shows {x}"]  # fmt: skip
_BREAST_HELD = ["ultrasound image of a breast that has {x}", "{x} on breast ultrasound", "the breast has {x}"]
# A question is what one caption answers: its keys, the kinds of picture it can be asked of (modality and part; None
# for all), its wordings. Levels are kind, organ, finding, grade.


@dataclass(frozen=True)
class Question:
    """What a caption can answer.

    Attributes:
        level: "kind", "organ", "finding" or "grade".
        keys: the facts that its captions state.
        kind: the only (modality, part) of which it can be true; None for all.
        trained, held_out: wordings, with {x} for the one key's words or {key} for each.
    """

    level: str
    keys: tuple[str, ...]
    kind: tuple[str, str] | None
    trained: list[str]
    held_out: list[str]


QUESTIONS: dict[str, Question] = {
    "kind": Question("kind", ("modality", "part"), None, [
        "{modality} of the {part}", "a {modality} of the {part}", "{part} {modality}", "{modality}, {part}",
        "this is a {modality} showing the {part}", "medical image: {part} {modality}", "a photo of a {part} {modality}",
        "a patient's {part} on {modality}",
    ], ["the {part} as seen on {modality}", "{part} imaged with {modality}", "picture of the {part} by {modality}"]),
    "modality": Question("kind", ("modality",), None, [
        "a {modality}", "{modality}", "this is a {modality}", "modality: {modality}", "made by {modality}",
    ], ["picture by {modality}", "a medical {modality}", "an image that is a {modality}"]),
    "organ": Question("organ", ("part",), None, [
        "the {part}", "a picture of the {part}", "this image shows the {part}", "anatomy: {part}", "{part}",
        "the organ shown is the {part}",
    ], ["a medical scan of the {part}", "radiology picture of the {part}", "the region shown is the {part}"]),
    "film": Question("finding", ("film",), ("xray", "chest"), _FILM, _FILM_HELD),
    "pneumonia": Question("finding", ("pneumonia",), ("xray", "chest"), _FILM, _FILM_HELD),
    "infection": Question("grade", ("infection",), ("xray", "chest"), _FILM, _FILM_HELD),
    **{key: Question("finding", (key,), ("xray", "chest"), _FILM, _FILM_HELD) for key in NIH_FINDINGS},
    "lump": Question("finding", ("lump",), ("us", "breast"), _BREAST, _BREAST_HELD),
    "breast": Question("grade", ("breast",), ("us", "breast"), _BREAST, _BREAST_HELD),
    "lung": Question("finding", ("lung",), ("us", "chest"),
        ["lung ultrasound with {x}", "ultrasound of the chest, {x}", "sonogram of the lung showing {x}", "{x}"],
        ["ultrasound image of a lung that has {x}", "{x} on lung ultrasound"]),
    "tumour": Question("finding", ("tumour",), ("mri", "head"), _MRI, _MRI_HELD),
    "brain": Question("grade", ("brain",), ("mri", "head"), _MRI, _MRI_HELD),
    "cell": Question("finding", ("cell",), ("microscopy", "blood"),
        ["{x}", "a {x} in a blood smear", "microscopy of a {x}", "blood cell: {x}", "a white field with a {x}"],
        ["blood film showing a {x}", "{x} under the microscope", "the cell is a {x}"]),
}  # fmt: skip
# Words alone ("no mass") are short for more than one question: a caption of words alone is made only where no other
# question has them, so that one text never means two things.
KINDS = (
    ("xray", "chest"), ("xray", "hand"), ("ct", "abdomen"), ("ct", "chest"), ("ct", "head"), ("mri", "breast"),
    ("mri", "head"), ("us", "breast"), ("us", "chest"), ("microscopy", "blood"), ("xray", "abdomen"), ("mri", "abdomen"),
)  # fmt: skip
# Those that are told apart in one list. Of the last two only some pictures of VQA-RAD are trained on: captions name them,
# so that a film of the belly is no film of the chest, but nobody is promised that they are known.
LISTED_KINDS = KINDS[:10]


@dataclass(frozen=True)
class Caption:
    """A text and the facts that it states, as (key, value)."""

    text: str
    question: str
    facts: tuple[tuple[str, str], ...]


def with_what_cannot_be(facts: dict[str, str]) -> dict[str, str]:
    """The facts, with "never" for every key that such a kind of picture cannot have; what is unknown stays absent."""
    known = {key: facts.get(key) for key in ("modality", "part")}
    never: dict[str, str] = {}
    for question in QUESTIONS.values():
        if question.kind is None:
            continue
        if any(value is not None and value != want for value, want in zip(known.values(), question.kind, strict=True)):
            never |= dict.fromkeys(question.keys, "never")
    return {**never, **facts}


def values(question: str) -> list[tuple[tuple[str, str], ...]]:
    """All answers to a question, each as the facts that it states."""
    if question == "kind":
        return [(("modality", modality), ("part", part)) for modality, part in KINDS]
    (key,) = QUESTIONS[question].keys
    return [((key, value),) for value in WORDS[key]]


def _ambiguous(text: str, question: str) -> bool:
    """Whether words alone are an answer to another question, too."""
    return any(text in words for key, table in WORDS.items() if key != question for words in table.values())


def draw(question: str, answer: tuple[tuple[str, str], ...], rng: random.Random) -> Caption:
    """A caption that gives this answer, in a trained wording."""
    words = {key: rng.choice(WORDS[key][value]) for key, value in answer}
    first = next(iter(words.values()))
    wordings = QUESTIONS[question].trained
    template = rng.choice(wordings)
    if template == "{x}" and _ambiguous(first, question):
        template = wordings[0]
    return Caption(template.format(x=first, **words), question, answer)


def every_text() -> list[str]:
    """Every caption that can be drawn; the words of these are the words that the model learns."""
    texts = []
    for question, what in QUESTIONS.items():
        for answer in values(question):
            for words in product(*([(key, word) for word in WORDS[key][value]] for key, value in answer)):
                texts += [template.format(x=words[0][1], **dict(words)) for template in what.trained]
    return texts


def relation(facts: dict[str, str], caption: Caption) -> int:
    """+1 when the caption is true of a picture with these facts, -1 when false, 0 when that isn't known."""
    known = [facts[key] == value for key, value in caption.facts if key in facts]
    if not all(known):
        return -1
    return 1 if len(known) == len(caption.facts) else 0


def prompts(question: str, answer: tuple[tuple[str, str], ...], *, held_out: bool = True) -> list[str]:
    """Every wording of one answer with its first three words: held-out wordings, or (for comparison) trained ones."""
    table = QUESTIONS[question].held_out if held_out else QUESTIONS[question].trained
    columns = [[(key, word) for word in WORDS[key][value][:3]] for key, value in answer]
    return [
        template.format(x=row[0][1], **dict(row)) for template in table for row in zip(*columns, strict=False)
    ]  # fmt: skip
