"""Files of every format whose headers are made to cost much: parts without end, deep nesting, compressed bombs."""

import struct
import zlib
from collections.abc import Callable

from tests.support.images import encoded

Maker = Callable[[int], bytes]


def filled(head: bytes, part: bytes, tail: bytes, size: int) -> bytes:
    """Return head, as many copies of a part as fit into a size, and tail."""
    return head + part * ((size - len(head) - len(tail)) // len(part)) + tail


def segment(marker: int, body: bytes = b"") -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box of a HEIC file."""
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return a box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def in_jpeg(part: bytes) -> Maker:
    """Return a maker of JPEG files with many copies of a part after their first two bytes."""
    whole = encoded("jpeg")
    return lambda size: filled(whole[:2], part, whole[2:], size)


def in_scans(part: bytes) -> Maker:
    """Return a maker of progressive JPEG files with many copies of a part before their end."""
    whole = encoded("jpeg", progressive=True)
    return lambda size: filled(whole[:-2], part, whole[-2:], size)


def in_png(part: bytes) -> Maker:
    """Return a maker of PNG files with many copies of a part after their size."""
    whole = encoded("png")
    return lambda size: filled(whole[:33], part, whole[33:], size)


def in_gif(part: bytes) -> Maker:
    """Return a maker of GIF files with many copies of a part before their image."""
    whole = encoded("gif")
    start = 13 + (3 << (whole[10] & 7) + 1)
    return lambda size: filled(whole[:start], part, whole[start:], size)


def gif_frame(sub_block: bytes) -> Maker:
    """Return a maker of GIF files whose only frame has many copies of a sub-block."""
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 64, 64, 0) + b"\x08"
    return lambda size: filled(head, sub_block, b"\0;", size)


def in_webp(part: bytes) -> Maker:
    """Return a maker of animated WebP files with many copies of a part."""
    head = b"RIFF\xff\xff\xff\x7fWEBPVP8X" + struct.pack("<IB9x", 10, 2)
    return lambda size: filled(head, part, b"", size)


def tiff_entries(size: int) -> bytes:
    """Return a TIFF whose directory claims 65,535 entries, each of them the largest text."""
    table = b"".join(struct.pack("<HHII", 700 + index % 4000, 2, 60_000, 8) for index in range(65_533))
    own = b"".join(struct.pack("<HHII", 256 + index, 3, 1, 64) for index in range(2))
    return b"II*\0" + struct.pack("<IH", 8, 65_535) + (own + table)[: size - 10]


def tiff_arrays(size: int) -> bytes:
    """Return a TIFF with 4,000 entries whose values are the same bytes, as numbers."""
    table = b"".join(struct.pack("<HHII", 700 + index, 1, 4096, 8) for index in range(4000))
    own = b"".join(struct.pack("<HHII", 256 + index, 3, 1, 64) for index in range(2))
    return b"II*\0" + struct.pack("<IH", 8, 4002) + own + table + struct.pack("<I", 0) + bytes(size // 100)


def tiff_pages(size: int) -> bytes:
    """Return a TIFF with directories up to its end."""
    own = b"".join(struct.pack("<HHII", 256 + index, 3, 1, 64) for index in range(2))
    pages = (struct.pack("<H", 2) + own + struct.pack("<I", 8 + 30 * (index + 1)) for index in range(size // 30))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(pages)


def tiff_strips(size: int) -> bytes:
    """Return a TIFF that has as many strips as fit into a size."""
    count = size // 4 - 100
    own = [(256, 3, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, count, 200), (278, 3, 1, 1)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in own)
    return b"II*\0" + struct.pack("<IH", 8, len(own)) + table + bytes(4 * count + 100)


def heif(*boxes: bytes, brand: bytes = b"heic") -> bytes:
    """Return the boxes of a HEIC file without pixels."""
    return box(b"ftyp", brand, bytes(4), b"mif1", brand) + full_box(b"meta", *boxes)


def heif_extents(size: int) -> bytes:
    """Return a HEIC whose items have 65,535 extents each, which take no bytes."""
    item = struct.pack(">HHH", 1, 0, 65_535)
    return heif(full_box(b"iloc", struct.pack(">BBH", 0, 0, 65_535), item * (min(size, 400_000) // 6)))


def heif_boxes(size: int) -> bytes:
    """Return a HEIC with boxes in boxes, as many as fit into the largest meta box."""
    inner = box(b"ipco", box(b"free") * 4000)
    return heif(box(b"iprp", inner * min(size // len(inner), 120)))


def heif_links(size: int) -> bytes:
    """Return a HEIC whose items have 255 properties each."""
    item = struct.pack(">HB", 1, 255) + b"\1" * 255
    links = full_box(b"ipma", struct.pack(">I", 4000), item * 4000)
    return heif(box(b"iprp", box(b"ipco", full_box(b"ispe", struct.pack(">II", 64, 64))), links * 3))[:size]


def heif_tracks(size: int) -> bytes:
    """Return a HEIC whose movie box has tracks in tracks."""
    inner = box(b"free") * 400
    for _ in range(7):
        inner = box(b"trak", inner * 2)
    whole = encoded("heic")
    return (whole + box(b"moov", inner * 8))[: max(size, len(whole))]


def _in_all() -> dict[str, Maker]:
    exif = segment(0xE1, b"Exif\0\0" + b"A" * 10)
    bomb = zlib.compress(b"\n exif\n 9\n" + b"41" * 1_500_000, 9)
    return {
        "jpeg of empty segments": in_jpeg(segment(0xE5)),
        "jpeg of EXIF segments": in_jpeg(exif),
        "jpeg of large EXIF segments": in_jpeg(segment(0xE1, b"Exif\0\0" + b"A" * 65_000)),
        "jpeg of XMP segments": in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"A" * 65_000)),
        "jpeg of extended XMP": in_jpeg(
            segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"A" * 60_000)
        ),
        "jpeg of Photoshop segments": in_jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\1\0\0\0\0\0\0" * 5000)),
        "jpeg of profile parts": in_jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + b"A" * 1000)),
        "jpeg of multi-picture indexes": in_jpeg(segment(0xE2, b"MPF\0" + tiff_arrays(0)[:60_000])),
        "jpeg of padding": in_jpeg(b"\xff"),
        "jpeg of junk": lambda size: filled(encoded("jpeg")[:20], b"\0", b"", size),
        "jpeg of escaped bytes": in_jpeg(b"\xff\0"),
        "jpeg of restarts": in_jpeg(b"\xff\xd0"),
        "jpeg of scans": in_scans(segment(0xDA, bytes(6))),
        "jpeg of tables between scans": in_scans(segment(0xC4)),
        "jpeg of escaped bytes in scans": in_scans(b"\xff\0"),
        "jpeg of restarts in scans": in_scans(b"\xff\xd0"),
        "jpeg of padding in scans": in_scans(b"\xff"),
        "png of empty chunks": in_png(chunk(b"teSt")),
        "png of empty pixel chunks": in_png(chunk(b"IDAT")),
        "png of texts": in_png(chunk(b"tEXt", b"Comment\0" + b"A" * 100)),
        "png of compressed profiles": in_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)),
        "png of compressed XMP": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)),
        "png of eXIf chunks": in_png(chunk(b"eXIf", b"II*\0" + b"A" * 1000)),
        "webp of empty chunks": in_webp(b"ANMF\0\0\0\0"),
        "webp of EXIF chunks": in_webp(b"EXIF\0\0\1\0" + bytes(65_536)),
        "gif of empty blocks": in_gif(b"!\xfe\0"),
        "gif of XMP blocks": in_gif(b"!\xff\x0bXMP DataXMP\0"),
        "gif of short sub-blocks": gif_frame(b"\1A"),
        "gif of sub-blocks": gif_frame(b"\xff" + b"A" * 255),
        "tiff of entries": tiff_entries,
        "tiff of arrays": tiff_arrays,
        "tiff of pages": tiff_pages,
        "tiff of strips": tiff_strips,
        "heic of extents": heif_extents,
        "heic of boxes": heif_boxes,
        "heic of links": heif_links,
        "heic of tracks": heif_tracks,
    }


HOSTILE = _in_all()
"""Makers of files by a name; each takes the approximate size of the file in bytes."""
