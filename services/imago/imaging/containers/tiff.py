"""The directories of a TIFF file (TIFF 6.0): the layout of its first page, its pages, and signs of a raw file."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imago.imaging.containers.ifd import MAX_ENTRIES, Directories, NotTiff, Tags
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded

MAX_PAGES = 10_000
# Decoders allocate and seek for each of them.
MAX_STRIPS = 200_000
# Directories in which the pixels of a raw file are searched.
MAX_DIRECTORIES = 16
_MAX_ESSENTIAL_BYTES = 4096

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR, _COLOUR_MAP = 273, 277, 278, 279, 284, 320
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_SIZES, _SUB_DIRECTORIES = 322, 323, 324, 325, 330
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _DNG_VERSION = 338, 339, 50706
_PIXELS = (_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES)

_ESSENTIAL = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP),
    *(_PLANAR, _COLOUR_MAP, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
)

# The samples of a sensor: a colour filter array, and linear raw of DNG.
_RAW_PHOTOMETRIC = frozenset({32803, 34892})
# Of Nikon, Sony, Pentax, Kodak, Samsung, and of lossy DNG.
_RAW_COMPRESSION = frozenset({34713, 32767, 65535, 65000, 32770, 34892})
_REDUCED = 1

_SEPARATE_PLANES = 2
_SAMPLE_KINDS = {2: "signed integer", 3: "floating-point", 5: "complex", 6: "complex"}


@dataclass(frozen=True)
class Layout:
    """The first page (size in pixels, bits of a sample, samples of a pixel, compression, strips), number of pages."""

    width: int
    height: int
    bits: int
    samples: int
    compression: int
    rows_per_strip: int
    pages: int

    @property
    def strip_bytes(self) -> int:
        """The bytes of one decompressed strip, which a decoder holds beside the image; 0 without compression."""
        rows = min(self.rows_per_strip, self.height)
        return 0 if self.compression == 1 else self.width * rows * self.samples * self.bits // 8


def open_directories(reader: BoundedReader) -> Directories:
    """Return the directories of a file; raise BrokenContainer or LimitExceeded if the first one is too large."""
    try:
        directories = Directories(reader)
    except NotTiff as error:
        raise BrokenContainer(str(error)) from error
    if directories.entry_count(directories.first) > MAX_ENTRIES:
        raise LimitExceeded(f"its directory has more than {MAX_ENTRIES} entries")
    for entry in directories.entries(directories.first):
        if entry.tag in _PIXELS and entry.count > MAX_STRIPS:
            raise LimitExceeded(f"it has more than {MAX_STRIPS} strips or tiles")
    return directories


def layout(directories: Directories) -> Layout:
    """Return the layout of a file; raise BrokenContainer."""
    tags = directories.main()
    return Layout(
        width=_number(tags, _WIDTH),
        height=_number(tags, _HEIGHT),
        bits=_first(tags.get(_BITS, 1)),
        samples=_number(tags, _SAMPLES, 1),
        compression=_number(tags, _COMPRESSION, 1),
        rows_per_strip=_first(tags.get(_ROWS_PER_STRIP, 2**32 - 1)),
        pages=_pages(directories),
    )


def unsupported(directories: Directories) -> str:
    """Return why no decoder takes the first page, to follow a colon."""
    tags = directories.main()
    kind = _SAMPLE_KINDS.get(_first(tags.get(_SAMPLE_FORMAT, 1)), "integer")
    planes = ", in separate planes," if tags.get(_PLANAR) == _SEPARATE_PLANES else ""
    layout = f"{_first(tags.get(_SAMPLES, 1))} {kind} samples of {_first(tags.get(_BITS, 1))} bits per pixel{planes}"
    return (
        f"{layout} in compression {_first(tags.get(_COMPRESSION, 1))} are not supported; save it with integers of 8 or "
        "16 bits, pixel by pixel, in a common compression such as LZW"
    )


def raw_kind(directories: Directories) -> str | None:
    """Return what shows that a file is a camera's raw file, whose first image can be a preview; None for others."""
    main = directories.main()
    if _DNG_VERSION in main:
        return "DNG"
    others = list(_others(directories, main))
    if any(_has_raw_samples(tags) for tags in (main, *others)):
        return "TIFF-based camera raw"
    is_preview = _first(main.get(_SUBFILE_TYPE, 0)) & _REDUCED
    if is_preview and any(_pixels(tags) > _pixels(main) for tags in others):
        return "TIFF-based camera raw (its first image is a preview)"
    return None


def _others(directories: Directories, main: Tags) -> Iterator[Tags]:
    """Yield the tags of the directories below the main one, and of those below them or after it."""
    waiting, seen = [main], {directories.first}
    following = directories.following(directories.first)
    offsets = [following] if following else []
    while waiting and len(seen) < MAX_DIRECTORIES:
        value = waiting.pop().get(_SUB_DIRECTORIES, ())
        offsets += value if isinstance(value, tuple) else [value]
        for offset in offsets:
            if isinstance(offset, int) and offset not in seen and len(seen) < MAX_DIRECTORIES:
                seen.add(offset)
                tags = directories.directory(offset)
                waiting.append(tags)
                yield tags
        offsets = []


def _has_raw_samples(tags: Tags) -> bool:
    return tags.get(_PHOTOMETRIC) in _RAW_PHOTOMETRIC or tags.get(_COMPRESSION) in _RAW_COMPRESSION


def _pixels(tags: Tags) -> int:
    width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


def essentials(directories: Directories) -> bytes:
    """Return a small TIFF with the tags that decide whether a decoder takes the first page, and no pixels."""
    entries, blobs = [], b""
    found = {entry.tag: entry for entry in directories.entries(directories.first) if entry.tag in _ESSENTIAL}
    start = 8 + 2 + 12 * len(found) + 4
    for tag, entry in sorted(found.items()):
        width = max(1, entry.size // max(1, entry.count))
        data = directories.blob(entry, limit=width if tag in _PIXELS else _MAX_ESSENTIAL_BYTES)
        count, inline = len(data) // width, data.ljust(4, b"\0")
        if len(data) > 4:
            inline = struct.pack(directories.order + "I", start + len(blobs))
            blobs += data + b"\0" * (len(data) & 1)
        entries.append(struct.pack(directories.order + "HHI", tag, entry.kind, count) + inline)
    head = directories.mark + struct.pack(directories.order + "HIH", 42, 8, len(entries))
    return head + b"".join(entries) + bytes(4) + blobs


def _pages(directories: Directories) -> int:
    seen: set[int] = set()
    offset: int | None = directories.first
    try:
        while offset and offset not in seen and len(seen) < MAX_PAGES:
            following = directories.following(offset)
            if following is not None or directories.entry_count(offset):
                seen.add(offset)
            offset = following
    except LimitExceeded:
        return len(seen)
    return len(seen)


def _number(tags: Tags, tag: int, default: int | None = None) -> int:
    value = tags.get(tag, default)
    if value is None:
        raise BrokenContainer(f"the tag {tag} is missing")
    if not isinstance(value, int):
        raise BrokenContainer(f"the tag {tag} is not a number")
    return value


def _first(value: Any) -> int:
    number = value[0] if isinstance(value, tuple) and value else value
    return number if isinstance(number, int) else 0
