"""What the stand-in is asked about the three grey sets, in wordings that it was never trained on.

Tests and benchmarks judge bundles with it: pictures by `public_data.write_folder(data, name, "test", ...)`, whose folders are
the labels here.
"""

from __future__ import annotations

from ..public_data import MEDNIST_FACTS, VQA_RAD_PARTS
from .evaluate import TASKS, Answer
from .words import prompts

# Set -> label -> the facts that its prompts state.
SETS: dict[str, dict[str, Answer]] = {
    "mednist": {
        label: (("modality", facts["modality"]), ("part", facts["part"])) for label, facts in MEDNIST_FACTS.items()
    },
    "pneumoniamnist": {"normal": (("pneumonia", "no"),), "pneumonia": (("pneumonia", "yes"),)},
    "vqa_rad": {part: (("part", part),) for part in VQA_RAD_PARTS.values()},
}


def held_out_prompts(dataset: str) -> dict[str, list[str]]:
    """For each label of a set in SETS, its prompts, of which no wording was trained on."""
    return {label: prompts(TASKS[dataset], answer) for label, answer in SETS[dataset].items()}
