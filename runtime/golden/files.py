"""What another runtime must reproduce, as files: pixels, token ids, embeddings, scores, decisions and answers of this one.

The bundle's own golden results (golden.py) let a device check itself; these are for whoever writes a runtime in another
language, and many more. The Android demo's tests read them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..encoder.encoder import Encoder
from ..encoder.labels import read_labels
from ..encoder.linear_probe import Probe
from ..errors import ImageError
from ..generator.conversation import Sampling, user
from ..generator.generator import Generator
from ..generator.prompt import Picture
from ..pictures.images import read_image
from ..pictures.preprocess import PROFILES
from .decisions import write_decisions
from .phantom import SHAPES, phantom, phantom_16

SIDES = (112, 96, 16)
QUESTIONS = (
    "What kind of image is this?",
    "Which part of the body is shown?",
    "Name a <end_of_turn> cause of a cough.",
)

# Ranges of characters that every platform's tables have known for ten years, the awkward ones among them.
_ALPHABETS = (
    (0x20, 0x7E), (0x09, 0x0D), (0xA0, 0xFF), (0x100, 0x17F), (0x300, 0x36F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F),
    (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939), (0xE01, 0xE2E), (0x1100, 0x1112), (0x1E00, 0x1EFF), (0x2000, 0x200A),
    (0x2010, 0x2027), (0x20A0, 0x20B5), (0x2150, 0x215F), (0x2460, 0x24FF), (0x3041, 0x3096), (0x30A1, 0x30FA),
    (0x4E00, 0x4E80), (0xAC00, 0xAC40), (0xFB00, 0xFB06), (0xFF01, 0xFF5E), (0x1D400, 0x1D433), (0x1F300, 0x1F320),
)  # fmt: skip
_FRAGMENTS = (
    "</s>", " </s> ", "<pad>", "<unk>", "</s", "▁", "ǅ", "İ", "ẞ", "Σ", "ΟΔΟΣ", "e\u0301", "A\u030a", "한글", "ﬁ", "½", "№",
    "\u00a0", "\u3000",
    "head/neck", "T2-weighted", "CXR", "COVID-19", "don't", "µg/ml", "X\u20dd", "👩\u200d⚕️", "🇩🇪", "\r\n", "\u200b", "\ufeff",
    "…",
)  # fmt: skip


def awkward_texts(words: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Texts that a tokenizer may stumble over: words, punctuation, many scripts, and literal control tokens.

    Args:
        words: ordinary words to mix in.
        count, seed: how many, and which.
    """
    rng = random.Random(seed)
    texts = ["", " ", "   ", *_FRAGMENTS, *(fragment * 2 for fragment in _FRAGMENTS)]
    while len(texts) < count:
        parts = []
        for _ in range(rng.choice((1, 2, 3, 5, 8, 13, 40))):
            kind = rng.random()
            if kind < 0.5:
                word = rng.choice(words)
                parts.append(rng.choice((word, word.upper(), word.title(), word[:3])))
            elif kind < 0.65:
                parts.append(rng.choice(_FRAGMENTS))
            else:
                low, high = rng.choice(_ALPHABETS)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        texts.append(rng.choice((" ", " ", "", ", ", "  ")).join(parts))
    return texts[:count]


def write_pixels(out: Path) -> None:
    """`pixels.safetensors`: sources of 8 and 16 bits, and what each profile makes of them at each side."""
    tensors: dict[str, NDArray[Any]] = {}
    for number, shape in enumerate(SHAPES):
        for name, source in ((f"{number}.u8", phantom(*shape)), (f"{number}.u16", phantom_16(*shape))):
            tensors[f"{name}.source"] = source
            for profile in PROFILES.values():
                for side in SIDES:
                    resized = profile.resize(source, side)
                    tensors[f"{name}.{profile.name}.{side}"] = np.ascontiguousarray(resized)
    save_file(tensors, out / "pixels.safetensors")


@dataclass(frozen=True)
class Inputs:
    """What golden files are computed on.

    Attributes:
        images: files; they become part of the golden files.
        texts: to tokenize, beside made-up ones.
        labels: a label file; the bundle's own labels where None.
        probe: a probe fitted on the bundle.
    """

    images: Sequence[Path] = ()
    texts: Sequence[str] = ()
    labels: Path | None = None
    probe: Path | None = None


def write_encoder_files(encoder: Encoder, out: Path, inputs: Inputs, *, count: int = 2000) -> dict[str, Any]:
    """Write what an encoder's runtime must reproduce; returns the index, as in `golden.json`.

    `texts.json` holds texts with their ids; `images.safetensors` decoded images with their embeddings and scores;
    `decisions.json` what calibrated scores say of made-up images; `dicom.safetensors` what is shown of each DICOM file, and the
    index why the others are refused.
    """
    import onnxruntime

    texts = inputs.texts
    bank = encoder.bank(read_labels(inputs.labels) if inputs.labels else None)
    probe = Probe.load(inputs.probe, encoder.fingerprint) if inputs.probe else None
    write_pixels(out)
    write_decisions(out / "decisions.json")
    words = sorted({word for text in texts for word in text.split()}) or ["chest", "x-ray"]
    strings = [*texts, *awkward_texts(words, max(count - len(texts), 0))][:count]
    ids = encoder.tokenizer.encode(strings)[0]
    rows = [{"text": text, "ids": row.tolist()} for text, row in zip(strings, ids, strict=True)]
    (out / "texts.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    tensors: dict[str, NDArray[Any]] = {}
    dicoms: dict[str, NDArray[Any]] = {}
    refused: dict[str, str] = {}
    decoded: list[NDArray[Any]] = []
    for path in inputs.images:
        is_dicom = path.suffix.lower() == ".dcm"
        try:
            pixels = read_image(path)
        except ImageError as error:
            if is_dicom:
                refused[str(path.absolute())] = str(error)
            continue
        if is_dicom:
            dicoms[str(path.absolute())] = pixels
        else:
            tensors[f"image.{len(decoded):04}"] = pixels
            decoded.append(pixels)
    if decoded:
        embeddings = encoder.embed_images(decoded, batch_size=1)
        scores = encoder.score(embeddings, bank)
        shares = [np.ones(1, np.float32) if score.softmax is None else score.softmax for score in scores]
        tensors |= {
            "embeddings": embeddings, "bank": bank.embeddings, "softmax": np.stack(shares),
            "cosine": np.stack([s.cosine for s in scores]),
        }  # fmt: skip
        if encoder.facts.sigmoid:
            tensors["sigmoid"] = np.stack([s.sigmoid for s in scores if s.sigmoid is not None])
        if probe is not None:
            tensors["probabilities"] = probe.predict(embeddings)
    if "text" in encoder.towers:
        prompts = [prompt for group in bank.prompts.values() for prompt in group]
        tensors["prompt_embeddings"] = np.concatenate([encoder.embed_texts(prompt) for prompt in prompts])
    save_file(tensors, out / "images.safetensors")
    save_file(dicoms or {"none": np.zeros(1, np.uint8)}, out / "dicom.safetensors")
    return {
        "bundle": str(encoder.bundle.folder.absolute()), "profile": encoder.manifest.profile,
        "side": encoder.facts.image_size, "onnxruntime": onnxruntime.__version__,
        "labels": bank.prompts, "images": len(decoded), "dicom": len(dicoms), "dicom_refused": refused,
    }  # fmt: skip


def write_generator_files(
    generator: Generator, out: Path, inputs: Inputs, *, limit: int = 12, questions: Sequence[str] = QUESTIONS
) -> dict[str, Any]:
    """Write prompts and greedy answers, with and without an image; returns the index, as in `golden.json`.

    In `answers.json` a prompt is its token ids with -1 for an image; `answers.safetensors` holds the images.
    """
    tensors: dict[str, NDArray[Any]] = {"none": np.zeros(1, np.uint8)}
    pictures: list[tuple[str | None, tuple[Any, ...]]] = [(None, ())]
    if generator.facts.image_tokens:
        for number, path in enumerate(inputs.images):
            tensors[f"image.{number}"] = read_image(path)
            pictures.append((f"image.{number}", (tensors[f"image.{number}"],)))
    rows = []
    for name, parts in pictures:
        for question in questions:
            prompt = generator.encode([user(*parts, question)])
            tokens = list(generator.engine.generate(prompt, Sampling(limit)))
            rows.append({
                "image": name, "question": question, "limit": limit, "tokens": tokens, "text": generator.engine.text(tokens),
                "prompt": [-1 if isinstance(item, Picture) else item for item in prompt],
            })  # fmt: skip
    (out / "answers.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    save_file(tensors, out / "answers.safetensors")
    return {"bundle": str(generator.bundle.folder.absolute()), "answers": len(rows)}
