"""A MedSigLIP teacher going over an archive of images: what it sees of each, in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...quant.distill.shards import Shard
from ...runtime.errors import ImageError
from ...runtime.pictures.images import find_images, read_image
from ...runtime.pictures.preprocess import Pixels, get_profile, normalise_pixels
from ..families.siglip import load_siglip
from ..source.checkpoint import Checkpoint

BATCH = 16


def list_images(folders: Sequence[Path]) -> list[Path]:
    """Every image below the folders, in the order that shards go by."""
    return list(find_images(list(folders)))


def digest(paths: Sequence[Path]) -> str:
    """A hash of the archive's files, by name and size: of another archive, or one that has grown, it is another."""
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    return found.hexdigest()


def view(image: Pixels, number: int, index: int, seed: int) -> Pixels:
    """One of an image's views: the first is the image; others are cut, mirrored and toned, the same on every call.

    Teacher and student see the same view, so that nothing has to be assumed of what a change of the image means
    (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent").
    """
    if number == 0:
        return image
    rng = np.random.default_rng([seed, index, number])
    height, width = image.shape[:2]
    area, aspect = rng.uniform(0.55, 1.0), np.exp(rng.uniform(-0.2, 0.2))
    rows = max(1, min(height, round(height * np.sqrt(area / aspect))))
    columns = max(1, min(width, round(width * np.sqrt(area * aspect))))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    cut = image[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    most = np.iinfo(image.dtype).max
    tones = np.arange(most + 1) / most
    gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-0.08, 0.08)
    table = np.clip(tones ** np.exp(rng.uniform(-0.3, 0.3)) * gain + shift, 0, 1)
    return np.ascontiguousarray((table * most).round().astype(image.dtype)[cut])


def as_pixels(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """(N, S, S, 3) uint8 to what a SigLIP tower takes, (N, 3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


class ImageTeacher:
    """Opens the teacher's vision tower once, then turns ranges of images into shards.

    A shard holds "pixels" (N, side, side, 3) uint8 for the student, "embedding" (N, D) float32 of the teacher, and
    "image" (N,) int32, the image's number: N is images that can be read times views.
    """

    def __init__(self, teacher: Path, images: Sequence[Path], profile: str, side: int, views: int, seed: int) -> None:
        checkpoint = Checkpoint.open(teacher)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tower = load_siglip(checkpoint).vision_model.to(self._device)
        self._side, self._own = side, int(checkpoint.config["vision_config"]["image_size"])
        self._images, self._views, self._seed = images, views, seed
        self._resize = get_profile(profile).resize

    def __call__(self, start: int, stop: int) -> Shard:
        small: list[NDArray[np.uint8]] = []
        large: list[NDArray[np.float32]] = []
        embeddings: list[NDArray[np.float32]] = []
        numbers: list[int] = []
        skipped: list[int] = []
        for number in range(start, stop):
            try:
                image = read_image(self._images[number])
            except ImageError:
                skipped.append(number)
                continue
            for which in range(self._views):
                seen = view(image, which, number, self._seed)
                small.append(self._resize(seen, self._side))
                large.append(normalise_pixels(small[-1] if self._side == self._own else self._resize(seen, self._own)))
                numbers.append(number)
            if len(large) >= BATCH:
                embeddings.append(self._embed(large))
                large = []
        if large:
            embeddings.append(self._embed(large))
        if not numbers:
            return Shard({}, tuple(skipped))
        return Shard(
            {"pixels": np.stack(small), "embedding": np.concatenate(embeddings), "image": np.array(numbers, np.int32)},
            tuple(skipped),
        )

    @torch.inference_mode()
    def _embed(self, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)
        return F.normalize(self._tower(pixel_values=pixels).pooler_output, dim=-1).cpu().numpy()
