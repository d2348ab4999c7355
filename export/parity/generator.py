"""Measure a generator bundle against the full-precision PyTorch model: pixels, towers, logits, and answers.

Perplexity hides damage that changes answers, so the distance is taken between the two distributions at every position
(KL divergence), on text and on prompts with images, and then between the answers to multiple-choice questions.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...quant.recipes.gguf import RECIPES_OF
from ...quant.recipes.recipe import PIXELS, SAME_IDS, all_gates, look_up
from ...runtime.bundles import metrics
from ...runtime.bundles.figures import (
    GeneratorFigures,
    GeneratorPlots,
    GeneratorSizes,
    ImageFigures,
    PixelFigures,
    SameIds,
    SpeedFigures,
    StageRow,
    VocabularyFigures,
)  # fmt: skip
from ...runtime.bundles.gates import Gate
from ...runtime.bundles.parity_report import GeneratorReport, judge
from ...runtime.device.gguf_header import read_header
from ...runtime.generator.conversation import user
from ...runtime.generator.engine import Engine
from ...runtime.generator.generator import Generator
from ...runtime.generator.prompt import Item, Picture
from ...runtime.pictures.preprocess import normalise_pixels
from ..families.cut_vocabulary import DROPPED
from ..families.generator_reference import GeneratorReference
from ..source.corpus import Choice, passage_prompts
from ..source.samples import Samples, spread
from .divergence import CachedLogits, Divergence, diverge, key_of
from .encoder import cosine_intervals, speed_in_turns, spread_of
from .generator_stages import VISION_STAGES, llama_stages
from .kept_outputs import NOT_FOLLOWED, Course
from .questions import compare_task

QUESTION = "What does this image show?"
BOS = 2
# The prompts on which the share of dropped tokens is computed: it takes the PyTorch model another time through each.
MASS_PROMPTS = 4
Array = NDArray[Any]


@dataclass(frozen=True)
class Material:
    """What a generator is measured on.

    Attributes:
        texts: medical prose that neither calibration nor training saw.
        images: real images; each is put into a prompt.
        tasks: {name: questions}.
    """

    texts: Sequence[str]
    images: Samples | None = None
    tasks: dict[str, Sequence[Choice]] | None = None


def measure_generator(
    generator: Generator, logits: CachedLogits, material: Material, *, baseline: Callable[[], Path] | None = None,
    course: Course = NOT_FOLLOWED,
) -> GeneratorReport:  # fmt: skip
    """Compare a bundle with its reference.

    Args:
        generator: the bundle, opened.
        logits: of the PyTorch model that it was made from; several bundles can share them.
        material: what to measure on.
        baseline: makes the same model by llama.cpp's quantizer without a matrix, to be no worse than.
        course: how it is followed, and gone on with.
    """
    reference, manifest = logits.reference, generator.manifest
    language, projector = generator.bundle.path("language"), generator.bundle.path("projector")
    assert language is not None
    samples = material.images if generator.facts.image_tokens else None
    with Engine(language, projector, context=2048, measuring=True) as engine:
        prompts, passages = passage_prompts(engine.tokenize, material.texts, BOS)
        stages = {"language": llama_stages(language, None, prompts[0], logits)}
        found = diverge(engine.logits, logits, prompts, "text", passages, course)
        text, plain = found.figures(), None
        speed = _speed(engine, reference, prompts[0])
        expected = {text: reference.text_ids(text) for text in material.texts}
        same_ids = _same_ids(engine, expected)
        vocabulary = _compare_vocabulary(reference, expected, prompts, course)
        if baseline is not None:
            unweighed = _without_matrix(baseline, logits, prompts, passages, course)
            text, plain = found.against(unweighed), unweighed.figures()
        image = None
        if samples is not None:
            asked = [generator.encode([user(image, QUESTION)]) for image in samples.images]
            image = _compare_images(engine, logits, asked, course)
            stages["vision"] = _vision_stages(generator, asked[0], logits)
    figures = GeneratorFigures(
        size=_sizes(generator), text=text, tokenizer=SameIds(same_ids), speed=speed, baseline=plain, image=image,
        vocabulary=vocabulary,
        pixels=_compare_pixels(generator, reference, samples) if samples is not None else None,
        prompt=SameIds(_same_prompt(generator, reference, samples)) if samples is not None else None,
        tasks={
            name: compare_task(generator, logits, choices, name, course)
            for name, choices in (material.tasks or {}).items()
        },
    )  # fmt: skip
    return GeneratorReport(
        made=reference.checkpoint.made_today(), bundle=manifest.name, reference=reference.checkpoint.folder.name,
        machine=_machine(), recipes=manifest.artefacts["gguf"].recipes,
        profile=manifest.profile if "projector" in manifest.towers else "",
        images=len(material.images) if material.images is not None else 0, texts=len(prompts),
        labelled=bool(material.tasks), figures=figures, stages=stages, plots=GeneratorPlots(found.by_position()),
        gates=judge(figures, gates_of(manifest.artefacts["gguf"].recipes)),
    )  # fmt: skip


def gates_of(recipes: dict[str, str]) -> tuple[Gate, ...]:
    """Every gate of a language model's bundle, by {part: recipe}."""
    made = {part: look_up(name, *RECIPES_OF[part]) for part, name in recipes.items()}
    return all_gates(made, *SAME_IDS, *((PIXELS,) if "projector" in made else ()))


def _without_matrix(
    make: Callable[[], Path], logits: CachedLogits, prompts: Sequence[Sequence[Item]], passages: Sequence[Sequence[int]],
    course: Course,
) -> Divergence:  # fmt: skip
    """Of the file without a matrix, which is made and opened only where a prompt is not known yet."""
    with contextlib.ExitStack() as stack:
        opened = cache(lambda: stack.enter_context(Engine(make(), context=2048, measuring=True)))
        return diverge(lambda items: opened().logits(items), logits, prompts, "without a matrix", passages, course)


def _vision_stages(generator: Generator, items: Sequence[Item], logits: CachedLogits) -> tuple[StageRow, ...]:
    language, projector = generator.bundle.path("language"), generator.bundle.path("projector")
    assert language is not None
    assert projector is not None
    return VISION_STAGES[generator.manifest.towers["projector"].format](language, projector, items, logits)


def _compare_images(
    engine: Engine, logits: CachedLogits, prompts: Sequence[Sequence[Item]], course: Course
) -> ImageFigures:
    """The projected tokens of every picture, and the distributions on the prompts that hold them."""
    pictures = [item for items in prompts for item in items if isinstance(item, Picture)]
    theirs: list[Array] = []
    ours: list[Array] = []
    for number, picture in enumerate(pictures):
        tokens = [picture.key.encode() + str(token).encode() for token in range(picture.tokens)]
        for side, found, embed in (
            ("reference", theirs, logits.reference.image_embedding),
            ("bundle", ours, engine.image_embedding),
        ):
            found.append(course.outputs.rows(side, tokens, partial(embed, picture)))
        course.progress("image embeddings", number + 1, len(pictures))
    a, b = np.concatenate(theirs), np.concatenate(ours)
    seen = diverge(engine.logits, logits, prompts, "images", course=course).figures()
    centred, of_image = (
        metrics.centred_cosine(a, b),
        np.repeat(np.arange(len(pictures)), [len(rows) for rows in theirs]),
    )
    return ImageFigures(
        kld=seen.kld, same_top=seen.same_top, perplexity_ratio=seen.perplexity_ratio, perplexity=seen.perplexity,
        tokens=seen.tokens, units=seen.units, max_error=float(np.abs(a - b).max()), cosine=spread_of(metrics.cosine(a, b)),
        centred_cosine=spread_of(centred), intervals={**seen.intervals, **cosine_intervals(centred, of_image)},
    )  # fmt: skip


def _compare_pixels(generator: Generator, reference: GeneratorReference, samples: Samples) -> PixelFigures:
    """What enters the tower against what transformers' processor makes, in grey levels."""
    worst = 0.0
    for index in spread(len(samples), 64):
        image = samples.images[index]
        if image.dtype == np.uint8:  # transformers' processor scales by 255 whatever the depth
            ours, theirs = normalise_pixels(generator.picture(image).pixels), reference.pixels(image.astype(np.uint8))
            worst = max(worst, float(np.abs(np.subtract(ours, theirs)).max()) * 127.5)
    return PixelFigures(worst)


def _same_prompt(generator: Generator, reference: GeneratorReference, samples: Samples) -> bool:
    """Whether a question about an image becomes the ids that transformers' processor gives."""
    image = samples.images[0]
    ours = generator.encode([user(image, QUESTION)])
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    theirs = reference.prompt_ids([message], [image])
    flat = [
        i for item in ours for i in ([reference.image_token] * item.tokens if isinstance(item, Picture) else [item])
    ]
    return flat == theirs


def _same_ids(engine: Engine, expected: Mapping[str, list[int]]) -> bool:
    """Whether texts become the reference's ids; of one that needs a dropped token, whether its own ids give it back."""
    return all(
        engine.tokenize(text) == ids if DROPPED not in ids else _text_back(engine, text) == text
        for text, ids in expected.items()
    )


def _text_back(engine: Engine, text: str) -> str:
    return b"".join(engine.piece(token, special=True) for token in engine.tokenize(text)).decode()


def _compare_vocabulary(
    reference: GeneratorReference, expected: Mapping[str, list[int]], prompts: Sequence[Sequence[Item]], course: Course
) -> VocabularyFigures | None:
    """What a cut vocabulary lacks of the measured texts; None of a whole one."""
    tokens = reference.tokens
    if tokens is None:
        return None
    lost: list[float] = []
    for number, items in enumerate(prompts[:MASS_PROMPTS]):
        compute = partial(_dropped, reference, items)
        lost += course.outputs.value(("dropped", key_of(items)), compute)
        course.progress("dropped tokens", number + 1, min(len(prompts), MASS_PROMPTS))
    ids = [token for found in expected.values() for token in found]
    return VocabularyFigures(len(tokens.ids), tokens.of, ids.count(DROPPED) / len(ids), float(np.mean(lost)))


def _dropped(reference: GeneratorReference, items: Sequence[Item]) -> list[float]:
    return [float(value) for value in reference.dropped(items)]


def _sizes(generator: Generator) -> GeneratorSizes:
    header, projector = read_header(generator.header.path), generator.bundle.path("projector")
    return GeneratorSizes(
        language_bytes=header.path.stat().st_size, bits_per_weight=header.bits_per_weight(), types=header.types(),
        projector_bytes=projector.stat().st_size if projector is not None else None,
    )  # fmt: skip


def _speed(engine: Engine, reference: GeneratorReference, items: Sequence[Item]) -> SpeedFigures:
    """Time to read one prompt; benchmarks/generator_speed.py measures more."""
    reference.hidden(items[:8])
    engine.prefill(items[:8])
    # What begins otherwise makes the engine forget the prompt, which it would not evaluate again.
    return speed_in_turns(
        lambda: reference.hidden(items), lambda: engine.prefill(items), lambda: engine.prefill(items[1:9])
    )


def _machine() -> dict[str, str]:
    import llama_cpp

    return {"cpu": platform.machine(), "llama-cpp-python": llama_cpp.__version__, "torch": torch.__version__}
