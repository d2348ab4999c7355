"""What the stand-in is judged by: python -m medge.export.standin.medsiglip.evaluate --run DIR --cache ... --out FILE

prints, for the test parts: the kind of picture in one zero-shot list, macro AUC inside each domain, VQA-RAD's organ,
a linear probe on all domains with a training part, and the four pictures of `medge demo`, each beside what is demanded.
FILE gets all of it with what the training folder DIR says of the run: of it docs/make_card.py makes the model card.
"""

from __future__ import annotations

import argparse
import collections
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import SiglipModel

from ....runtime.bundles.metrics import accuracy, macro_auc
from ....runtime.decisions.probability import softmax
from ....runtime.encoder.linear_probe import fit_probe
from ....runtime.errors import MedgeError
from ....runtime.pictures.images import read_image
from ....runtime.pictures.preprocess import preprocess
from .architecture import CONFIG
from .cache import Cache, counts, licences
from .model import build, image_embeddings, text_embeddings
from .packed import PACKED, unpack
from .words import LISTED_KINDS, QUESTIONS, prompts

Answer = tuple[tuple[str, str], ...]
# The question that each set's classes answer.
TASKS = {
    "mednist": "kind", "pneumoniamnist": "pneumonia", "vqa_rad": "organ", "cxr_pneumonia": "infection",
    "cxr_nih": "film", "cxr_covid": "infection", "us_breast_busi": "breast", "us_lung_pocus": "lung",
    "mri_brain_tumour": "brain", "cells_blood": "cell",
}  # fmt: skip
# Classes that are no single answer.
SEVERAL: dict[tuple[str, str], list[Answer]] = {
    ("cxr_covid", "other_pneumonia"): [(("infection", "bacterial"),), (("infection", "viral"),)],
}
TRAINED = 10  # training pictures that make a class a trained one
PROBE_MOST = 600  # pictures of one domain that a probe is fitted on
DEMANDED = {
    "kind_accuracy": 0.93, "zero_shot_auc_mean": 0.80, "zero_shot_auc_lowest": 0.65, "vqa_rad_organ_accuracy": 0.80,
    "probe_auc_mean": 0.85, "demo_right": 4,
}  # fmt: skip
DEMO = {"CT_small.dcm": "ct", "MR_small.dcm": "mri", "examples_ybr_color.dcm": "us", "RG1_UNCR.dcm": "xray"}


def prepare_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Padded and cut to 64 as MedSigLIP's is."""
    tokenizer.enable_padding(length=64, pad_id=1, pad_token="</s>")
    tokenizer.enable_truncation(64)
    return tokenizer


class Judge:
    """A model with its tokenizer, asked about the pictures of a cache; embeddings are made once."""

    def __init__(self, model: SiglipModel, tokenizer: Tokenizer, cache: Cache, profile: str = "eval-tf") -> None:
        self.model, self.tokenizer = model.eval(), prepare_tokenizer(tokenizer)
        self.cache, self.profile = cache, profile
        self._known: dict[int, NDArray[np.float32]] = {}

    @torch.no_grad()
    def images(self, indices: Iterable[int]) -> NDArray[np.float32]:
        """Embeddings, (N, width), of these pictures."""
        wanted = list(indices)
        missing = [index for index in dict.fromkeys(wanted) if index not in self._known]
        for start in range(0, len(missing), 32):
            part = missing[start : start + 32]
            found = self.pictures([self.cache.image(index) for index in part])
            self._known.update(zip(part, found, strict=True))
        return np.stack([self._known[index] for index in wanted])

    @torch.no_grad()
    def pictures(self, images: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Embeddings, (N, width), of pictures, each (H, W) or (H, W, 3), of 8 or 16 bits."""
        side = self.model.config.vision_config.image_size
        colour = [np.stack([image] * 3, -1) if image.ndim == 2 else image for image in images]
        pixels = np.stack([preprocess(image, self.profile, side) for image in colour])
        return image_embeddings(self.model, torch.from_numpy(pixels).to(self.model.device)).cpu().numpy()

    @torch.no_grad()
    def texts(self, question: str, answers: list[list[Answer]], *, held_out: bool) -> NDArray[np.float32]:
        """For each class, the mean of its prompts' embeddings, (classes, width)."""
        rows = []
        for several in answers:
            words = [text for answer in several for text in prompts(question, answer, held_out=held_out)]
            ids = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(words)])
            mean = text_embeddings(self.model, ids.to(self.model.device)).mean(0)
            rows.append((mean / mean.norm()).cpu().numpy())
        return np.stack(rows)

    def probabilities(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax over the classes, (N, classes), at the model's own scale."""
        logits = (images @ texts.T).astype(np.float64) * float(self.model.logit_scale.detach().exp())
        return softmax(logits)


def trained_labels(cache: Cache, domain: str) -> list[str]:
    """The classes of a domain of which enough pictures are trained on."""
    counts = collections.Counter(cache.rows[index].label for index in cache.select("train", domain=domain, ships=True))
    return sorted(label for label, count in counts.items() if count >= TRAINED)


def zero_shot(
    judge: Judge, domain: str, indices: list[int], labels: list[str], *, held_out: bool
) -> dict[str, float]:  # fmt: skip
    """Macro AUC and accuracy of one domain's classes on these pictures; others are left out."""
    rows = judge.cache.rows
    indices = [index for index in indices if rows[index].label in labels]
    if len({rows[index].label for index in indices}) < 2:
        return {}
    question = TASKS[domain]
    answers = []
    for label in labels:
        facts = next(rows[index].facts for index in indices if rows[index].label == label)
        one = tuple((key, facts.get(key, "")) for key in QUESTIONS[question].keys)
        answers.append(SEVERAL.get((domain, label), [one]))
    scores = judge.probabilities(judge.images(indices), judge.texts(question, answers, held_out=held_out))
    truth = np.array([labels.index(rows[index].label) for index in indices])
    return {"auc": macro_auc(scores, truth), "accuracy": accuracy(scores, truth), "pictures": float(len(truth))}


def trained_kinds(cache: Cache) -> list[tuple[str, str]]:
    """The kinds (modality and part) in the one list: those of which pictures are trained on."""
    trained = {_kind(cache.rows[index].facts) for index in cache.select("train", ships=True)}
    return [kind for kind in LISTED_KINDS if kind in trained]


def kinds(judge: Judge, indices: list[int], listed: list[tuple[str, str]], *, held_out: bool) -> dict[str, Any]:
    """Accuracy in one list of kinds, over all pictures whose kind is known and in the list."""
    rows = judge.cache.rows
    asked = [index for index in indices if _kind(rows[index].facts) in listed]
    answers: list[list[Answer]] = [[(("modality", modality), ("part", part))] for modality, part in listed]
    scores = judge.probabilities(judge.images(asked), judge.texts("kind", answers, held_out=held_out))
    right = scores.argmax(1) == np.array([listed.index(_kind(rows[index].facts)) for index in asked])
    by_domain: dict[str, list[bool]] = collections.defaultdict(list)
    for index, good in zip(asked, right, strict=True):
        by_domain[rows[index].domain].append(bool(good))
    domains = {domain: float(np.mean(found)) for domain, found in by_domain.items()}
    return {
        "listed": [list(kind) for kind in listed],
        "accuracy": float(right.mean()),
        "mean_of_domains": float(np.mean(list(domains.values()))),
        "domains": domains,
    }


def _kind(facts: dict[str, str]) -> tuple[str, str]:
    return facts.get("modality", ""), facts.get("part", "")


def probes(judge: Judge, seed: int = 0) -> dict[str, float]:
    """Macro AUC on the test part of a probe fitted on the training part, for every domain that has both."""
    cache, out = judge.cache, {}
    rng = np.random.default_rng(seed)
    for domain in dict.fromkeys(row.domain for row in cache.rows):
        train = cache.select("train", "val", domain=domain)
        test = cache.select("test", domain=domain)
        if len({cache.rows[index].label for index in train}) < 2:
            continue
        train = sorted(rng.permutation(train)[:PROBE_MOST].tolist())
        labels = [cache.rows[index].label for index in train]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations; the strength that did not converge is not chosen
            probe = fit_probe(judge.images(train), labels, "standin")
        test = [index for index in test if cache.rows[index].label in probe.labels]
        truth = np.array([probe.labels.index(cache.rows[index].label) for index in test])
        out[domain] = macro_auc(probe.predict(judge.images(test)), truth)
    return out


def demo_pictures(judge: Judge, *, held_out: bool) -> dict[str, dict[str, Any]]:
    """How pydicom's CT, MR, ultrasound and chest film were made, by the model; those that are installed."""
    from pydicom.data import get_testdata_file

    names = ["xray", "ct", "mri", "us", "microscopy"]
    texts = judge.texts("modality", [[(("modality", name),)] for name in names], held_out=held_out)
    out = {}
    for file, truth in DEMO.items():
        path = get_testdata_file(file, download=False)
        if path is None:
            continue
        scores = judge.probabilities(judge.pictures([read_image(Path(str(path)))]), texts)[0]
        found = names[int(scores.argmax())]
        out[file] = {"truth": truth, "found": found, "softmax": float(scores.max()), "right": found == truth}
    return out


def validation(judge: Judge, most: int = 40) -> dict[str, Any]:
    """The figures that training is watched by: on pictures set apart for it, in trained wordings."""
    cache = judge.cache
    chosen: list[int] = []
    out: dict[str, Any] = {}
    for domain in TASKS:
        indices = cache.select("val", domain=domain, ships=True)
        part = indices[:: max(len(indices) // most, 1)]
        chosen += part
        present = {cache.rows[index].label for index in part}
        labels = [label for label in trained_labels(cache, domain) if label in present]
        figures = zero_shot(judge, domain, part, labels, held_out=False)
        if figures:
            out[domain] = round(figures["auc"], 4)
    out["mean"] = round(float(np.mean(list(out.values()))), 4) if out else None
    out["kind"] = round(kinds(judge, chosen, trained_kinds(cache), held_out=False)["accuracy"], 4)
    return out


def figures(judge: Judge, *, held_out: bool = True, probe: bool = True) -> dict[str, Any]:
    """Everything that is demanded of the weights, from the test parts, with the detail behind it.

    Args:
        held_out: ask in wordings that were never trained on; trained ones where it is False.
        probe: fit and judge the probes, too, which takes most of the time.
    """
    cache = judge.cache
    domains: dict[str, dict[str, float]] = {}
    all_classes: dict[str, dict[str, float]] = {}
    for domain in TASKS:
        test = cache.select("test", domain=domain)
        domains[domain] = zero_shot(judge, domain, test, trained_labels(cache, domain), held_out=held_out)
        every = sorted({cache.rows[index].label for index in test})
        all_classes[domain] = zero_shot(judge, domain, test, every, held_out=held_out)
    counted = {domain: found["auc"] for domain, found in domains.items() if found}
    kind = kinds(judge, cache.select("test"), trained_kinds(cache), held_out=held_out)
    out: dict[str, Any] = {
        "kind_accuracy": kind["accuracy"],
        "zero_shot_auc_mean": float(np.mean(list(counted.values()))),
        "zero_shot_auc_lowest": min(counted.values()),
        "vqa_rad_organ_accuracy": domains["vqa_rad"]["accuracy"],
    }
    detail: dict[str, Any] = {"kind": kind, "zero_shot": domains, "zero_shot_untrained_classes_too": all_classes}
    if probe:
        detail["probe"] = probes(judge)
        out["probe_auc_mean"] = float(np.mean(list(detail["probe"].values())))
    detail["demo"] = demo_pictures(judge, held_out=held_out)
    out["demo_right"] = sum(picture["right"] for picture in detail["demo"].values())
    return {"figures": out, "detail": detail}


def open_weights(path: Path) -> tuple[SiglipModel, Tokenizer]:
    """The model and tokenizer of a packed file."""
    state, tokenizer = unpack(path)
    model = build(CONFIG, 0)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    return model, tokenizer


def training(folder: Path) -> dict[str, Any]:
    """What a training folder says of its run: seed, steps, minutes and on what, phases, mixture, the pictures' SHA-256.

    Raises:
        MedgeError: the run has not come to its end.
    """
    state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    recipe, pictures = json.loads(state["made_by"])
    steps = sum(phase["steps"] for phase in recipe["phases"])
    if state["step"] < steps:
        raise MedgeError(f"the run in {folder} is at step {state['step']} of {steps}; train it to its end first")
    return {
        "seed": recipe["seed"], "steps": steps, "minutes": round(state["seconds"] / 60, 1), "made_on": state["made_on"],
        "phases": recipe["phases"], "mix": recipe["mix"], "pictures": pictures,
    }  # fmt: skip


def record(judge: Judge, weights: Path, run: Path) -> dict[str, Any]:
    """All that is stored beside the weights.

    Args:
        judge: with the weights opened.
        weights: the packed file.
        run: the training folder.
    """
    trained = training(run)  # first: a run that has not ended is refused at once
    found = figures(judge)
    return {
        "training": trained,
        "weights": {
            "bytes": weights.stat().st_size,
            "parameters": sum(tensor.numel() for tensor in judge.model.parameters()),
            "words": int(judge.model.text_model.embeddings.token_embedding.weight.abs().sum(1).count_nonzero()),
        },
        "profile": judge.profile,
        "pictures": counts(judge.cache),
        "licences": licences(judge.cache),
        "demanded": DEMANDED,
        **found,
        "trained_wordings": figures(judge, held_out=False, probe=False)["figures"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=PACKED, help="a packed file; the repository's if left out")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--profile", default="eval-tf")
    parser.add_argument("--trained-wordings", action="store_true")
    parser.add_argument("--no-probe", action="store_true", help="leave out the probes, which take most of the time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, help="the training folder, whose weights are judged; needed by --out")
    parser.add_argument(
        "--out", type=Path, help="where to write all figures as JSON: in held-out wordings, with probes"
    )
    args = parser.parse_args()
    if args.out is not None and (args.run is None or args.trained_wordings or args.no_probe):
        parser.error("--out needs --run, and neither --trained-wordings nor --no-probe")
    torch.set_num_threads(args.threads)
    weights = args.weights if args.run is None else args.run / PACKED.name
    judge = Judge(*open_weights(weights), Cache(args.cache), args.profile)
    if args.out is None:
        found = figures(judge, held_out=not args.trained_wordings, probe=not args.no_probe)
    else:
        found = record(judge, weights, args.run)
    print(json.dumps(found["detail"], indent=1))
    for name, value in found["figures"].items():
        verdict = "met" if value >= DEMANDED[name] else "MISSED"
        print(f"{name:24} {value:6.3f}  demanded {DEMANDED[name]:5}  {verdict}")
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
