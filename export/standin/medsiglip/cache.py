"""All pictures decoded once into one memory-mapped file, with an index; training and evaluation read only these.

    python -m medge.export.standin.medsiglip.cache --data ../shared/data --cache ~/.cache/medge/standin2

Decoding JPEG takes longer than a training step may wait, and two processes share one mapped file. A part of the training
pictures, whole groups (patients), is set apart for validation. A training picture that looks like a test picture is
marked "leak" and not trained on: sets overlap (both pneumonia sets are Kermany's; MedNIST's films are NIH's).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....runtime.bundles.atomic import atomic_folder
from .sources import Known, Picture, all_pictures

VALIDATION = 10  # one group in so many, of those that are trained on
THUMBNAIL = 24  # side, in pixels
# Two pictures are the same when their thumbnails correlate more than this; see `look_alike`.
SAME = 0.995


@dataclass(frozen=True)
class Row(Known):
    """One picture of the cache; `split` is "train", "val", "test" or "leak", `offset` its first byte in the file."""

    shape: tuple[int, ...]
    offset: int


class Cache:
    """The pictures, by index. `rows[i]` says what is known of picture i, `image(i)` gives its pixels."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.rows = [Row(**{**row, "shape": tuple(row["shape"])}) for row in index["rows"]]
        self.digest: str = index["digest"]
        self._pixels = np.memmap(folder / "pixels.u8", np.uint8, mode="r")

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3), uint8; a view into the file."""
        row = self.rows[index]
        return self._pixels[row.offset : row.offset + int(np.prod(row.shape))].reshape(row.shape)

    def select(self, *splits: str, domain: str | None = None, ships: bool | None = None) -> list[int]:
        """Indices of the pictures of these splits, of one domain or all, with or without a licence to ship."""
        return [
            index
            for index, row in enumerate(self.rows)
            if row.split in splits and domain in (None, row.domain) and ships in (None, row.ships)
        ]


def write_cache(pictures: Iterable[Picture], folder: Path, *, force: bool = False) -> Cache:
    """Write the pictures and their index into `folder`, whole or not at all."""
    rows: list[Row] = []
    thumbnails: list[NDArray[np.float32]] = []
    digest = hashlib.sha256()
    with atomic_folder(folder, force=force) as place:
        offset = 0
        with (place / "pixels.u8").open("wb") as stream:
            for picture in pictures:
                pixels = np.ascontiguousarray(picture.image)
                stream.write(pixels.tobytes())
                digest.update(pixels.tobytes())
                known = {one.name: getattr(picture, one.name) for one in fields(Known)}
                known["split"] = _validation(picture)
                rows.append(Row(**known, shape=pixels.shape, offset=offset))
                thumbnails.append(thumbnail(pixels))
                offset += pixels.size
        rows = _without_leaks(rows, np.stack(thumbnails))
        index = {"digest": digest.hexdigest(), "rows": [asdict(row) for row in rows]}
        (place / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return Cache(folder)


def _validation(picture: Picture) -> str:
    if picture.split != "train" or not picture.ships or not picture.facts:
        return picture.split
    number = int(hashlib.sha256(f"{picture.domain}/{picture.group}".encode()).hexdigest()[:8], 16)
    return "val" if number % VALIDATION == 0 else "train"


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A small grey copy with mean 0 and length 1, (THUMBNAIL ** 2,): the product of two is their correlation."""
    small = Image.fromarray(pixels).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    flat = np.asarray(small, np.float32).ravel()
    flat = flat - flat.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


def look_alike(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each of `some`'s thumbnails the highest correlation with one of `others`."""
    if not len(others):
        return np.full(len(some), -1, np.float32)
    parts = [(some[start : start + 1024] @ others.T).max(1) for start in range(0, len(some), 1024)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _without_leaks(rows: list[Row], thumbnails: NDArray[np.float32]) -> list[Row]:
    splits = np.array([row.split for row in rows])
    known = np.array([row.ships for row in rows])
    trained = np.flatnonzero(known & ((splits == "train") | (splits == "val")))
    close = look_alike(thumbnails[trained], thumbnails[splits == "test"]) > SAME
    leaks = set(trained[close].tolist())
    return [replace(row, split="leak") if index in leaks else row for index, row in enumerate(rows)]


PARTS = ("train", "val", "leak", "test", "no licence")


def counts(cache: Cache) -> dict[str, dict[str, int]]:
    """{domain: {part: pictures}}; "no licence" are training pictures that no licence lets weights be trained on that ship."""
    found: dict[str, dict[str, int]] = {}
    for row in cache.rows:
        part = row.split if row.ships or row.split == "test" else "no licence"
        found.setdefault(row.domain, dict.fromkeys(PARTS, 0))[part] += 1
    return found


def licences(cache: Cache) -> dict[str, list[str]]:
    """{domain: the licences of its pictures, as the set states them}; where some are trained on, of these alone."""
    found = {}
    for domain in counts(cache):
        rows = [row for row in cache.rows if row.domain == domain]
        trained = [row for row in rows if row.ships and row.split in ("train", "val")]
        found[domain] = sorted({row.licence for row in trained or rows})
    return found


def summary(cache: Cache) -> str:
    """What `counts` finds, a line for each domain."""
    lines = [f"{'domain':18}" + "".join(f"{part:>12}" for part in PARTS)]
    for domain, count in counts(cache).items():
        lines.append(f"{domain:18}" + "".join(f"{count[part]:12}" for part in PARTS))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    args = parser.parse_args()
    print(summary(write_cache(all_pictures(args.data), args.cache, force=args.force)))


if __name__ == "__main__":
    main()
