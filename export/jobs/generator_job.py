"""What `medge export medgemma` is asked for, and whether it can be had; importing it loads neither torch nor gguf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...quant.recipes.gguf import GGUFRecipe, parse_gguf_recipes
from ...quant.recipes.recipe import Recipe
from ...runtime.bundles.atomic import refuse_existing
from ...runtime.device.cpu import pick_target
from ...runtime.errors import RecipeError
from ..families.gemma3 import open_gemma
from ..source.given import check_corpus, check_files, check_held_back, check_material
from ..to_gguf.scripts import parse_scripts


@dataclass(frozen=True)
class GeneratorJob:
    """What `medge export medgemma` is asked for.

    Attributes:
        checkpoint, out: folders.
        recipe: "q4_k_m", or "language=q4_k_m,projector=f16".
        merge: similar patches that each block of the vision tower merges; by recipe where None.
        target: the CPU whose kernels decide an ONNX tower's 8-bit format.
        calibration: text files, JSON lines, images or folders of them; built-in ones where empty.
        importance: a matrix made before; errors are then compensated only where `calibration` is given, too.
        without_importance: quantize without any, as fast as can be and less exact.
        target_size: bytes of the language model's file; types are then chosen by layer.
        vocabulary: scripts whose tokens stay, "latin" or "latin,cyrillic"; all tokens where None.
        texts, images, tasks: what parity is measured on.
        skip_parity: write the bundle unmeasured; the runtime then refuses it.
        force: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    recipe: str = "q4_k_m"
    merge: int | None = None
    target: str = "auto"
    calibration: tuple[Path, ...] = ()
    importance: Path | None = None
    without_importance: bool = False
    target_size: int | None = None
    texts: tuple[Path, ...] = ()
    images: Path | None = None
    tasks: tuple[Path, ...] = ()
    skip_parity: bool = False
    force: bool = False
    vocabulary: str | None = None


def read_job(job: GeneratorJob) -> tuple[GGUFRecipe, Recipe]:
    """The recipes of both parts; checks everything that can be checked before work begins, without torch.

    Raises:
        RecipeError: what does not exist or does not fit.
        StorageError: a bundle stands there already.
        CheckpointError, CorpusError, ImageError: the checkpoint or the data are not whole, or not where they should be.
    """
    recipe, projector = parse_gguf_recipes(job.recipe, merging=bool(job.merge))
    if job.target_size is not None and not recipe.importance:
        raise RecipeError(f"--target-size chooses among quantized types; {recipe.name} is none, start from q4_k_m")
    if job.target_size is not None and recipe.bits is not None:
        raise RecipeError(f"--target-size and {recipe.name} both say how large the file will be: leave one of them out")
    if job.without_importance and not recipe.plain:
        raise RecipeError(f"{recipe.name} can't be made without an importance matrix: leave --without-importance out")
    if job.without_importance and (job.target_size is not None or job.importance is not None):
        raise RecipeError("--without-importance leaves nothing for --target-size or --importance to work with")
    if job.vocabulary is not None:
        parse_scripts(job.vocabulary)
    pick_target(job.target)
    refuse_existing(job.out, force=job.force)
    checkpoint = open_gemma(job.checkpoint)
    if job.merge and "vision_config" not in checkpoint.config:
        raise RecipeError(f"--merge is for a vision tower; {checkpoint.folder.name} reads text only")
    check_files([job.importance] if job.importance else ())
    check_corpus(job.calibration)
    check_held_back(job.calibration, job.texts)
    check_material(job.texts, job.images, job.tasks)
    return recipe, projector
