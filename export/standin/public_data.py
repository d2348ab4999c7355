"""The shared public images as arrays and folders, with the split that the stand-in is trained and judged on.

Sources and licences are listed in `medsiglip/sources.py`. Nothing read here is ever copied into the repository.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MEDNIST_FACTS: dict[str, dict[str, str]] = {
    "AbdomenCT": {"modality": "ct", "part": "abdomen"},
    "BreastMRI": {"modality": "mri", "part": "breast"},
    "CXR": {"modality": "xray", "part": "chest"},
    "ChestCT": {"modality": "ct", "part": "chest"},
    "Hand": {"modality": "xray", "part": "hand"},
    "HeadCT": {"modality": "ct", "part": "head"},
}
VQA_RAD_PARTS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}


@dataclass(frozen=True)
class Example:
    """One image with what is known of it; a fact that is absent is unknown, not false."""

    name: str
    image: NDArray[np.uint8]  # (H, W) grey
    label: str
    facts: dict[str, str] = field(hash=False)


def _grey(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).convert("L"))


def mednist(data: Path, split: str) -> Iterator[Example]:
    """Yield MedNIST images (64 x 64) of `split` ("train" or "test"); the label is the class folder's name.

    MedNIST repeats a few images under other names, across the splits too: a test image that was trained on is left out.
    """
    trained = {image.tobytes() for _, image in _mednist_images(data, "train")} if split == "test" else set()
    for name, image in _mednist_images(data, split):
        if image.tobytes() not in trained:
            label = Path(name).parent.name
            yield Example(name, image, label, MEDNIST_FACTS[label])


def _mednist_images(data: Path, split: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    with tarfile.open(data / "mednist" / f"{split}.tar") as archive:
        for member in archive:
            if member.isfile():
                stream = archive.extractfile(member)
                assert stream is not None
                yield member.name, _grey(stream.read())


def pneumoniamnist(data: Path, split: str) -> Iterator[Example]:
    """Yield PneumoniaMNIST images (28 x 28); the label is "normal" or "pneumonia"."""
    arrays = np.load(data / "pneumoniamnist" / "pneumoniamnist.npz")
    for index, (image, value) in enumerate(
        zip(arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel(), strict=True)
    ):
        label = "pneumonia" if value else "normal"
        yield Example(f"{split}/{index:05d}", image, label, {"modality": "xray", "part": "chest"})


def _vqa_modality(entries: list[dict[str, str]]) -> str | None:
    """What the clinicians' answers say about how the image was made, or None where they don't agree."""
    votes: collections.Counter[str] = collections.Counter()
    words = {
        "ct": r"\bct\b|computed tomography|cat scan",
        "mri": r"\bmri?\b|t1|t2|flair|diffusion|\bdwi\b|magnetic",
        "xray": r"x-?\s?ray|radiograph|plain film",
    }
    for entry in entries:
        if "MODALITY" not in entry["question_type"]:
            continue
        question, answer = entry["question"].lower(), str(entry["answer"]).lower()
        said = question if answer.startswith("yes") else answer
        votes.update(name for name, pattern in words.items() if re.search(pattern, said))
    best = votes.most_common(2)
    return best[0][0] if best and (len(best) == 1 or best[0][1] > best[1][1]) else None


def vqa_rad(data: Path, split: str) -> Iterator[Example]:
    """Yield VQA-RAD images; 100 of the 250 are "test", chosen by a hash of the file's name.

    The label is the organ: "head", "chest" or "abdomen".
    """
    entries: dict[str, list[dict[str, str]]] = collections.defaultdict(list)
    for entry in json.loads((data / "vqa_rad" / "qa.json").read_text()):
        entries[entry["image_name"]].append(entry)
    names = sorted(entries, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    for name in names[:100] if split == "test" else names[100:]:
        label = VQA_RAD_PARTS[entries[name][0]["image_organ"]]
        facts = {"part": label}
        if (modality := _vqa_modality(entries[name])) is not None:
            facts["modality"] = modality
        yield Example(name, _grey((data / "vqa_rad" / "images" / name).read_bytes()), label, facts)


CALIBRATION = {"mednist": 12, "pneumoniamnist": 40, "vqa_rad": 24}  # images a label
DATASETS = {"mednist": mednist, "pneumoniamnist": pneumoniamnist, "vqa_rad": vqa_rad}


def write_folder(data: Path, dataset: str, split: str, out: Path, limit: int | None = None) -> Path:
    """Write a split as PNG files into one folder per label (the layout `medge parity --labelled` reads)."""
    counts: collections.Counter[str] = collections.Counter()
    for example in DATASETS[dataset](data, split):
        if limit is not None and counts[example.label] >= limit:
            continue
        folder = out / example.label
        folder.mkdir(parents=True, exist_ok=True)
        # Compressed a little less (a sixth larger), in a quarter of the time.
        Image.fromarray(example.image).save(folder / f"{counts[example.label]:05d}.png", compress_level=1)
        counts[example.label] += 1
    return out


def write_calibration(data: Path, out: Path) -> Path:
    """A mixture of training images of every set, in sub-folders of `out`: what the stand-in is calibrated on."""
    for dataset, limit in CALIBRATION.items():
        write_folder(data, dataset, "train", out / dataset, limit)
    return out
