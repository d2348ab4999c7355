"""Train medgemma-mini's projector: python -m medge.export.standin.train_medgemma_projector --data ../shared/data

writes the projector and its figures beside this file, in about half an hour on two cores; docs/make_card.py puts the figures
into the card. After a change of medsiglip-mini's weights it must be run again.

Both Gemma and the vision tower stay as they are; the 123 thousand weights between them learn to make image tokens
that Gemma answers right about. Loss is cross-entropy on the answer alone. Half of each batch is MedNIST, half VQA-RAD.

The 270M is a base model that never learned to end an answer: the token for it would cost 30 nats and drown everything
else. The row of <eos> in the (tied) embedding is learned along with the projector and stored beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

from ...runtime.pictures.preprocess import preprocess
from .gemma_270m import IMAGE_TOKEN_ID
from .medgemma_mini import CONFIG, EOS_ID, EOS_ROW, IMAGE_TOKENS, PROJECTOR, write_medgemma_mini
from .public_data import Example, mednist, vqa_rad

PROFILE = "finetune-pil"  # bilinear with antialiasing: what Gemma 3's image processor does
KIND = ("What kind of image is this?", "What kind of medical image is shown here?")
ORGAN = ("Which part of the body is shown?", "What part of the body is in this image?")
KINDS = {
    "AbdomenCT": "abdomen CT", "BreastMRI": "breast MRI", "CXR": "chest x-ray", "ChestCT": "chest CT",
    "Hand": "hand x-ray", "HeadCT": "head CT",
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One question about one image, with its answer."""

    pixels: np.ndarray[Any, np.dtype[np.float32]]  # (3, side, side)
    question: str
    answer: str


class Prompts:
    """Token ids of a question about one image, in Gemma's turns, and of its answer."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.image = f"\n\n<start_of_image>{'<image_soft_token>' * IMAGE_TOKENS}<end_of_image>\n\n"

    def prompt(self, question: str) -> list[int]:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids: list[int] = self.tokenizer(
            text.replace("<start_of_image>", self.image), add_special_tokens=False
        ).input_ids
        return ids

    def answer(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(f"{text}<eos>", add_special_tokens=False).input_ids
        return ids


def embedding(model: Gemma3ForConditionalGeneration) -> torch.Tensor:
    """The table of token embeddings, (vocabulary, hidden); the output layer shares it."""
    return model.get_input_embeddings().get_parameter("weight")


def read_pixels(examples: list[Example], side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N, 3, side, side), as the processor gives them."""
    return np.stack([preprocess(np.repeat(e.image[..., None], 3, axis=2), PROFILE, side) for e in examples])


def augmented(pixels: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A crop of 80 to 100%, moved and scaled in contrast; mirrored half of the time."""
    side = pixels.shape[-1]
    size = int(side * rng.uniform(0.8, 1))
    top, left = rng.integers(0, side - size + 1, 2)
    rows = np.clip(top + np.arange(side) * size // side, 0, side - 1)
    columns = np.clip(left + np.arange(side) * size // side, 0, side - 1)
    picked = pixels[:, rows][:, :, columns]
    if rng.random() < 0.5:
        picked = picked[..., ::-1]
    return np.clip(picked * rng.uniform(0.8, 1.2) + rng.uniform(-0.1, 0.1), -1, 1).astype(np.float32)


def forward(
    model: Gemma3ForConditionalGeneration, stop: torch.Tensor, prompts: Prompts, items: list[Item]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits where an answer's tokens are predicted, those tokens, and the number of the item each belongs to.

    `stop` is the row of <eos>, in the place of the model's own.
    """
    rows = [(prompts.prompt(item.question), prompts.answer(item.answer)) for item in items]
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    where: list[tuple[int, int]] = []
    for number, (prompt, answer) in enumerate(rows):
        ids[number, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        mask[number, : len(prompt) + len(answer)] = 1
        where += [(number, len(prompt) - 1 + offset) for offset in range(len(answer))]
    hidden = model.model(
        input_ids=ids, attention_mask=mask, pixel_values=torch.from_numpy(np.stack([item.pixels for item in items])),
        token_type_ids=ids.eq(IMAGE_TOKEN_ID).long(),
    ).last_hidden_state  # fmt: skip
    number, position = torch.tensor(where).T
    picked = hidden[number, position]
    logits = model.lm_head(picked).index_copy(1, torch.tensor([EOS_ID]), (picked @ stop)[:, None])
    return logits, ids[number, position + 1], number


def items_of(
    examples: list[Example], pixels: np.ndarray[Any, Any], dataset: str, rng: np.random.Generator | None
) -> Iterator[Item]:
    """Items in order, with the first wording; or, given a generator, an endless shuffled and augmented stream."""
    while True:
        order = range(len(examples)) if rng is None else rng.permutation(len(examples))
        for index in order:
            example = examples[index]
            kind, organ = KINDS.get(example.label), example.facts["part"]
            about_kind = dataset == "mednist" and (rng is None or rng.random() < 0.7)
            wordings = KIND if about_kind else ORGAN
            question = wordings[0] if rng is None else wordings[int(rng.integers(len(wordings)))]
            image = pixels[index] if rng is None else augmented(pixels[index], rng)
            yield Item(image, question, kind if about_kind and kind else organ)
        if rng is None:
            return


@torch.inference_mode()
def evaluate(model: Gemma3ForConditionalGeneration, stop: torch.Tensor, prompts: Prompts, items: list[Item]) -> float:
    """Share of items whose whole answer, decoded greedily, is the right one."""
    right = 0
    for start in range(0, len(items), 16):
        logits, targets, number = forward(model, stop, prompts, items[start : start + 16])
        good = logits.argmax(-1) == targets
        right += sum(bool(good[number == which].all()) for which in range(int(number.max()) + 1))
    return right / len(items)


def train(
    data: Path, out: Path, steps: int, batch: int, rate: float, seed: int, limit: int | None
) -> dict[str, Any]:  # fmt: skip
    """Train, judge on held-back images, write the projector; returns the facts for the model card."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "start"
        write_medgemma_mini(folder, projector=None, seed=seed)
        model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        prompts = Prompts(folder)
    model.eval().requires_grad_(False)
    projector = model.model.multi_modal_projector.requires_grad_(True)
    stop = torch.nn.Parameter(embedding(model)[EOS_ID].clone())
    side = CONFIG["vision_config"]["image_size"]
    rng = np.random.default_rng(seed)
    streams = []
    for name, read in (("mednist", mednist), ("vqa_rad", vqa_rad)):
        trained = list(read(data, "train"))
        streams.append(items_of(trained, read_pixels(trained, side), name, rng))
    optimizer = torch.optim.AdamW([*projector.parameters(), stop], lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        items = [next(streams[index % 2]) for index in range(batch)]
        logits, targets, _ = forward(model, stop, prompts, items)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*projector.parameters(), stop], 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    state = {f"multi_modal_projector.{name}": value for name, value in projector.state_dict().items()}
    state[EOS_ROW] = stop.data
    # What is judged is what is shipped: bf16, as the checkpoint holds it.
    for value in state.values():
        value.copy_(value.to(torch.bfloat16))
    save_file({name: value.contiguous().numpy() for name, value in state.items()}, out)
    facts: dict[str, Any] = {
        "steps": steps, "batch": batch, "rate": rate, "seed": seed, "minutes": round((time.monotonic() - started) / 60, 1),
    }  # fmt: skip
    return judge(data, out, facts, limit)


def judge(data: Path, projector: Path, facts: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Score the finished checkpoint, as `medge standin` writes it, on held-back images; writes and returns the facts."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "finished"
        write_medgemma_mini(folder, projector=projector)
        model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        prompts = Prompts(folder)
    side, stop = CONFIG["vision_config"]["image_size"], embedding(model)[EOS_ID]
    for name, key, read in (
        ("mednist", "mednist_kind_accuracy", mednist), ("vqa_rad", "vqa_rad_organ_accuracy", vqa_rad),
    ):  # fmt: skip
        test = list(read(data, "test"))[:limit]
        facts[key] = evaluate(model, stop, prompts, list(items_of(test, read_pixels(test, side), name, None)))
        facts.setdefault("images", {})[name] = len(test)
    projector.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PROJECTOR)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="Test images of a set, for trying the script; all if left out.")
    parser.add_argument("--judge", action="store_true", help="Only score what is there.")
    options = vars(parser.parse_args())
    if options.pop("judge"):
        before = json.loads(options["out"].with_suffix(".json").read_text())
        print(json.dumps(judge(options["data"], options["out"], before, options["limit"]), indent=2))
    else:
        print(json.dumps(train(**options), indent=2))


if __name__ == "__main__":
    main()
