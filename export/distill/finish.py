"""Finish a rounded language model: learn its blocks' scales and its norms from the model that it was made of.

After the last rounding the codes of a file stay, but its scales and norms can still be chosen. Layer by layer they are as good as
the quantizer could make them; what they should be for the model as a whole shows only in its answers. So factors of them are
trained until the rounded model's next-token distributions are near the full-precision model's, and are then put into the file,
whose types, size and speed stay (docs/decisions/0031-finish.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch.nn.utils import parametrize

from ...quant.distill.factors import BlockFactors, NormFactors
from ...quant.distill.train import process_state, train
from ...quant.gguf_file.matrix_rows import decoded, stored_rows
from ...quant.gguf_file.scales import HALVES, block_length, scaled
from ...runtime.bundles.manifest import sha256_file
from ...runtime.device.gguf_header import GGUFTensor, read_header
from ...runtime.errors import DistillationError
from ...runtime.pictures.images import Refused
from ...runtime.progress import Progress, no_progress
from ..families.cut_vocabulary import tokens_of
from ..families.generator_reference import GeneratorReference
from ..pages.distillation import Distillation
from ..source.checkpoint import Checkpoint
from ..to_gguf.write import plan_language
from .generator import module_name
from .job import Finish
from .next_tokens import TokenObjective, likeness, pass_facts, teacher_tokens
from .prompt_teacher import NextTokens, Prompt, Tokens, read_prompts
from .steps import schedule_of

ONE_IN = 16  # examples that are held back, where no others are given to judge by
HELD_BACK_MOST = 64


@dataclass(frozen=True)
class Learned:
    """A tensor of a file with factors that are learned.

    Attributes:
        tensor: where it lies.
        shift: what the file's values have more than the module's; a norm's are one more.
        module: whose "weight" it is.
        factors: of its blocks, or of a norm's channels.
    """

    tensor: GGUFTensor
    shift: float
    module: torch.nn.Module
    factors: BlockFactors | NormFactors


def finish(
    job: Finish, checkpoint: Checkpoint, file: Path, progress: Progress = no_progress
) -> tuple[Distillation, list[Refused]]:
    """Learn factors for a file and put them into it, from where an earlier run of the same job was interrupted.

    Args:
        job: what is asked for.
        checkpoint: that the file was made of, with the file's vocabulary.
        file: the language model as GGUF; changed in place.
        progress: called as work advances.

    Returns:
        what came of it, and a message for each image that could not be read.

    Raises:
        DistillationError: the data are too few, or what was learned is no nearer to the full-precision model on examples
            that were held back; the file is then as it was.
    """
    options = job.training
    state = process_state(cpu=options.cpu)
    tokens = Tokens(checkpoint)
    prompts, held = _examples(job, tokens)
    facts = pass_facts(job, checkpoint, prompts)
    shown, skipped = teacher_tokens(job, facts, prompts, "tokens", state, progress)
    judged, unread = teacher_tokens(job, pass_facts(job, checkpoint, held), held, "held-back", state, progress)
    skipped += unread
    if not len(shown) or not len(judged):
        raise DistillationError("no example is left: none of their images can be read")
    reference = GeneratorReference(job.teacher)
    reference.model.requires_grad_(False)
    learned = _rounded(reference, checkpoint, file)
    student = NextTokens(reference.model, tokens.image_id).to(state.device)
    progress("judging", 0, 1)
    before = likeness(student, judged)
    progress("judging", 1, 1)
    objective = TokenObjective(shown, "forward", partial(likeness, told=judged))
    about = {**facts, "file": sha256_file(file)}
    place = job.workplace / "train"
    curve = train(student, objective, schedule_of(options, decay=0.0), place, about, cpu=options.cpu, progress=progress)
    _put(file, learned)
    after = likeness(student, judged)
    if not after["divergence"] < before["divergence"]:
        raise DistillationError(
            f"the finish helped nothing: on {len(judged)} held-back examples the KL divergence was {before['divergence']:.4f} "
            f"before and is {after['divergence']:.4f} after; give more data, or a lower --rate"
        )
    result = Distillation(
        made=checkpoint.made_today(), kind="finish", student=file.name,
        teacher={"name": checkpoint.folder.name, "sha256": checkpoint.hashes},
        facts={
            "examples": len(shown), "with_image": int(sum(prompt.image is not None for prompt in prompts)),
            "skipped": len(skipped), "held_back_examples": len(judged),
            "factors": sum(one.factors.change.numel() for one in learned),
            "length": job.length, "positions": job.positions, "top": job.top, "training": options.facts(),
        },
        figures={**{f"{name}_before": value for name, value in before.items()}, **after},
        curves={"training": curve.rows},
    )  # fmt: skip
    return result, skipped


def _examples(job: Finish, tokens: Tokens) -> tuple[list[Prompt], list[Prompt]]:
    """Examples to learn from, and to judge by: of their own files, or some of all.

    Raises:
        DistillationError: too few for one of them.
    """
    prompts = read_prompts(job.data, tokens, job.length)
    if job.held_back:
        held = read_prompts(job.held_back, tokens, job.length)
    else:
        held = prompts[ONE_IN - 1 :: ONE_IN]
        prompts = [prompt for number, prompt in enumerate(prompts, 1) if number % ONE_IN]
    if not held:
        raise DistillationError(
            f"{len(prompts)} examples are too few: {ONE_IN} are needed, or others to judge by (--held-back)"
        )
    picks = np.unique(np.linspace(0, len(held) - 1, min(len(held), HELD_BACK_MOST)).astype(int))
    return prompts, [held[number] for number in picks]


def _rounded(reference: GeneratorReference, checkpoint: Checkpoint, file: Path) -> list[Learned]:
    """Put a file's weights into the model that it was made of, with factors of one for what is learned.

    The token table gets the file's values and no factors: its rows are read one by one, and most are met by no example.
    """
    found = list[Learned]()
    tensors, state, kept = read_header(file).tensors, reference.model.state_dict(), tokens_of(checkpoint)
    for planned in plan_language(checkpoint, "bf16"):
        tensor = tensors[planned.name]
        kind = Type[tensor.type]
        values = torch.from_numpy(decoded(stored_rows(file, tensor), kind) - np.float32(planned.shift))
        name = module_name(planned.source, state)
        table = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        rows = torch.from_numpy(kept.ids) if table and kept is not None else slice(len(values))
        place = state[name].reshape(-1, state[name].shape[-1])
        place[rows] = values.to(place.dtype)  # of the model's own memory
        module = reference.model.get_submodule(name.rpartition(".")[0])
        if table or (kind not in HALVES and not planned.shift):
            continue
        if planned.shift:
            factors: NormFactors | BlockFactors = NormFactors(values.shape[-1])
        else:
            factors = BlockFactors(values.shape[0], values.shape[1], block_length(kind))
        parametrize.register_parametrization(module, "weight", factors)
        found.append(Learned(tensor, planned.shift, module, factors))
    return found


def _put(file: Path, learned: Sequence[Learned]) -> None:
    """Write what was learned into the file, and give the model what the file has now: scales are rounded to halves."""
    for one in learned:
        stored, kind = stored_rows(file, one.tensor, "r+"), Type[one.tensor.type]
        factors = (1 + one.factors.change.detach()).float().cpu().numpy()
        if isinstance(one.factors, NormFactors):
            stored[:] = (stored.view("<f4") * factors).astype("<f4").view(np.uint8)
        else:
            stored[:] = scaled(stored, kind, factors)
        values = torch.from_numpy(decoded(stored, kind) - np.float32(one.shift))
        weight = one.module.get_parameter("parametrizations.weight.original")
        with torch.no_grad():
            one.factors.change.zero_()
            weight.copy_(values.reshape(weight.shape))
