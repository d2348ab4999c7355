"""The runtime's token ids against transformers' SigLIP tokenizer on all the shared texts."""

import json
import string
from pathlib import Path

import numpy as np
import pytest

from medge.export.families.siglip_tokenizer import device_tokenizer
from medge.export.source.checkpoint import Checkpoint
from medge.export.standin.medsiglip.packed import unpack
from medge.runtime.bundles.facts import TokenizerFacts
from medge.runtime.encoder.tokenizer import Tokenizer

FACTS = TokenizerFacts(64, 1, 1)  # MedSigLIP's
ODD = [
    "", " ", "A CT, of the Head!", "naïve café ÜBER", "x" * 300, "片側 肺炎", "a\tb\n c", "(?!) ...", "1.5 mm³ 🫁",
    string.punctuation, "<b>a/b</b>",
]  # fmt: skip


def test_packed_tokenizer_is_medsiglips(shared: Path) -> None:
    _, packed = unpack()
    ours = json.loads(packed.to_str())["model"]
    theirs = json.loads((shared / "medsiglip_tokenizer" / "tokenizer.json").read_text())["model"]
    tokens, scores = zip(*ours.pop("vocab"), strict=True)
    their_tokens, their_scores = zip(*theirs.pop("vocab"), strict=True)
    assert ours == theirs
    assert tokens == their_tokens
    # The tokenizers library prints a score with one digit more or less than it read: a unit in the last place of a
    # float64, where the scores themselves are float32.
    np.testing.assert_array_equal(np.float32(scores), np.float32(their_scores))


def test_ids_equal_transformers(shared: Path, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    from transformers import SiglipTokenizer

    theirs = SiglipTokenizer(str(shared / "medsiglip_tokenizer" / "spiece.model"), model_max_length=64)
    items = json.loads((shared / "vqa_rad" / "qa.json").read_text())
    vqa_rad = [*dict.fromkeys([*(x["question"] for x in items), *(str(x["answer"]) for x in items)])]
    texts = [*vqa_rad, *ODD]
    assert len(texts) > 1500
    expected = theirs(texts, padding="max_length", max_length=64, truncation=True, return_tensors="np")["input_ids"]
    path = tmp_path / "tokenizer.json"
    path.write_text(device_tokenizer(Checkpoint.open(checkpoint)), encoding="utf-8")
    ours, _ = Tokenizer(path, FACTS, 32000).encode(texts)
    differ = [text for text, a, b in zip(texts, ours, expected, strict=True) if not np.array_equal(a, b)]
    assert differ == []

    # The counts that docs/decisions/0005-tokenizer.md gives. Zero here would mean that the file was corrected.
    published, _ = Tokenizer(shared / "medsiglip_tokenizer" / "tokenizer.json", FACTS, 32000).encode(vqa_rad)
    assert (len(vqa_rad), int((published != expected[: len(vqa_rad)]).any(axis=1).sum())) == (2063, 13)
