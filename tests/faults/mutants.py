"""Mutated copies of small photos of every format, as a fuzzer would send them; deterministic for a seed."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import piexif
from PIL import Image, ImageDraw

from tests.support.images import animated, encoded, picture

Mutation = Callable[[bytearray, random.Random, list[bytes]], bytearray]

# Values that break parsers: zero, the limits of signed and unsigned numbers, and lengths beyond any file.
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def seeds() -> list[tuple[str, bytes]]:
    """Return valid files to mutate: all formats, with frames, pages, EXIF, text, palettes and transparency."""
    found = [(kind, encoded(kind)) for kind in ("jpeg", "png", "gif", "webp", "tiff", "bmp", "heic", "avif")]
    found += [(f"{kind}-animated", animated(kind)) for kind in ("gif", "webp", "png", "tiff")]
    found += [("jpeg-exif", encoded("jpeg", exif=_exif())), ("webp-exif", encoded("webp", exif=_exif()))]
    found += [("tiff-exif", encoded("tiff", exif=_exif())), ("png-exif", encoded("png", exif=_exif()))]
    found += [("heic-exif", encoded("heic", exif=_exif()))]
    found += [("jpeg-progressive", encoded("jpeg", picture(200, 150), progressive=True))]
    found += [("jpeg-gray", encoded("jpeg", picture(mode="L"))), ("jpeg-cmyk", encoded("jpeg", picture(mode="CMYK")))]
    found += [("png-palette", encoded("png", picture(mode="P"))), ("png-16", encoded("png", _sixteen_bits()))]
    found += [("png-text", encoded("png", _page())), ("webp-lossless", encoded("webp", lossless=True))]
    found += [(f"tiff-{way}", encoded("tiff", compression=way)) for way in ("tiff_lzw", "jpeg", "tiff_deflate")]
    return found


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield mutated files, named after their original and their mutations."""
    chance, originals = random.Random(seed), seeds()
    bodies = [data for _, data in originals]
    for number in range(count):
        name, data = originals[number % len(originals)]
        body, did = bytearray(data), []
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            mutation = chance.choice(_MUTATIONS)
            if len(body) > 16:
                body = mutation(body, chance, bodies)
                did.append(mutation.__name__.lstrip("_"))
        if name.startswith("png") and chance.random() < 0.7:
            # Otherwise the decoder would stop at the wrong checksum.
            body = _mend_png(body)
        yield f"{number:05d}-{name}-{'-'.join(did)[:60]}", bytes(body)


def _exif() -> bytes:
    tags = {
        "0th": {piexif.ImageIFD.Make: b"Maker", piexif.ImageIFD.Model: b"Model", piexif.ImageIFD.Orientation: 6},
        "Exif": {piexif.ExifIFD.FNumber: (28, 10), piexif.ExifIFD.DateTimeOriginal: b"2024:01:02 03:04:05"},
        "GPS": {piexif.GPSIFD.GPSLatitudeRef: b"N", piexif.GPSIFD.GPSLatitude: ((48, 1), (51, 1), (24, 1))},
    }
    data: bytes = piexif.dump(tags)
    return data


def _sixteen_bits() -> Image.Image:
    return Image.new("I;16", (40, 30), 30000)


def _page() -> Image.Image:
    page = Image.new("L", (300, 120), 255)
    ImageDraw.Draw(page).text((10, 40), "Invoice 20431", fill=0)
    return page


def _flip_bits(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    for _ in range(chance.choice((1, 2, 8, 64))):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return body


def _flip_head(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    for _ in range(chance.choice((1, 2, 4))):
        body[chance.randrange(min(len(body), 256))] = chance.randrange(256)
    return body


def _truncate(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    return body[: chance.randrange(1, len(body))]


def _insert(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    where = chance.randrange(len(body))
    body[where:where] = chance.randbytes(chance.choice((1, 4, 100, 5000)))
    return body


def _delete(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    where = chance.randrange(len(body))
    del body[where : where + chance.choice((1, 4, 100))]
    return body


def _repeat(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    start = chance.randrange(len(body))
    part = body[start : start + chance.choice((4, 64, 1024))]
    body[start:start] = part * chance.choice((1, 3, 40))
    return body


def _swap(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    size = chance.choice((1, 8, 64))
    one, other = chance.randrange(len(body)), chance.randrange(len(body))
    body[one : one + size], body[other : other + size] = body[other : other + size], body[one : one + size]
    return body


def _set_number(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    form = chance.choice((">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    where = chance.randrange(max(1, min(len(body), 4096) - size))
    value = chance.choice(_NUMBERS) & (256**size - 1)
    body[where : where + size] = struct.pack(form, value)
    return body


def _inflate(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """Declare a huge picture in the header."""
    side = chance.choice((5000, 20000, 65535, 2**31 - 1))
    if body[:4] == b"\x89PNG":
        body[16:24] = struct.pack(">II", side, side)
    elif body[:3] == b"GIF":
        body[6:10] = struct.pack("<HH", min(side, 65535), min(side, 65535))
    elif body[:2] == b"BM":
        body[18:26] = struct.pack("<ii", side, side)
    elif body[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = body.find(marker)
            if at > 0:
                body[at + 5 : at + 9] = struct.pack(">HH", min(side, 65535), min(side, 65535))
    else:
        at = body.find(b"ispe")
        if at > 0:
            body[at + 8 : at + 16] = struct.pack(">II", side, side)
    return body


def _splice(body: bytearray, chance: random.Random, bodies: list[bytes]) -> bytearray:
    other = chance.choice(bodies)
    return body[: chance.randrange(1, len(body))] + other[chance.randrange(len(other)) :]


def _append(body: bytearray, chance: random.Random, bodies: list[bytes]) -> bytearray:
    return body + chance.choice((bytes(5000), chance.randbytes(5000), chance.choice(bodies)))


def _loop_ifd(body: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """Point an EXIF directory at itself or beyond the file."""
    at = max(body.find(b"II*\0"), body.find(b"MM\0*"))
    if at < 0:
        return body
    order = "<" if body[at : at + 2] == b"II" else ">"
    where = at + chance.choice((4, 8, 10, 18, 22, 30, 34, 42))
    if where + 4 <= len(body):
        body[where : where + 4] = struct.pack(order + "I", chance.choice((0, 4, 8, 9, len(body), 0xFFFFFFF0)))
    return body


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_head,
    _truncate,
    _insert,
    _delete,
    _repeat,
    _swap,
    _set_number,
    _set_number,
    _inflate,
    _splice,
    _append,
    _loop_ifd,
)


def _mend_png(body: bytearray) -> bytearray:
    """Recompute the checksums of a PNG's chunks, as far as the chunks can be followed."""
    if body[:8] != b"\x89PNG\r\n\x1a\n":
        return body
    fixed, stream = bytearray(body[:8]), io.BytesIO(bytes(body[8:]))
    while len(head := stream.read(8)) == 8:
        length = struct.unpack(">I", head[:4])[0]
        data = stream.read(min(length, len(body)))
        stream.read(4)
        fixed += head + data + struct.pack(">I", zlib.crc32(head[4:] + data))
    return fixed
