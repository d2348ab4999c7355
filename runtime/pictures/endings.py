"""How the names of images end: of those that medge reads, and of all others that people have."""

from __future__ import annotations

from pathlib import PurePath

DICOM = frozenset({".dcm", ".dicom", ".ima"})
READ = DICOM | {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
# Not read, but whoever writes such a name means an image, not a text.
OTHERS = frozenset({
    ".acr", ".apng", ".avif", ".dc3", ".dib", ".dic", ".emf", ".eps", ".gif", ".hdr", ".heic", ".heif", ".img", ".j2c", ".j2k",
    ".jfif", ".jls", ".jp2", ".jpc", ".jpe", ".jpf", ".jph", ".jpm", ".jpx", ".jxl", ".mha", ".mhd", ".mnc", ".mrc", ".ndpi",
    ".nii", ".nrrd", ".pbm", ".pcx", ".pgm", ".pic", ".pnm", ".ppm", ".psd", ".raw", ".svg", ".svs", ".tga", ".wmf",
})  # fmt: skip
PACKED = frozenset({".7z", ".bz2", ".gz", ".lz4", ".xz", ".z", ".zip", ".zst"})


def names_an_image(text: str) -> bool:
    """Whether a text ends as an image's name does, packed or not; nothing is looked up.

    Args:
        text: "film.dcm", "C:\\films\\CT.DCM.gz".
    """
    return _ending(PurePath(text.strip())) in READ | OTHERS


def is_unread(name: PurePath) -> bool:
    """Whether a file's name ends as that of an image which medge does not read, or of one that is packed."""
    return _ending(name) in OTHERS or (_ending(name) in READ and name.suffix.lower() in PACKED)


def _ending(name: PurePath) -> str:
    """The ending, without that of a packed file."""
    inside = PurePath(name.stem) if name.suffix.lower() in PACKED else name
    return inside.suffix.lower()
