"""Measure a generator bundle against the full-precision PyTorch model: pixels, towers, logits, and answers.

Perplexity hides damage that changes answers, so the distance is taken between the two distributions at every position
(KL divergence), on text and on prompts with images, and then between the answers to multiple-choice questions.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...quant.onnx_graph.graph import Graph
from ...quant.recipes.gguf import RECIPES_OF
from ...quant.recipes.recipe import PIXELS, SAME_IDS, all_gates, look_up
from ...runtime.bundles import metrics
from ...runtime.bundles.atomic import atomic_file
from ...runtime.bundles.parity_report import ParityReport, judge
from ...runtime.device.ggml import GGMLTensor
from ...runtime.device.gguf_header import read_header
from ...runtime.generator.conversation import user
from ...runtime.generator.engine import BATCH, Engine, Item, Picture
from ...runtime.generator.generator import Generator
from ...runtime.generator.image_tower import IMAGE_FEATURES
from ...runtime.pictures.preprocess import normalise_pixels
from ...runtime.progress import Progress, no_progress
from ..families.generator_reference import GeneratorReference
from ..source.corpus import SKIP, Choice, text_prompts
from ..source.samples import Samples, spread
from ..to_onnx.image_tokens import ImageTokens
from ..to_onnx.stages import run_stages, stage_labels
from ..to_onnx.towers import export_tower
from .stages import two_hops

QUESTION = "What does this image show?"
PROJECTED = "projected tokens"
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


@dataclass
class Divergence:
    """Per-position figures of two next-token distributions; arrays of equal length."""

    kld: list[float]
    same: list[bool]
    reference_nll: list[float]
    bundle_nll: list[float]
    place: list[int]

    @classmethod
    def empty(cls) -> Divergence:
        return cls([], [], [], [], [])

    def add(self, reference: Array, bundle: Array, following: Sequence[int], skip: int) -> None:
        """Logits, (N, vocabulary) each, and the tokens that do follow."""
        for start in range(skip, len(following), 64):  # float64 of a quarter million logits is large
            rows = slice(start, min(start + 64, len(following)))
            p = torch.from_numpy(reference[rows]).double().log_softmax(-1)
            q = torch.from_numpy(bundle[rows]).double().log_softmax(-1)
            target = torch.tensor(following[rows])[:, None]
            self.kld += (p.exp() * (p - q)).sum(-1).clamp(min=0).tolist()
            self.same += (p.argmax(-1) == q.argmax(-1)).tolist()
            self.reference_nll += (-p.gather(1, target)[:, 0]).tolist()
            self.bundle_nll += (-q.gather(1, target)[:, 0]).tolist()
            self.place += range(rows.start, rows.stop)

    def figures(self) -> dict[str, Any]:
        kld, same = np.array(self.kld), np.array(self.same, float)
        low, high = metrics.bootstrap(lambda rows: float(kld[rows].mean()), len(kld))
        difference = np.mean(self.bundle_nll) - np.mean(self.reference_nll)
        return {
            "kld": {"mean": float(kld.mean()), "low": low, "high": high, "median": float(np.median(kld)),
                    "p99": float(np.quantile(kld, 0.99))},
            "same_top": float(same.mean()), "perplexity_ratio": float(np.exp(difference)),
            "perplexity": float(np.exp(np.mean(self.reference_nll))), "tokens": len(kld),
        }  # fmt: skip


class CachedLogits:
    """The reference's logits by prompt, on disk: several bundles are measured against the same ones.

    Args:
        reference: the PyTorch model.
        folder: of this reference's logits, which later runs find again; where None, nothing is kept.
    """

    def __init__(self, reference: GeneratorReference, folder: Path | None) -> None:
        self.reference, self.folder = reference, folder

    def __call__(self, items: Sequence[Item], first: int = 0) -> Array:
        if self.folder is None:
            return self.reference.logits(items, first)
        prompt = repr(([item.key if isinstance(item, Picture) else item for item in items], first))
        path = self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.npy"
        if not path.is_file():
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, self.reference.logits(items, first))
        return np.load(path)


def measure_generator(
    generator: Generator, logits: CachedLogits, material: Material, *, baseline: Path | None = None,
    progress: Progress = no_progress,
) -> ParityReport:  # fmt: skip
    """Compare a bundle with its reference.

    Args:
        generator: the bundle, opened.
        logits: of the PyTorch model that it was made from; several bundles can share them.
        material: what to measure on.
        baseline: the same model by llama.cpp's quantizer without a matrix, to be no worse than.
        progress: called as work advances.
    """
    reference, towers = logits.reference, generator.manifest.towers
    language, projector = generator.bundle.path("language"), generator.bundle.path("projector")
    assert language is not None
    figures: dict[str, Any] = {"size": _sizes(generator)}
    plots: dict[str, Any] = {}
    stages: dict[str, list[dict[str, Any]]] = {}
    with Engine(language, projector, context=2048, measuring=True) as engine:
        bos = 2
        prompts = text_prompts(engine.tokenize, material.texts, bos)
        text = _diverge(engine, logits, prompts, progress, "text")
        figures["text"] = text.figures()
        plots["by_position"] = _by_position(text)
        figures["tokenizer"] = {"ids_equal": _same_ids(engine, reference, material.texts)}
        stages["language"] = _stages(language, None, prompts[0], reference)
        figures["speed"] = _speed(engine, reference, prompts[0])
        if baseline is not None:
            with Engine(baseline, context=2048, measuring=True) as plain:
                other = _diverge(plain, logits, prompts, progress, "without a matrix").figures()
            figures["baseline"] = other
            figures["text"]["kld"]["ratio_to_plain"] = figures["text"]["kld"]["mean"] / other["kld"]["mean"]
        if material.images is not None and generator.facts.image_tokens:
            asked = _image_prompts(generator, material.images)
            figures["pixels"] = _compare_pixels(generator, reference, material.images)
            figures["prompt"] = {"ids_equal": _same_prompt(generator, reference, material.images)}
            embeddings = _compare_images(engine, reference, asked, progress)
            figures["image"] = embeddings
            seen = _diverge(engine, logits, asked, progress, "images")
            figures["image"] |= seen.figures()
            assert projector is not None
            stages["vision"] = _VISION_STAGES[towers["projector"].format](language, projector, asked[0], reference)
    figures["tasks"] = {
        name: _compare_task(generator, logits, choices, progress, name)
        for name, choices in (material.tasks or {}).items()
    }
    recipes = generator.manifest.artefacts["gguf"].recipes
    made = {part: look_up(name, *RECIPES_OF[part]) for part, name in recipes.items()}
    common = (*SAME_IDS, *((PIXELS,) if "projector" in made else ()))
    return ParityReport(
        bundle=generator.manifest.name, reference=reference.checkpoint.folder.name, machine=_machine(), recipes=recipes,
        profile=generator.manifest.profile if "projector" in made else "",
        images=len(material.images) if material.images is not None else 0,
        texts=len(prompts), labelled=bool(material.tasks), figures=figures, stages=stages,
        gates=judge(figures, all_gates(made, *common)), plots=plots, kind="generator",
    )  # fmt: skip


def _diverge(
    engine: Engine, logits: Callable[[Sequence[Item]], Array], prompts: Sequence[Sequence[Item]],
    progress: Progress, what: str,
) -> Divergence:  # fmt: skip
    found = Divergence.empty()
    for number, items in enumerate(prompts):
        ids = [item for item in items if not isinstance(item, Picture)]
        # The token that follows a text token in the text; an image between two is no token to predict.
        skip = SKIP if len(ids) > SKIP * 2 else 0
        found.add(logits(items)[:-1], engine.logits(items)[:-1], ids[1:], skip)
        progress(what, number + 1, len(prompts))
    return found


def _image_prompts(generator: Generator, samples: Samples) -> list[list[Item]]:
    return [generator.encode([user(image, QUESTION)]) for image in samples.images]


def _compare_images(
    engine: Engine, reference: GeneratorReference, prompts: Sequence[Sequence[Item]], progress: Progress
) -> dict[str, Any]:
    pictures = [item for items in prompts for item in items if isinstance(item, Picture)]
    theirs, ours = [], []
    for number, picture in enumerate(pictures):
        theirs.append(reference.image_embedding(picture))
        ours.append(engine.image_embedding(picture))
        progress("image embeddings", number + 1, len(pictures))
    a, b = np.concatenate(theirs), np.concatenate(ours)
    raw, centred = metrics.cosine(a, b), metrics.centred_cosine(a, b)
    return {
        "max_error": float(np.abs(a - b).max()),
        "cosine": {"mean": float(raw.mean()), "min": float(raw.min())},
        "centred_cosine": {"mean": float(centred.mean()), "min": float(centred.min())},
    }


def _compare_pixels(generator: Generator, reference: GeneratorReference, samples: Samples) -> dict[str, float]:
    """What enters the tower against what transformers' processor makes, in grey levels."""
    worst = 0.0
    for index in spread(len(samples), 64):
        image = samples.images[index]
        if image.dtype == np.uint8:  # transformers' processor scales by 255 whatever the depth
            ours, theirs = normalise_pixels(generator.picture(image).pixels), reference.pixels(image.astype(np.uint8))
            worst = max(worst, float(np.abs(np.subtract(ours, theirs)).max()) * 127.5)
    return {"max_error": worst}


def _same_prompt(generator: Generator, reference: GeneratorReference, samples: Samples) -> bool:
    """Whether a question about an image becomes the ids that transformers' processor gives."""
    image = samples.images[0]
    ours = generator.encode([user(image, QUESTION)])
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    theirs = reference.prompt_ids([message], [image])
    token = reference.checkpoint.config.get("image_token_index", 262_144)
    flat = [i for item in ours for i in ([token] * item.tokens if isinstance(item, Picture) else [item])]
    return flat == list(theirs)


def _same_ids(engine: Engine, reference: GeneratorReference, texts: Sequence[str]) -> bool:
    tokenizer = getattr(reference.processor, "tokenizer", reference.processor)
    return all(engine.tokenize(text) == tokenizer(text, add_special_tokens=False).input_ids for text in texts)


def score_options(
    logits: Callable[[Sequence[Item], int], Array], items: list[Item], options: Sequence[Sequence[int]]
) -> list[float]:
    """Log-likelihood of each option after a prompt; options of several tokens are evaluated one by one."""
    if all(len(option) == 1 for option in options):
        row = logits(items, len(items) - 1)[-1].astype(np.float64)
        row -= np.logaddexp.reduce(row)
        return [float(row[option[0]]) for option in options]
    scores = []
    for option in options:
        rows = logits([*items, *option], len(items) - 1)[:-1].astype(np.float64)
        rows -= np.logaddexp.reduce(rows, axis=-1, keepdims=True)
        scores.append(float(rows[np.arange(len(option)), list(option)].sum()))
    return scores


def _compare_task(
    generator: Generator, logits: CachedLogits, choices: Sequence[Choice], progress: Progress, name: str
) -> dict[str, Any]:
    """Accuracy of both by option log-likelihood, with paired bootstrap intervals, and how many answers changed."""
    scores: dict[str, list[list[float]]] = {"reference": [], "bundle": []}
    language = generator.bundle.path("language")
    assert language is not None
    with Engine(language, generator.bundle.path("projector"), context=4096, measuring=True) as engine:
        for number, choice in enumerate(choices):
            parts = [choice.question] if choice.image is None else [choice.image, choice.question]
            items = generator.encode([user(*parts)])
            options = [engine.tokenize(option) for option in choice.options]
            scores["reference"].append(score_options(logits, items, options))
            scores["bundle"].append(score_options(engine.logits, items, options))
            progress(name, number + 1, len(choices))
    right = np.array([choice.answer for choice in choices])
    picked = {side: np.array([int(np.argmax(row)) for row in rows]) for side, rows in scores.items()}
    good = {side: (values == right).astype(float) for side, values in picked.items()}

    def interval(values: Array) -> dict[str, float]:
        low, high = metrics.bootstrap(lambda rows: float(values[rows].mean()), len(values))
        return {"value": float(values.mean()), "low": low, "high": high}

    return {
        "items": len(choices), "flips": float((picked["reference"] != picked["bundle"]).mean()),
        "accuracy": {**{side: interval(values) for side, values in good.items()},
                     "difference": interval(good["bundle"] - good["reference"])},
        "majority": float(np.bincount(right).max() / len(right)),
    }  # fmt: skip


def _by_position(found: Divergence) -> dict[str, list[float]]:
    """Share of equal first choices and mean KL divergence by place in the prompt, in eight bins."""
    place, same, kld = np.array(found.place), np.array(found.same, float), np.array(found.kld)
    edges = np.linspace(0, place.max() + 1, 9)
    which = np.digitize(place, edges) - 1
    bins = [index for index in range(8) if (which == index).any()]
    return {
        "place": [float(edges[i : i + 2].mean()) for i in bins],
        "same_top": [float(same[which == i].mean()) for i in bins],
        "kld": [float(kld[which == i].mean()) for i in bins],
    }


def _stages(
    language: Path, projector: Path | None, items: Sequence[Item], reference: GeneratorReference
) -> list[dict[str, Any]]:
    """Relative error of every block's output, by llama.cpp's callback on one side and hooks on the other."""
    exact = reference.stages(items)
    found: dict[str, Array] = {}

    def observe(address: int, ask: bool) -> bool:
        node = GGMLTensor.from_address(address)
        name = node.name.decode("utf-8", "replace")
        if name in exact and not ask and node.data:
            width, rows = node.ne[0], node.ne[1] * node.ne[2] * node.ne[3]
            buffer = (ctypes.c_float * (width * rows)).from_address(node.data)
            found.setdefault(name, np.ctypeslib.as_array(buffer).reshape(rows, width).copy())
        return name in exact

    # All in one batch and with every output, so that the last block is not cut down to the rows that are asked for.
    with Engine(language, projector, context=BATCH, measuring=True, observer=observe) as engine:
        pairs = {"logits": (reference.logits(items), engine.logits(items))}
        pictures = [item for item in items if isinstance(item, Picture)]
        if projector is not None:
            ours = np.concatenate([engine.image_embedding(picture) for picture in pictures])
            pairs = {PROJECTED: (np.concatenate([reference.image_embedding(p) for p in pictures]), ours)}
    blocks = [name for name in exact if name.startswith("layer_out" if projector else "l_out")]
    wanted = ["pos_embed", *blocks, "norm_b"] if projector else blocks
    stages = {_stage_label(name): (exact[name], found[name]) for name in wanted} | pairs
    return [
        {
            "stage": label,
            "pytorch_to_bundle": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
            "max_error": float(np.abs(ours - theirs).max()),
        }
        for label, (theirs, ours) in stages.items()
    ]


def _onnx_stages(_: Path, path: Path, items: Sequence[Item], reference: GeneratorReference) -> list[dict[str, Any]]:
    """Relative error after each part of an ONNX tower: of the exporter, and of what was made smaller or merged."""
    pictures = [item for item in items if isinstance(item, Picture)]
    pixels = np.stack([normalise_pixels(picture.pixels) for picture in pictures])
    model = reference.model.model
    graph = export_tower(
        ImageTokens(model.vision_tower.vision_model, model.multi_modal_projector, 0), "image_tokens"
    )  # fmt: skip
    labels = stage_labels(graph) | {IMAGE_FEATURES: PROJECTED}
    full, small = run_stages(graph, labels, pixels), run_stages(Graph.load(path), labels, pixels)
    stages = reference.stages(items)
    exact = {_stage_label(name): stages[name] for name in stages if not name.startswith("l_out")}
    exact[PROJECTED] = np.stack([reference.image_embedding(picture) for picture in pictures])
    return two_hops({label: exact[label].reshape(full[label].shape) for label in full}, full, small)


_VISION_STAGES: dict[str, Callable[[Path, Path, Sequence[Item], GeneratorReference], list[dict[str, Any]]]] = {
    "gguf": _stages, "onnx": _onnx_stages,
}  # fmt: skip


def _stage_label(name: str) -> str:
    """What a person calls the place that llama.cpp names so."""
    known = {"pos_embed": "patch embedding", "norm_b": "tower output"}
    return known.get(name, name.replace("layer_out-", "block ").replace("l_out-", "block "))


def _sizes(generator: Generator) -> dict[str, Any]:
    header = read_header(generator.header.path)
    sizes: dict[str, Any] = {
        "language_bytes": header.path.stat().st_size, "bits_per_weight": header.bits_per_weight(), "types": header.types(),
    }  # fmt: skip
    if (projector := generator.bundle.path("projector")) is not None:
        sizes["projector_bytes"] = projector.stat().st_size
    return sizes


def _speed(engine: Engine, reference: GeneratorReference, items: Sequence[Item]) -> dict[str, float]:
    """Time to read one prompt, a ratio for orientation; benchmarks/generator_speed.py measures properly."""
    times = {}
    for name, call in (("pytorch", reference.hidden), ("bundle", engine.prefill)):
        call(items[:8])
        start = time.perf_counter()
        call(items)
        times[name] = time.perf_counter() - start
    return {
        **{f"{name}_seconds": value for name, value in times.items()},
        "ratio_to_pytorch": times["bundle"] / times["pytorch"],
    }


def _machine() -> dict[str, str]:
    import llama_cpp

    return {"cpu": platform.machine(), "llama-cpp-python": llama_cpp.__version__, "torch": torch.__version__}
