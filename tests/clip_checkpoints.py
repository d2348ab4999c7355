"""Small CLIP checkpoints: one with random weights, and one trained on drawn discs, with a tokenizer in CLIP's form."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 210)}
GROUNDS = {"black": 0, "grey": 100, "white": 195}
LABELS = [f"{colour} disc on {ground}" for colour in COLOURS for ground in GROUNDS]
WORDINGS = ("{}", "a picture of a {}", "one {} and nothing else", "there is a {} in the middle of this picture")
SIDE, LENGTH, START, END = 32, 48, "<|startoftext|>", "<|endoftext|>"
RATE = 2e-3  # the greatest; learning rates rise and fall in one cycle


def draw(label: str, rng: random.Random) -> Image.Image:
    """A disc near the middle of a noisy picture that is not square."""
    colour, _, _, ground = label.split()
    width, height = rng.randint(44, 80), rng.randint(44, 80)
    noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 60, (height, width, 3))
    image = Image.fromarray((noise + GROUNDS[ground]).astype(np.uint8))
    radius = rng.randint(10, 18)
    x, y = width // 2 + rng.randint(-4, 4), height // 2 + rng.randint(-4, 4)
    box = (x - radius, y - radius, x + radius, y + radius)
    fill = tuple(max(0, min(255, level + rng.randint(-30, 30))) for level in COLOURS[colour])
    ImageDraw.Draw(image).ellipse(box, fill=fill)
    return image


def write_drawings(folder: Path, per_label: int, seed: int) -> Path:
    """A folder for each label with drawings in it."""
    rng = random.Random(seed)
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(per_label):
            draw(label, rng).save(folder / label / f"{number}.png")
    return folder


def write_tokenizer(folder: Path) -> int:
    """CLIP's byte-level BPE, its merges learned from captions and medge's calibration texts; returns the vocabulary's size."""
    from transformers import AutoTokenizer

    from medge.quant.texts.prompts import calibration_texts

    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.normalizer = normalizers.Lowercase()
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    texts = [wording.format(label) for wording in WORDINGS for label in LABELS] + calibration_texts()
    learned.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, end_of_word_suffix="</w>"))
    merges = [
        tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
        for merge in json.loads(learned.to_str())["model"]["merges"]
    ]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # As in OpenAI's file: bytes, bytes that end a word, merges, and the two marks last.
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": START, "eos_token": END,
        "unk_token": END, "pad_token": END, "do_lower_case": True,
    }))  # fmt: skip
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return len(tokens)


def write_clip(folder: Path, *, legacy_end: bool, steps: int = 0) -> Path:
    """A CLIP of 0.2 M parameters; trained on drawings where steps are given.

    Args:
        folder: is made.
        legacy_end: whether the configuration says of the end token what OpenAI's says: 2, for "the highest id of a text".
        steps: of training, each on 54 drawings.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    size = write_tokenizer(folder)
    # 176 = 16 x 11 is not divisible by 32: the padding that it needs is exercised here.
    tower = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **tower, "vocab_size": size, "max_position_embeddings": LENGTH, "bos_token_id": size - 2,
            "eos_token_id": 2 if legacy_end else size - 1, "pad_token_id": 1 if legacy_end else size - 1,
        },
        vision_config={**tower, "image_size": SIDE, "patch_size": 8},
        projection_dim=64,
    )  # fmt: skip
    model = CLIPModel(config)
    if steps:
        _train(model, folder, steps)
    else:
        with torch.no_grad():
            for parameter in model.parameters():  # norms and biases of a fresh model are all alike: faults would hide
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "crop_size": SIDE, "size": SIDE, "do_center_crop": True,
        "do_normalize": True, "do_resize": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    }))  # fmt: skip
    return folder


def _train(model: Any, folder: Path, steps: int) -> None:
    import torch
    from transformers import AutoTokenizer

    from medge.export.families.clip import OPENAI
    from medge.runtime.pictures.preprocess import preprocess

    tokenizer, rng = AutoTokenizer.from_pretrained(folder), random.Random(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.15)
    pictures = {
        label: [preprocess(np.asarray(draw(label, rng)), "clip-crop", SIDE, OPENAI) for _ in range(40)]
        for label in LABELS
    }
    same = torch.arange(len(LABELS)).repeat(6)
    for _ in range(steps):
        labels = LABELS * 6
        pixels = torch.from_numpy(np.stack([rng.choice(pictures[label]) for label in labels]))
        texts = [rng.choice(WORDINGS).format(label) for label in LABELS]
        words = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        loss = torch.nn.functional.cross_entropy(model(**words, pixel_values=pixels).logits_per_image, same)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
