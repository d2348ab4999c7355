"""How the six-block stand-in was trained.

    python -m medge.export.standin.six_blocks.train --data ../shared/data --out DIR

writes `six_blocks.safetensors` (the packed weights that the repository carries) and `six_blocks.json` (scores,
seed, time). Two cores take about an hour in three phases: first modality and anatomy under strong augmentation, then
the findings on chest films, which the first phase sees in the images but does not yet connect to words, last a
balanced mix under weak augmentation. Every phase starts from the packed (fp16) weights of the one before, so that
`--resume` gives what an uninterrupted run gives. The held-back images are read only after training has ended.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import SiglipConfig, SiglipModel

from ...families.transformers_versions import features
from ..medsiglip.packed import pack, unpack
from ..public_data import DATASETS, Example
from .architecture import CONFIG
from .captions import WORDS, ZERO_SHOT, Caption, draw_caption, prompts, relation

STORED = 128  # side of the images kept in memory, in pixels; the model's input is cut from them
CAPTIONS = 56  # captions in a batch


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own schedule.

    Attributes:
        steps, rate: how long and how fast (peak, warmed up over 40 steps, then a cosine).
        mix: images of each source in a batch.
        findings: share of the captions that must state a finding.
        strength: of the augmentation, 1 for full.
        hard: weigh each pair by how wrong it is, so that easy negatives don't drown the findings.
    """

    steps: int
    rate: float
    mix: dict[str, int]
    findings: float
    strength: float
    hard: bool


PHASES = (
    Phase(520, 1e-3, {"mednist": 52, "normal": 16, "pneumonia": 16, "vqa_rad": 28}, 0.0, 1.0, False),
    Phase(280, 8e-4, {"mednist": 36, "normal": 26, "pneumonia": 26, "vqa_rad": 24}, 0.5, 0.45, True),
    Phase(170, 6e-4, {"mednist": 64, "normal": 14, "pneumonia": 14, "vqa_rad": 20}, 0.25, 0.3, True),
)


def load_pools(data: Path) -> dict[str, list[Example]]:
    films = [e for split in ("train", "val") for e in DATASETS["pneumoniamnist"](data, split)]
    return {
        "mednist": list(DATASETS["mednist"](data, "train")),
        "normal": [e for e in films if e.label == "normal"],
        "pneumonia": [e for e in films if e.label == "pneumonia"],
        "vqa_rad": list(DATASETS["vqa_rad"](data, "train")),
    }


def to_tensor(examples: list[Example], side: int) -> torch.Tensor:
    """Grey images in [0, 1], resized without antialiasing where they grow and with it where they shrink."""
    out = torch.empty(len(examples), 1, side, side)
    for index, example in enumerate(examples):
        image = torch.from_numpy(example.image.astype(np.float32))[None, None] / 255
        shrinks = min(image.shape[-2:]) > side
        out[index] = F.interpolate(image, (side, side), mode="bilinear", antialias=shrinks)[0]
    return out


def augment(images: torch.Tensor, side: int, strength: float) -> torch.Tensor:
    """Random affine cut, contrast, resolution and noise; (N, 1, S, S) in [0, 1] to (N, 3, side, side) in [-1, 1]."""
    n, k = len(images), strength
    angle = (torch.rand(n) - 0.5) * 0.5 * k
    scale = 1 + (torch.rand(n) * 0.35 - 0.25) * k
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    stretch = 1 + (torch.rand(n) - 0.5) * 0.2 * k
    theta = torch.stack(
        [
            torch.stack(
                [scale * stretch * flip * angle.cos(), -scale * angle.sin(), (torch.rand(n) - 0.5) * 0.25 * k], 1
            ),
            torch.stack(
                [scale * flip * angle.sin(), scale / stretch * angle.cos(), (torch.rand(n) - 0.5) * 0.25 * k], 1
            ),
        ],
        1,
    )
    out = F.grid_sample(images, F.affine_grid(theta, [n, 1, side, side], align_corners=False), align_corners=False)
    coarse = int(torch.randint(24, 80, ()))  # resolution must not tell the sources apart
    blurred = F.interpolate(
        F.interpolate(out, (coarse, coarse), mode="bilinear", antialias=True), (side, side), mode="bilinear"
    )
    out = torch.where(torch.rand(n, 1, 1, 1) < 0.4 * k, blurred, out)
    gamma = torch.exp((torch.rand(n, 1, 1, 1) - 0.5) * 0.8 * k)
    gain, shift = 1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.5 * k, (torch.rand(n, 1, 1, 1) - 0.5) * 0.2 * k
    out = (out.clamp(0, 1) ** gamma * gain + shift + torch.randn_like(out) * 0.02).clamp(0, 1)
    return (out * 2 - 1).expand(-1, 3, -1, -1)


def caption_loss(
    model: SiglipModel, pixels: torch.Tensor, ids: torch.Tensor, relations: torch.Tensor, *, hard: bool
) -> torch.Tensor:
    """SigLIP's sigmoid loss over all image-caption pairs whose relation is known (Zhai et al. 2023, eq. 1)."""
    images = F.normalize(features(model.get_image_features(pixels)), dim=-1)
    texts = F.normalize(features(model.get_text_features(ids)), dim=-1)
    logits = images @ texts.T * model.logit_scale.exp() + model.logit_bias
    loss = -F.logsigmoid(relations * logits)
    weight = (1 - torch.exp(-loss.detach())) if hard else torch.ones_like(loss)
    positive, negative = weight * (relations > 0), weight * (relations < 0)
    parts = [(loss * part).sum() / part.sum().clamp(min=1e-6) for part in (positive, negative)]
    return parts[0] + parts[1] * (1 if hard else 2)


def auc(scores: torch.Tensor, truth: torch.Tensor) -> float:
    positive, negative = scores[truth], scores[~truth]
    return ((positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative)).mean().item()


@torch.no_grad()
def evaluate(model: SiglipModel, tokenizer: Tokenizer, data: Path, held_out: bool) -> dict[str, float]:
    """Zero-shot accuracy on the held-back images (AUC for pneumonia), classes averaged over their prompts."""
    model.eval()
    tokenizer.enable_padding(length=64, pad_id=1, pad_token="</s>")
    tokenizer.enable_truncation(64)
    side = CONFIG["vision_config"]["image_size"]
    scores: dict[str, float] = {}
    for dataset, classes in ZERO_SHOT.items():
        examples = list(DATASETS[dataset](data, "test"))
        pixels = to_tensor(examples, side).mul(255).floor().div(127.5).sub(1).expand(-1, 3, -1, -1)
        images = F.normalize(
            torch.cat([features(model.get_image_features(part)) for part in pixels.split(100)]), dim=-1
        )
        bank = []
        for facts in classes.values():
            ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(prompts(facts, held_out))])
            bank.append(F.normalize(F.normalize(features(model.get_text_features(ids)), dim=-1).mean(0), dim=0))
        similarity = images @ torch.stack(bank).T
        names = list(classes)
        truth = torch.tensor([names.index(e.label) for e in examples])
        if dataset == "pneumoniamnist":
            scores["pneumoniamnist_auc"] = auc(similarity[:, 1] - similarity[:, 0], truth == 1)
        else:
            scores[f"{dataset}_accuracy"] = (similarity.argmax(1) == truth).double().mean().item()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--resume", type=int, default=0, help="phases already done, their weights packed in --out")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.data / "medsiglip_tokenizer" / "tokenizer.json"))
    pools = load_pools(args.data)
    tensors = {name: to_tensor(pool, STORED) for name, pool in pools.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    packed, log = args.out / "six_blocks.safetensors", args.out / "six_blocks.json"
    minutes = json.loads(log.read_text())["minutes_by_phase"][: args.resume] if args.resume else []
    torch.manual_seed(args.seed)
    model = SiglipModel(SiglipConfig(**CONFIG))
    with torch.no_grad():
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-4.0)
        # Words that no caption uses stay at exactly zero, so they are neutral and need not be stored.
        model.text_model.embeddings.token_embedding.weight.zero_()
    seen: set[int] = set()
    for number, phase in enumerate(PHASES):
        if number >= args.resume:
            start = time.perf_counter()
            seen |= train(model, tokenizer, phase, pools, tensors, args.seed + number)
            minutes.append(round((time.perf_counter() - start) / 60, 1))
            pack(model.state_dict(), tokenizer, sorted(seen), packed)
            log.write_text(json.dumps({"minutes_by_phase": minutes}) + "\n")
        state, _ = unpack(packed)  # what the next phase starts from, and what is judged, is what is stored
        table = state["text_model.embeddings.token_embedding.weight"]
        seen |= set(np.flatnonzero(np.abs(table).sum(1)).tolist())
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    report = {
        "held_out_wordings": evaluate(model, tokenizer, args.data, True),
        "trained_wordings": evaluate(model, tokenizer, args.data, False),
        "seed": args.seed, "minutes_by_phase": minutes,
        "parameters": sum(p.numel() for p in model.parameters()), "torch": torch.__version__,
    }  # fmt: skip
    log.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def train(
    model: SiglipModel, tokenizer: Tokenizer, phase: Phase, pools: dict[str, list[Example]],
    tensors: dict[str, torch.Tensor], seed: int,
) -> set[int]:  # fmt: skip
    """Train in place; returns the token ids that captions used."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    tokenizer.enable_padding(length=64, pad_id=1, pad_token="</s>")
    tokenizer.enable_truncation(64)
    table = model.text_model.embeddings.token_embedding.weight
    decay = [p for p in model.parameters() if p.ndim > 1 and p is not table]
    scalars = [model.logit_scale, model.logit_bias]
    other = [p for p in model.parameters() if p.ndim <= 1 and not any(p is s for s in scalars)]
    optimiser = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": 0.05},
            {"params": [*other, table], "weight_decay": 0.0},
            {"params": scalars, "weight_decay": 0.0, "lr": phase.rate * (10 if phase.hard else 1)},
        ],
        lr=phase.rate, betas=(0.9, 0.98),
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / 40, 1) * (0.02 + 0.49 * (1 + np.cos(np.pi * min(s / phase.steps, 1))))
    )
    side = CONFIG["vision_config"]["image_size"]
    seen: set[int] = set()
    start = time.perf_counter()
    model.train()
    for step in range(phase.steps):
        chosen: list[Example] = []
        images: list[torch.Tensor] = []
        for name, count in phase.mix.items():
            picks = [rng.randrange(len(pools[name])) for _ in range(count)]
            chosen += [pools[name][i] for i in picks]
            images.append(tensors[name][picks])
        films = [e for e in chosen if e.facts.get("finding") in WORDS["finding"]]
        captions: dict[str, Caption] = {}
        while len(captions) < CAPTIONS:
            stated = len(captions) < CAPTIONS * phase.findings
            caption = draw_caption(rng.choice(films if stated else chosen).facts, rng, finding=stated)
            captions[caption.text] = caption
        ids = torch.tensor([e.ids for e in tokenizer.encode_batch(list(captions))])
        seen.update(ids.unique().tolist())
        relations = torch.tensor([[relation(e.facts, c) for c in captions.values()] for e in chosen])
        pixels = augment(torch.cat(images), side, phase.strength)
        loss = caption_loss(model, pixels, ids, relations, hard=phase.hard)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.perf_counter() - start:.0f} s", flush=True)
    return seen


if __name__ == "__main__":
    main()
