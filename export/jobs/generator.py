"""From a MedGemma checkpoint to a gated GGUF bundle: write, quantize, measure, and only then give it its name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf

from ...quant.gguf_file.importance import Importance
from ...quant.gguf_file.quantize import encode_blocks, quantize_language
from ...quant.gguf_file.sensitivity import choose_types
from ...quant.recipes.gguf import GGUFRecipe, ProjectorRecipe, parse_gguf_recipes
from ...quant.recipes.onnx import Recipe
from ...quant.texts.prompts import medical_texts
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.manifest import Manifest, TowerFacts
from ...runtime.bundles.parity_report import ParityReport
from ...runtime.device.cpu import pick_target
from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError, RecipeError
from ...runtime.generator.generator import Generator
from ...runtime.golden.generator import write_golden_answers
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import PROFILE, _facts, open_gemma, vision_config
from ..families.generator_reference import GeneratorReference
from ..pages.parity import render_parity
from ..parity.generator import Material, measure_generator
from ..source.checkpoint import Checkpoint, read_json
from ..source.corpus import Choice, Corpus, iterate_texts, read_choices, read_corpus
from ..source.samples import builtin_samples, read_samples, spread
from ..to_gguf.write import write_language, write_projector
from ..to_onnx.image_tokens import write_image_tokens
from .calibrate import calibrate
from .generator_job import GeneratorJob

MEASURED_IMAGES = 16

FULL = "full.gguf"  # the full-precision language model among the files of an export that are not kept

ANY_CPU = "GGUF runs on any CPU: llama.cpp picks its kernels when it starts"


def export_medgemma(job: GeneratorJob, progress: Progress = no_progress) -> tuple[Bundle, ParityReport | None]:
    """Run an export; the bundle is written even when its gate fails, and is then marked so.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then.
    """
    recipe, projector_recipe = _job_recipes(job)
    target, reason = pick_target(job.target)
    with (
        new_bundle(job.out, force=job.force) as writer,
        tempfile.TemporaryDirectory(dir=writer.folder, prefix=".scratch-") as place,
    ):
        scratch = Path(place)
        checkpoint = open_gemma(job.checkpoint)
        sees = "vision_config" in checkpoint.config
        if job.merge and not sees:
            raise RecipeError(f"--merge is for a vision tower; {checkpoint.folder.name} reads text only")
        calibration, material = read_corpus(job.calibration), material_of(job.texts, job.images, job.tasks, sees=sees)
        towers: dict[str, TowerFacts] = {}
        runs_on, why = "any", ANY_CPU
        if not sees:
            pass
        elif isinstance(projector_recipe, ProjectorRecipe):
            towers["projector"] = _write_projector(writer, checkpoint, projector_recipe, progress)
        else:
            seen = calibration.images if len(calibration.images) else builtin_samples()
            inputs = seen.for_calibration(PROFILE, vision_config(checkpoint))
            runs_on, why = target.name, f"the vision tower in ONNX: {reason}"
            towers["projector"] = write_image_tokens(
                checkpoint, writer, projector_recipe, target, inputs, merge=job.merge, progress=progress
            )
        towers["language"] = _write_language(writer, job, checkpoint, recipe, scratch, calibration, progress)
        _write_companions(writer, checkpoint, towers)
        draft = Manifest(
            name=job.out.name, model=_facts(checkpoint), profile=PROFILE, target=runs_on,
            source={"name": checkpoint.folder.name, "sha256": checkpoint.hashes,
                    "target_reason": why,
                    "calibration": {"source": calibration.source, "texts": len(calibration.texts)}},
            towers=towers, medge_version=_version(),
        )  # fmt: skip
        generator = Generator(Bundle(writer.folder, writer.finish(draft)), context=2048)
        _check_stops(generator)
        write_golden_answers(generator, writer.add("golden.safetensors", "golden"))
        report = None
        if not job.skip_parity:
            baseline = None
            if recipe.importance:
                baseline = scratch / "plain.gguf"
                quantize_language(scratch / FULL, baseline, recipe)
            report = measure_generator(
                generator, GeneratorReference(job.checkpoint), material, baseline=baseline, progress=progress
            )
            for name, role, text in (
                ("parity.json", "parity", report.to_json()), ("parity.html", "parity.page", render_parity(report)),
            ):  # fmt: skip
                writer.add(name, role).write_text(text, encoding="utf-8")
        generator.close()
        manifest = writer.finish(replace(draft, parity=report.summary() if report else None))
    return Bundle(job.out, manifest), report


def _job_recipes(job: GeneratorJob) -> tuple[GGUFRecipe, ProjectorRecipe | Recipe]:
    """The recipes of the language model and of what sees.

    Raises:
        RecipeError: an unknown one, or one that does not fit the other options.
    """
    recipe, projector_recipe = parse_gguf_recipes(job.recipe, merging=bool(job.merge))
    if job.target_size is not None and not recipe.importance:
        raise RecipeError(f"--target-size chooses among quantized types; {recipe.name} is none, start from q4_k_m")
    if job.without_importance and (job.target_size is not None or job.importance is not None):
        raise RecipeError("--without-importance leaves nothing for --target-size or --importance to work with")
    return recipe, projector_recipe


def _write_projector(
    writer: BundleWriter, checkpoint: Checkpoint, recipe: ProjectorRecipe, progress: Progress
) -> TowerFacts:
    """Tower and projector for llama.cpp."""
    path = f"mmproj-{_label(checkpoint)}-{recipe.name.upper()}.gguf"
    write_projector_recipe(checkpoint, writer.add(path, "projector"), recipe, progress)
    return TowerFacts(recipe.name, path, decisions=_padding(checkpoint, recipe))


def _write_language(
    writer: BundleWriter, job: GeneratorJob, checkpoint: Checkpoint, recipe: GGUFRecipe, scratch: Path, calibration: Corpus,
    progress: Progress,
) -> TowerFacts:  # fmt: skip
    """The language model; a quantized one leaves its full-precision file as `FULL` in the scratch folder."""
    path = f"{_label(checkpoint)}-{recipe.name.upper()}.gguf"
    out = writer.add(path, "language")
    decisions: dict[str, Any] = {}
    if recipe.name in ("f16", "bf16"):
        write_language(checkpoint, out, "f16" if recipe.name == "f16" else "bf16", progress)
    else:
        full = scratch / FULL
        write_language(checkpoint, full, "bf16", progress)
        importance = None
        if recipe.importance and not job.without_importance:
            importance = _importance(job, checkpoint, full, scratch, calibration, progress)
        types = {}
        if job.target_size is not None:
            assert importance is not None
            types = choose_types(full, recipe, importance, job.target_size, calibration.texts, scratch, progress)
            decisions["target_size"] = job.target_size
        progress(f"quantizing to {recipe.name}", 0, 1)
        quantize_language(full, out, recipe, importance=importance, types=types)
        if importance is not None:
            decisions["importance_chunks"] = importance.chunks
    decisions["types"] = read_header(out).types()
    return TowerFacts(recipe.name, path, decisions=decisions)


def measure_generator_bundle(
    bundle: Bundle, reference: Path, material: Material, *, beside: Sequence[Path] = (),
    progress: Progress = no_progress,
) -> tuple[Bundle, ParityReport]:  # fmt: skip
    """`medge parity` of a generator: measure an existing bundle and put the result into it.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from.
    """
    checkpoint = open_gemma(reference)
    if checkpoint.hashes != bundle.manifest.source.get("sha256"):
        made_from = bundle.manifest.source.get("name")
        raise CheckpointError(
            f"{reference} is not what {bundle.folder.name} was made from ({made_from}): hashes differ"
        )
    recipe, _ = parse_gguf_recipes(bundle.manifest.towers["language"].recipe)
    generator = Generator(bundle, context=2048)
    with tempfile.TemporaryDirectory() as place:
        baseline = None
        if recipe.importance:
            full, baseline = Path(place) / "full.gguf", Path(place) / "plain.gguf"
            write_language(checkpoint, full, "bf16", progress)
            quantize_language(full, baseline, recipe)
            full.unlink()
        report = measure_generator(
            generator, GeneratorReference(reference), material, baseline=baseline, progress=progress
        )
    generator.close()
    others = [ParityReport.from_json((folder / "parity.json").read_text(encoding="utf-8")) for folder in beside]
    texts = {"parity.json": ("parity", report.to_json()), "parity.html": ("parity.page", render_parity(report, others))}
    return bundle.amend(replace(bundle.manifest, parity=report.summary()), texts), report


def write_projector_recipe(
    checkpoint: Checkpoint, out: Path, recipe: ProjectorRecipe, progress: Progress = no_progress
) -> None:
    """Write tower and projector as one recipe stores them."""
    block = gguf.GGMLQuantizationType[recipe.block] if recipe.block else None
    write_projector(
        checkpoint, out, recipe.precision, pad=block is not None, block_type=block,  # type: ignore[arg-type]
        encode=encode_blocks if block is not None else None, progress=progress,
    )  # fmt: skip


def _importance(
    job: GeneratorJob, checkpoint: Checkpoint, full: Path, scratch: Path, corpus: Corpus, progress: Progress
) -> Importance:
    if job.importance is not None:
        return Importance.load(job.importance)
    return calibrate(checkpoint, corpus, full=full, scratch=scratch, progress=progress)


def material_of(texts: Sequence[Path], images: Path | None, tasks: Sequence[Path], *, sees: bool) -> Material:
    """What parity is measured on: the given files, medge's own texts and pydicom's images where there are none."""
    chosen = list(iterate_texts(texts)) if texts else medical_texts(held_back=True)
    samples = (read_samples(images) if images else builtin_samples()) if sees else None
    if samples is not None:
        picks = [samples.images[index] for index in spread(len(samples), MEASURED_IMAGES)]
        samples = replace(samples, images=picks, truth=None)
    questions: dict[str, Sequence[Choice]] = {path.stem: read_choices(path) for path in tasks}
    return Material(chosen, samples, questions)


def _label(checkpoint: Checkpoint) -> str:
    """The beginning of the files' names, by the GGUF naming convention."""
    identity = gguf.Metadata.load(None, checkpoint.folder, None, 0)
    name = identity.name or checkpoint.folder.name
    return gguf.naming_convention(
        name, identity.basename, identity.finetune, identity.version, identity.size_label, None
    )


def _padding(checkpoint: Checkpoint, recipe: ProjectorRecipe) -> dict[str, Any]:
    from ...quant.onnx_graph.pad import MULTIPLE

    width = vision_config(checkpoint)["intermediate_size"]
    return {"mlp_width": width, "padded_to": width + -width % MULTIPLE} if recipe.block else {}


def _check_stops(generator: Generator) -> None:
    """llama.cpp finds the tokens that end an answer by their names: it must have found all that the checkpoint lists."""
    missed = [token for token in generator.facts.stop_ids if not generator.engine.ends(token)]
    if missed:
        raise CheckpointError(f"token {missed[0]} ends an answer by generation_config.json, but not for llama.cpp")


def _write_companions(writer: BundleWriter, checkpoint: Checkpoint, towers: dict[str, TowerFacts]) -> None:
    config = json.dumps(checkpoint.config, indent=2) + "\n"
    writer.add("config.json", "config").write_text(config)
    preprocessor = checkpoint.folder / "preprocessor_config.json"
    if preprocessor.is_file():
        writer.add("preprocessor_config.json", "preprocessor").write_text(
            json.dumps(read_json(preprocessor), indent=2) + "\n"
        )
    template = read_header(writer.folder / towers["language"].file).metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise CheckpointError(f"{checkpoint.folder}: no chat template in chat_template.jinja or tokenizer_config.json")
    writer.add("Modelfile", "ollama").write_text(modelfile(towers))


def modelfile(towers: dict[str, TowerFacts]) -> str:
    """An Ollama Modelfile: `ollama create medgemma -f Modelfile` inside the bundle.

    Ollama's templates are Go's, so the checkpoint's Jinja can't be handed over: Gemma's turns are written out here.
    """
    files = [towers[part].file for part in ("language", "projector") if part in towers]
    lines = [f"FROM ./{file}" for file in files if file.endswith(".gguf")]
    template = (
        "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user\n{{ .Content }}<end_of_turn>\n'
        "{{ if $last }}<start_of_turn>model\n{{ end }}"
        '{{- else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}{{ if not $last }}<end_of_turn>\n'
        "{{ end }}{{- end }}{{- end }}"
    )
    return "\n".join(
        [*lines, f'TEMPLATE """{template}"""', 'PARAMETER stop "<end_of_turn>"', "PARAMETER temperature 0", ""]
    )


def _version() -> str:
    from ... import __version__

    return __version__
