"""PNG, JPEG, TIFF, WEBP and BMP with changed parts and bytes, and files of other formats under these names."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..mutate import mangled
from ..verdict import Kind, WrongError

FOLDER = "pictures"
_SIZES = (0, 1, 2, 15, 17, 255, 4000, 12000, 30000, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_OTHERS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(x) print showpage\n%%EOF\n",
    b"GIF89a\x04\x00\x04\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x04\x00\x04\x00\x00\x02\x04\x84\x8f\xa9\x5b\x00;",
    b"P6 4 4 255\n" + bytes(48), b"P5 100000 100000 255\n", b"8BPS\x00\x01" + bytes(40),
    b"\x00\x00\x01\x00\x01\x00" + bytes(30), b"SIMPLE  =                    T" + bytes(2880),
    b"\x01\xda" + bytes(520), b"%PDF-1.4\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60), b"\xd7\xcd\xc6\x9a" + bytes(60), b"DDS " + bytes(124),
    b"II*\x00", b"MM\x00*", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x00\x00\x00\x00WEBP", b"BM", b"BM" + b"\xff" * 60,
    b"#define x_width 4\n#define x_height 4\nstatic char x_bits[] = {\n0x00};\n",
    b"\x0a\x05\x01\x08" + bytes(124), b"qoif" + struct.pack(">II", 40000, 40000) + b"\x03\x00" + bytes(8), b"", b"\x00",
    b"\n" * 200, b"BLP2" + bytes(160), b"\x1f\x8b\x08\x00",
)  # fmt: skip


def write_pictures(base: Path) -> None:
    """One small picture of each mode in each format."""
    from PIL import Image

    folder = base / FOLDER
    folder.mkdir()
    y, x = np.mgrid[0:24, 0:20]
    grey = ((x * 11 + y * 7) % 256).astype(np.uint8)
    whole = Image.fromarray(np.stack([grey, grey[::-1], 255 - grey], -1))
    modes = {mode: whole.convert(mode) for mode in ("RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "YCbCr")}
    modes["I16"] = Image.fromarray(grey.astype(np.uint16) * 200)
    modes["F"] = Image.fromarray(grey.astype(np.float32))
    saves: list[tuple[str, str, dict[str, Any]]] = [
        ("png", "PNG", {}), ("jpg", "JPEG", {}), ("prog.jpg", "JPEG", {"progressive": True}), ("webp", "WEBP", {}),
        ("lossless.webp", "WEBP", {"lossless": True}),
        ("bmp", "BMP", {}), ("tif", "TIFF", {}), *((f"{name}.tif", "TIFF", {"compression": name}) for name in ("tiff_lzw",
        "tiff_deflate", "packbits", "jpeg", "group4", "zstd")),
    ]  # fmt: skip
    for mode, picture in modes.items():
        for ending, form, options in saves:
            path = folder / f"{mode}.{ending}"
            try:
                picture.save(path, form, **options)
            except (OSError, ValueError, KeyError, RuntimeError):
                path.unlink(missing_ok=True)
    modes["L"].save(
        folder / "pages.tif", save_all=True, append_images=[modes["L"].rotate(90, expand=True), modes["RGB"]]
    )
    modes["RGB"].save(folder / "moving.png", save_all=True, append_images=[modes["RGB"].rotate(180)])
    modes["RGB"].save(folder / "moving.webp", save_all=True, append_images=[modes["RGB"].rotate(180)])
    exif = Image.Exif()
    exif[274], exif[270] = 6, "x"
    modes["RGB"].save(folder / "turned.jpg", exif=exif)
    modes["RGB"].save(folder / "turned.png", exif=exif)


def make(rng: random.Random, base: Path) -> bytes:
    if rng.random() < 0.04:
        return rng.choice(_OTHERS)
    if rng.random() < 0.04:
        return _bomb(rng)
    path = rng.choice(sorted((base / FOLDER).iterdir()))
    data = path.read_bytes()
    if rng.random() < 0.35:
        return mangled(rng, data, head=80)
    changed: bytes = {".png": _png, ".jpg": _jpeg, ".webp": _riff, ".bmp": _bmp, ".tif": _tiff}[path.suffix](rng, data)
    return changed


def _bomb(rng: random.Random) -> bytes:
    """A small file whose header promises much."""
    side = rng.choice((12000, 12247, 20000, 100000))
    deep, kind = rng.choice(((8, 0), (16, 0), (8, 2), (16, 6), (1, 0), (8, 3)))
    row = 1 + side * deep // 8 * {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    squeezed = zlib.compressobj(9)
    body = b"".join(squeezed.compress(bytes(1 << 20)) for _ in range(min(side * row >> 20, 60))) + squeezed.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, deep, kind, 0, 0, rng.choice((0, 1))))]
    if kind == 3:
        parts.append((b"PLTE", bytes(768)))
    if rng.random() < 0.3:
        parts.append((rng.choice((b"zTXt", b"iCCP")), b"x\0\0" + zlib.compress(bytes(80_000_000), 9)))
    return _chunks([*parts, (b"IDAT", body), (b"IEND", b"")])


def _chunks(parts: list[tuple[bytes, bytes]]) -> bytes:
    out = [b"\x89PNG\r\n\x1a\n"]
    out += [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    return b"".join(out)


def _png(rng: random.Random, data: bytes) -> bytes:
    """Chunks with other contents, order and number; their checksums fit."""
    parts, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    where = rng.randrange(len(parts))
    name, body = parts[where]
    action = rng.choice(("header", "header", "mangle", "mangle", "idat", "delete", "twice", "swap", "rename", "add"))
    if action == "header":
        fields = list(struct.unpack(">IIBBBBB", parts[0][1]))
        index = rng.randrange(7)
        fields[index] = rng.choice(_SIZES) if index < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        parts[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
    elif action == "mangle":
        parts[where] = (name, mangled(rng, body))
    elif action == "idat":
        where = next(index for index, part in enumerate(parts) if part[0] == b"IDAT")
        raw = zlib.decompress(parts[where][1])
        parts[where] = (b"IDAT", zlib.compress(mangled(rng, raw)))
    elif action == "delete":
        del parts[where]
    elif action == "twice":
        parts.insert(where, parts[where])
    elif action == "swap":
        other = rng.randrange(len(parts))
        parts[where], parts[other] = parts[other], parts[where]
    elif action == "rename":
        parts[where] = (rng.choice((b"tEXt", b"IDAT", b"abcd", b"ABCD", b"eXIf", b"fcTL", b"acTL", b"\0\0\0\0")), body)
    else:
        parts.insert(1, rng.choice((
            (b"tRNS", b"\0\1"), (b"gAMA", b"\0\0\0\0"), (b"acTL", struct.pack(">II", 2**31 - 1, 0)), (b"eXIf",
            b"II*\0" + b"\xff" * 20), (b"sBIT", b"\xff"),
            (b"zTXt", b"x\0\0" + zlib.compress(bytes(30_000_000))), (b"iCCP", b"x\0\0" + zlib.compress(b"x" * 10)),
            (b"fcTL", bytes(26)), (b"PLTE", bytes(7)), (b"iTXt", b"\xff" * 30),
            (b"pHYs", b"\0" * 9), (b"IDAT", b""), (b"tIME", b"x"), (b"hIST", b"\0\0"),
        )))  # fmt: skip
    return _chunks(parts)


def _jpeg(rng: random.Random, data: bytes) -> bytes:
    """Segments with other contents; or another height, width and number of components in the frame's header."""
    at, places = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        places.append((data[at + 1], at, 2 + struct.unpack_from(">H", data, at + 2)[0]))
        at += places[-1][2]
    _, start, size = rng.choice(places)
    frames = [place for place in places if 0xC0 <= place[0] <= 0xCF and place[0] not in (0xC4, 0xC8, 0xCC)]
    if frames and rng.random() < 0.4:
        _, start, _ = frames[0]
        offset, form, value = rng.choice(
            (
                (4, "B", (0, 1, 12, 16, 255)),
                (5, ">H", _SIZES[:10]),
                (7, ">H", _SIZES[:10]),
                (9, "B", (0, 1, 2, 4, 255)),
                (11, "B", (0, 0x11, 0x44, 0xFF)),
            )
        )
        piece = struct.pack(form, rng.choice(value))
        return data[: start + offset] + piece + data[start + offset + len(piece) :]
    action = rng.random()
    if action < 0.3:
        return data[:start] + data[start + size :]
    if action < 0.5:
        return (
            data[:start]
            + bytes([0xFF, rng.choice((0xC0, 0xC2, 0xC3, 0xC9, 0xE1, 0xE2, 0xEE, 0xFE, 0xD9, 0x00, 0xDB))])
            + data[start + 2 :]
        )
    if action < 0.6:
        return data[:start] + data[start : start + size] * rng.choice((2, 3, 300)) + data[start + size :]
    return data[: start + 4] + mangled(rng, data[start + 4 : start + size]) + data[start + size :]


def _riff(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice((4, 12, 16, 20, 24, 26))
    if rng.random() < 0.5:
        return data[:at] + struct.pack("<I", rng.choice(_SIZES) & 0xFFFFFFFF) + data[at + 4 :]
    return (
        data[:12]
        + rng.choice((b"VP8X", b"ANIM", b"ALPH", b"VP8L", b"ICCP"))
        + struct.pack("<I", 10)
        + rng.randbytes(10)
        + data[12:]
    )


def _bmp(rng: random.Random, data: bytes) -> bytes:
    at, form = rng.choice(
        (
            (2, "<I"),
            (10, "<I"),
            (14, "<I"),
            (18, "<i"),
            (22, "<i"),
            (26, "<H"),
            (28, "<H"),
            (30, "<I"),
            (34, "<I"),
            (46, "<I"),
        )
    )
    value = rng.choice((*_SIZES, -24, -(2**31), 3, 4, 8, 16, 32, 24))
    size = struct.calcsize(form)
    return data[:at] + (value & ((1 << 8 * size) - 1)).to_bytes(size, "little") + data[at + size :]


def _tiff(rng: random.Random, data: bytes) -> bytes:
    """One entry of the first directory with another tag, type, count or value."""
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    at = start + 2 + 12 * rng.randrange(max(count, 1))
    field = rng.choice(("value", "value", "value", "tag", "type", "count", "next", "first", "entries"))
    if field == "value":
        return (
            data[: at + 8]
            + struct.pack("<I", rng.choice((*_SIZES, 3, 4, 5, 7, 8, 16, 32, 32773, 50000, len(data) - 1)))
            + data[at + 12 :]
        )
    if field == "tag":
        return (
            data[:at]
            + struct.pack(
                "<H",
                rng.choice(
                    (
                        256,
                        257,
                        258,
                        259,
                        262,
                        273,
                        277,
                        278,
                        279,
                        284,
                        317,
                        320,
                        322,
                        323,
                        324,
                        330,
                        338,
                        339,
                        34665,
                        34675,
                    )
                ),
            )
            + data[at + 2 :]
        )
    if field == "type":
        return data[: at + 2] + struct.pack("<H", rng.randrange(20)) + data[at + 4 :]
    if field == "count":
        return data[: at + 4] + struct.pack("<I", rng.choice(_SIZES)) + data[at + 8 :]
    where = {"next": start + 2 + 12 * count, "first": 4, "entries": start}[field]
    size = 2 if field == "entries" else 4
    return (
        data[:where]
        + (rng.choice((*_SIZES, start)) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        + data[where + size :]
    )


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.pictures.images import read_image

    path = place / "film.png"
    path.write_bytes(content)
    pixels = read_image(path)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise WrongError(f"a picture of {pixels.dtype}{pixels.shape}")
    if not _is_known(content):
        raise WrongError(f"a file that begins with {content[:12]!r} was read")
    if content.startswith(b"\x89PNG"):
        _check_png(content, pixels.shape[:2])


def _is_known(content: bytes) -> bool:
    """Whether it begins as one of the five formats do."""
    return content.startswith(
        (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
    ) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _check_png(content: bytes, shape: tuple[int, int]) -> None:
    """Of a PNG that was read, the header and the pixels have the right checksums, and the picture is as large as it says."""
    at = 8
    while at + 12 <= len(content):
        size = struct.unpack_from(">I", content, at)[0]
        name = content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + size]
        if (
            name in (b"IHDR", b"PLTE", b"IDAT")
            and struct.pack(">I", zlib.crc32(name + body)) != content[at + 8 + size : at + 12 + size]
        ):
            raise WrongError(f"a PNG whose part {name.decode()} has another checksum was read")
        if name == b"IHDR" and size == 13:
            width, height = struct.unpack_from(">II", body)
            if {width, height} != set(shape):
                raise WrongError(f"a PNG of {height} x {width} was read as {shape}")
        at += 12 + size
        if name == b"IEND":
            return


KIND = Kind(make, run, suffix=".png", modules=("numpy", "PIL.Image", "PIL.PngImagePlugin", "PIL.JpegImagePlugin",
    "PIL.TiffImagePlugin", "PIL.WebPImagePlugin",
                                               "PIL.BmpImagePlugin", "medge.runtime.pictures.images"), batch=60,
                                               share=3)  # fmt: skip
