"""Distil a MedGemma (or other Gemma 3) into a shallower one by its next-token distributions; the result is a checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ...quant.distill.student import choose_layers
from ...quant.distill.train import process_state, train
from ...runtime.bundles.atomic import atomic_folder
from ...runtime.errors import DistillationError
from ...runtime.pictures.images import Refused
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import open_gemma, text_config
from ..families.generator_reference import GeneratorReference
from ..pages.distillation import Distillation
from ..source.checkpoint import INDEX, Checkpoint
from ..source.shard_writer import ShardWriter
from ..source.student_files import FACTS
from .job import GeneratorDistillation, check_texts_job, parse_layers
from .next_tokens import TokenObjective, judge, pass_facts, teacher_tokens
from .prompt_teacher import NextTokens, Prompt, Tokens, read_prompts
from .steps import one_run, schedule_of, write_result

GLOBAL_EVERY = 6  # Gemma 3's fixed pattern, which llama.cpp takes for granted: every sixth layer sees the whole context
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HELD_BACK_MOST = 32  # examples


def distill_medgemma(
    job: GeneratorDistillation, progress: Progress = no_progress
) -> tuple[Distillation, list[Refused]]:
    """Run a distillation, from where an earlier run of the same job was interrupted.

    Returns:
        what came of it, and a message for each image that could not be read.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then, and the work folder stays for going on.
    """
    check_texts_job(job)
    with one_run(job.out, job.training):
        return _distill(job, progress)


def _distill(job: GeneratorDistillation, progress: Progress) -> tuple[Distillation, list[Refused]]:
    checkpoint = open_gemma(job.teacher)
    tokens = Tokens(checkpoint)
    work = job.workplace
    state = process_state(cpu=job.training.cpu)
    with state.main_process_first():
        start, inherited = _start(job, checkpoint, work, progress)
    beginning = open_gemma(start)
    same_tokenizer(tokens, Tokens(beginning), job.teacher, start)
    prompts, held = _examples(job, tokens)
    options = job.training
    facts = pass_facts(job, checkpoint, prompts)
    told, skipped = teacher_tokens(job, facts, prompts, "tokens", state, progress)
    progress("judging", 0, 3)
    teacher_nll, teacher_best = judge(NextTokens(GeneratorReference(job.teacher).model, tokens.image_id), held)
    progress("judging", 1, 3)
    reference = GeneratorReference(start)
    student = NextTokens(reference.model, tokens.image_id)
    start_nll, start_best = judge(student, held)
    progress("judging", 2, 3)
    merge = _make_trainable(reference, job)

    def judged(model: torch.nn.Module) -> dict[str, float]:
        return {"perplexity": math.exp(judge(model, held)[0])}

    objective = TokenObjective(told, job.divergence, judged)
    schedule = schedule_of(options, decay=0.0)
    about = {
        **facts, "student": job.student if inherited else beginning.hashes,
        "divergence": job.divergence, "method": job.method, "rank": job.rank,
    }  # fmt: skip
    curve = train(student, objective, schedule, work / "train", about, cpu=options.cpu, progress=progress)
    merge()
    student.to("cpu")
    student_nll, student_best = judge(student, held)
    figures = _figures(teacher_nll, start_nll, student_nll) | {
        "same_first_choice_before": float((start_best == teacher_best).mean()),
        "same_first_choice": float((student_best == teacher_best).mean()),
    }
    result = Distillation(
        made=checkpoint.made_today(),
        kind="medgemma", student=job.student if inherited else Path(job.student).name,
        teacher={"name": checkpoint.folder.name, "sha256": checkpoint.hashes},
        facts={
            "examples": len(told), "with_image": int(sum(prompt.image is not None for prompt in prompts)) - len(skipped),
            "skipped": len(skipped), "held_back_texts": len(held), "held_back_tokens": len(teacher_best),
            "inherited_layers": inherited, **_settings(job),
        },
        figures=figures, curves={"training": curve.rows},
    )  # fmt: skip
    if not state.is_main_process:
        return result, skipped
    with atomic_folder(job.out, force=job.force) as folder:
        write_student(beginning, reference.model, folder)
        write_result(folder, result)
    shutil.rmtree(work / "train", ignore_errors=True)
    shutil.rmtree(work / f"start-{len(inherited)}", ignore_errors=True)
    return result, skipped


def _settings(job: GeneratorDistillation) -> dict[str, Any]:
    """What the user chose, for the page."""
    return {
        "length": job.length, "positions": job.positions, "top": job.top, "divergence": job.divergence,
        "method": job.method, "rank": job.rank if job.method == "lora" else None, "training": job.training.facts(),
    }  # fmt: skip


def _examples(job: GeneratorDistillation, tokens: Tokens) -> tuple[list[Prompt], list[Prompt]]:
    """Examples to train on, and texts to judge by: of their own files, or a fiftieth of the texts.

    Raises:
        DistillationError: too few for one of them.
    """
    prompts = read_prompts(job.data, tokens, job.length)
    if job.held_back:
        held = read_prompts(job.held_back, tokens, job.length)
    else:
        texts = [prompt for prompt in prompts if prompt.image is None]
        held = texts[::50]
        prompts = [p for p in prompts if p.image is not None] + [p for n, p in enumerate(texts) if n % 50]
    held = [prompt for prompt in held if prompt.image is None][:HELD_BACK_MOST]
    if not held or not prompts:
        raise DistillationError("too little text: some is needed to train on, and some to hold back (--held-back)")
    return prompts, held


def _figures(teacher: float, before: float, student: float) -> dict[str, float]:
    """Perplexities from mean negative log-likelihoods, and how much of the gap to the teacher the training closed."""
    gap, left = math.exp(before) - math.exp(teacher), math.exp(student) - math.exp(teacher)
    return {
        "perplexity_teacher": math.exp(teacher), "perplexity_before": math.exp(before),
        "perplexity_student": math.exp(student),
        "gap_recovered": 1 - left / gap if gap > 0 else 0.0,
        "log_gap_recovered": (before - student) / (before - teacher) if before > teacher else 0.0,
    }  # fmt: skip


def _start(job: GeneratorDistillation, teacher: Checkpoint, work: Path, progress: Progress) -> tuple[Path, list[int]]:
    """The student before training: a folder of its own, or some of the teacher's layers; and which."""
    if Path(job.student).is_dir():
        return Path(job.student), []
    count = parse_layers(job.student)
    config = text_config(teacher)
    types = layer_types(config["num_hidden_layers"])
    kept = choose_layers(types, layer_types(count))
    start = work / f"start-{len(kept)}"
    if not start.is_dir():
        progress("pruning", 0, 1)
        with atomic_folder(start) as folder:
            prune_layers(teacher, kept, folder)
    return start, kept


def layer_types(count: int) -> list[str]:
    return [
        "full_attention" if layer % GLOBAL_EVERY == GLOBAL_EVERY - 1 else "sliding_attention" for layer in range(count)
    ]


def prune_layers(checkpoint: Checkpoint, kept: Sequence[int], folder: Path) -> None:
    """Write a checkpoint with some of another's layers, renumbered; everything else as it is."""
    places = {old: new for new, old in enumerate(kept)}
    _copy_configuration(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config).update(num_hidden_layers=len(kept), layer_types=layer_types(len(kept)))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    with ShardWriter(folder) as shards:
        for name in checkpoint.in_file_order():
            head, mark, tail = name.partition("layers.")
            if not mark or "vision" in head:
                shards.add(name, checkpoint.tensor(name))
                continue
            number, _, rest = tail.partition(".")
            if int(number) in places:
                shards.add(f"{head}layers.{places[int(number)]}.{rest}", checkpoint.tensor(name))


def same_tokenizer(teacher: Tokens, student: Tokens, teacher_folder: Path, student_folder: Path) -> None:
    """Check that both mean the same by every token id.

    Raises:
        DistillationError: they don't; names a token.
    """
    a, b = teacher.vocabulary(), student.vocabulary()
    if a == b:
        return
    wrong = min(
        (piece for piece in a.keys() | b.keys() if a.get(piece) != b.get(piece)), key=lambda p: a.get(p, math.inf)
    )
    raise DistillationError(
        f"{student_folder} and {teacher_folder} have different tokenizers ({wrong!r} is {b.get(wrong)} in the one and "
        f"{a.get(wrong)} in the other); distilling tokens needs the teacher's own"
    )


def _make_trainable(reference: GeneratorReference, job: GeneratorDistillation) -> Callable[[], None]:
    """Let the layers of the language model learn, all of their weights or LoRA's; returns what puts LoRA's into place.

    Embeddings stay as inherited: they are tied to the output and larger than a small student's layers. Tower and projector
    stay, too.
    """
    reference.model.requires_grad_(False)
    language = reference.model.model.language_model if reference.sees else reference.model.model
    if job.method == "full":
        language.layers.requires_grad_(True)
        language.norm.requires_grad_(True)
        return lambda: None
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(job.training.seed)
    config = LoraConfig(r=job.rank, lora_alpha=2 * job.rank, target_modules=list(LORA_TARGETS))
    adapted = get_peft_model(language, config)  # puts its layers into the model in place

    def merge() -> None:
        adapted.merge_and_unload()

    return merge


def write_student(start: Checkpoint, model: Any, folder: Path) -> None:
    """Write a trained model under the names, and in the types, of the checkpoint that it began as."""
    state = model.state_dict()
    _copy_configuration(start, folder)
    with ShardWriter(folder) as shards:
        for name in start.in_file_order():
            stored = start.tensor(name)
            shards.add(name, state[module_name(name, state)].detach().to("cpu", stored.dtype))


def module_name(name: str, state: dict[str, Any]) -> str:
    """A published tensor's name in transformers' module tree; transformers 5 has no `vision_model` in the vision tower."""
    for candidate in (
        name, f"model.{name}", name.replace("language_model.model.", "model.language_model."),
        name.replace("vision_tower.vision_model.", "model.vision_tower."),
    ):  # fmt: skip
        if candidate in state:
            return candidate
    raise DistillationError(f"the model has no place for the tensor {name!r}")


def _copy_configuration(checkpoint: Checkpoint, folder: Path) -> None:
    """Everything of a checkpoint but its weights, and what an earlier distillation wrote about itself."""
    weights = {path.name for path in checkpoint.shards.values()} | {INDEX, FACTS, "distillation.html"}
    for path in sorted(checkpoint.folder.iterdir()):
        if path.is_file() and path.name not in weights:
            shutil.copyfile(path, folder / path.name)
