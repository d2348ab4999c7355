"""A SigLIP checkpoint's `tokenizer.json`, made to give the token ids that the model was trained and is published with.

MedSigLIP ships two tokenizers that disagree. SigLIP's training and transformers' `SiglipTokenizer` (which reads
`spiece.model`) strip all of ASCII's punctuation; the pattern in `tokenizer.json` forgets `/`, `<` and `>`, so that
"head/neck CT" becomes other tokens. A device has only `tokenizer.json`, hence the pattern is completed at export.
tests/export/families/test_tokenizer.py compares the result with `SiglipTokenizer`.
"""

from __future__ import annotations

import json
import re
import string
from typing import Any

from ...runtime.errors import CheckpointError
from ..source.checkpoint import Checkpoint, read_json

PUNCTUATION = f"[{re.escape(string.punctuation)}]"


def device_tokenizer(checkpoint: Checkpoint) -> str:
    """The text of the `tokenizer.json` that a bundle gets.

    Raises:
        CheckpointError: the file is missing or holds no JSON object.
    """
    path = checkpoint.folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; download it with the weights, or make it with transformers' convert_slow_tokenizer "
            "from spiece.model"
        )
    body = read_json(path)
    for step in _steps(body.get("normalizer")):
        if step.get("type") == "Replace" and step.get("content") == "" and _strips_punctuation(step.get("pattern")):
            step["pattern"] = {"Regex": PUNCTUATION}
    return json.dumps(body, ensure_ascii=False)


def _steps(normalizer: Any) -> list[dict[str, Any]]:
    if not isinstance(normalizer, dict):
        return []
    inner = normalizer.get("normalizers")
    return [item for item in inner if isinstance(item, dict)] if isinstance(inner, list) else [normalizer]


def _strips_punctuation(pattern: Any) -> bool:
    """Whether a pattern is a character class that holds most of the punctuation."""
    text = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
    return text.startswith("[") and sum(mark in text for mark in string.punctuation) > len(string.punctuation) // 2
