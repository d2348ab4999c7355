"""What a language model loses and saves whose vocabulary is cut by script, and what a cut by use would lose.

python benchmarks/vocabulary.py [--data ../shared/data] [--prompts 4]

medgemma-mini has Gemma's whole vocabulary. For each choice of scripts: the tokens that stay; the bytes that are saved, of a 4B by
its shapes, of medgemma-mini by its files; how many more tokens texts become, by language, of the station's own words and of
sentences in this file; how many of the tokens of held-back medical texts are missed. Then, with llama.cpp's logits in bf16: what
the whole model gives to the dropped tokens, and how much worse the cut one foretells sentences of other scripts.
Stores benchmarks/results/vocabulary.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from compensation import held_back, reports
from generator_parity import contexts

from medge.export.families.cut_vocabulary import DROPPED, KeptTokens, cut
from medge.export.families.gemma3 import open_gemma
from medge.export.source.checkpoint import Checkpoint
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.to_gguf.scripts import parse_scripts, say_scripts
from medge.export.to_gguf.vocabulary import read_vocabulary, tokens_by_script
from medge.export.to_gguf.write import write_language
from medge.quant.gguf_file.quantize import quantize_language
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.runtime.generator.engine import BATCH, Engine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "vocabulary.json"
WORDS = ROOT / "runtime" / "station" / "page" / "words"
CHOICES = ("latin", "latin,cyrillic", "latin,arabic,devanagari,ethiopic")
WIDTH_4B = 2560
STORED_AS = ("Q6_K", "Q4_K")  # a 4B's embedding; llama.cpp's mixtures of 4 bits and more keep it in the former
RECIPES = ("q6_k", "q4_k_m")
FIRST = "latin"  # the choice that medgemma-mini's files are made and its logits taken of
BOS = 2
OWN_STATIONS = {"en": "English", "fr": "French", "es": "Spanish", "pt": "Portuguese", "sw": "Swahili"}
SENTENCES = {
    "Russian": (
        "Сердце не увеличено, лёгкие чистые, переломов не видно.",
        "Пациент жалуется на кашель и боль в груди в течение трёх дней.",
        "Рекомендуется повторить снимок через две недели.",
    ),
    "Arabic": (
        "القلب بحجم طبيعي والرئتان صافيتان ولا توجد كسور.",
        "يشكو المريض من سعال وألم في الصدر منذ ثلاثة أيام.",
        "ينصح بإعادة التصوير بعد أسبوعين.",
    ),
    "Hindi": (
        "हृदय का आकार सामान्य है, फेफड़े साफ हैं और कोई फ्रैक्चर नहीं दिखता।",
        "रोगी को तीन दिनों से खांसी और सीने में दर्द है।",
        "दो सप्ताह बाद फिर से एक्स-रे कराने की सलाह दी जाती है।",
    ),
    "Chinese": (
        "心脏大小正常，双肺清晰，未见骨折。",
        "患者咳嗽、胸痛已有三天。",
        "建议两周后复查胸片。",
    ),
    "Amharic": (
        "የልብ መጠን መደበኛ ነው፣ ሳንባዎቹ ንጹህ ናቸው፣ ስብራት አይታይም።",
        "ታካሚው ለሦስት ቀናት ሳል እና የደረት ሕመም አለበት።",
        "ከሁለት ሳምንት በኋላ ምርመራውን መድገም ይመከራል።",
    ),
}


def texts_of(data: Path) -> dict[str, list[str]]:
    """{what they are: texts}: English ones, the station's words in its languages, sentences in other scripts."""
    found = {"English, PubMedQA": contexts(data, 700, 800)}
    for code, language in OWN_STATIONS.items():
        words = json.loads((WORDS / f"{code}.json").read_text(encoding="utf-8"))
        found[f"{language}, the station's words"] = list(words.values())
    return found | {language: list(sentences) for language, sentences in SENTENCES.items()}


def lengths(whole: Engine, small: Engine, tokens: KeptTokens, texts: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """{what: tokens of its texts without a cut and with it, how many of the former are dropped}; checks what is promised."""
    found = {}
    for name, some in texts.items():
        row = {"whole": 0, "cut": 0, "missed": 0}
        for text in some:
            before, after = whole.tokenize(text, special=False), small.tokenize(text, special=False)
            counted = tokens.renumbered(before)
            if DROPPED not in counted and counted != after:
                raise AssertionError(f"other ids for {text!r}")
            if b"".join(small.piece(token, special=True) for token in after) != text.encode():
                raise AssertionError(f"another text than {text!r}")
            row["whole"] += len(before)
            row["cut"] += len(after)
            row["missed"] += counted.count(DROPPED)
        found[name] = row
    return found


def saved(checkpoint: Checkpoint, tokens: KeptTokens) -> dict[str, Any]:
    """Bytes of a 4B: of the embedding's rows by the type that they are stored in, and of the pieces with score and type."""
    pieces = read_vocabulary(checkpoint.folder, tokens.of)[0]
    dropped = sorted(set(range(tokens.of)) - set(tokens.ids.tolist()))
    rows = {}
    for kind in STORED_AS:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        rows[kind] = len(dropped) * WIDTH_4B // block * size
    # Of a piece a GGUF has its length in 8 bytes, its text, a score and a type of 4 bytes each.
    return {"rows_4b": rows, "pieces": sum(len(pieces[index]) + 16 for index in dropped)}


def mini_files(full: Path, small: Path, place: Path) -> dict[str, dict[str, int]]:
    """{recipe: bytes of medgemma-mini's language model, whole and cut}."""
    found = {}
    for recipe in RECIPES:
        sizes = {}
        for name, source in (("whole", full), ("cut", small)):
            quantize_language(source, place / "quantized.gguf", GGUF_RECIPES[recipe])
            sizes[name] = (place / "quantized.gguf").stat().st_size
        found[recipe] = sizes
    return found


def by_use(whole: Engine, data: Path, held: dict[str, list[str]]) -> dict[str, int]:
    """What a vocabulary of the tokens that other texts of the same three kinds use would miss of the held-back ones."""
    with (data / "medqa" / "test.jsonl").open(encoding="utf-8") as lines:
        questions = [json.loads(line)["question"] for number, line in enumerate(lines) if not 200 <= number < 500]
    used: set[int] = set()
    for text in [*contexts(data, 0, 700), *questions, *reports(data, 0, 400), *reports(data, 900, 4000)]:
        used.update(whole.tokenize(text, special=False))
    ids = [token for some in held.values() for text in some for token in whole.tokenize(text, special=False)]
    return {"tokens": len(used), "missed": sum(token not in used for token in ids), "of": len(ids)}


def dropped_mass(
    whole: Engine, tokens: KeptTokens, held: dict[str, list[str]], count: int
) -> dict[str, dict[str, float]]:
    """{kind of text: what the whole model gives to the dropped tokens together, after each token of some texts}."""
    lost = np.setdiff1d(np.arange(tokens.of), tokens.ids)
    found = {}
    for name, texts in held.items():
        masses = []
        for text in texts[:count]:
            rows = whole.logits([BOS, *whole.tokenize(text, special=False)[: BATCH - 1]]).astype(np.float64)
            weights = np.exp(rows - rows.max(axis=1, keepdims=True))
            masses.append(weights[:, lost].sum(axis=1) / weights.sum(axis=1))
        every = np.concatenate(masses)
        found[name] = {"places": len(every), "mean": float(every.mean()), "p99": float(np.quantile(every, 0.99))}
    return found


def nats_a_character(engine: Engine, texts: Sequence[str]) -> float:
    """How badly texts are foretold: -log of their probability, by the characters that they have."""
    total, characters = 0.0, 0
    for text in texts:
        ids = engine.tokenize(text, special=False)
        rows = engine.logits([BOS, *ids])[:-1].astype(np.float64)
        rows -= np.logaddexp.reduce(rows, axis=1, keepdims=True)
        total -= float(rows[np.arange(len(ids)), ids].sum())
        characters += len(text)
    return total / characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument(
        "--prompts", type=int, default=4, help="of each kind of text, for what is given to dropped tokens"
    )
    arguments = parser.parse_args()
    texts, held = texts_of(arguments.data), held_back(arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_medgemma_mini(place / "mini")
        checkpoint, full = open_gemma(place / "mini"), place / "full.gguf"
        write_language(checkpoint, full, "bf16")
        facts: dict[str, Any] = {"date": date.today().isoformat(), "choices": []}
        with Engine(full, context=BATCH, threads=1, measuring=True) as whole:
            facts["by_use"] = by_use(whole, arguments.data, held)
            for choice in CHOICES:
                scripts = parse_scripts(choice)
                tokens, small = tokens_by_script(checkpoint, scripts), place / "cut.gguf"
                write_language(cut(checkpoint, tokens), small, "bf16")
                row = {
                    "vocabulary": choice, "said": say_scripts(scripts), "kept": len(tokens.ids), "of": tokens.of,
                    "saved": saved(checkpoint, tokens),
                }  # fmt: skip
                with Engine(small, context=BATCH, threads=1, measuring=True) as engine:
                    row["texts"] = lengths(whole, engine, tokens, texts)
                    row["held_back"] = lengths(whole, engine, tokens, held)
                    if choice == FIRST:
                        row["dropped_mass"] = dropped_mass(whole, tokens, held, arguments.prompts)
                        row["nats_a_character"] = {
                            name: {
                                "whole": nats_a_character(whole, some),
                                "cut": nats_a_character(engine, some),
                            }
                            for name, some in SENTENCES.items()
                        }
                if choice == FIRST:
                    row["mini"] = mini_files(full, small, place)
                facts["choices"].append(row)
                print(json.dumps(row, ensure_ascii=False), flush=True)
    RESULTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
