"""The directories of a TIFF file (TIFF 6.0): the layout of its first page, and the number of pages."""

from dataclasses import dataclass
from typing import Any

from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded
from imago.imaging.ifd import MAX_ENTRIES, Directories, Tags

MAX_PAGES = 10_000
# Decoders allocate and seek for each of them.
MAX_STRIPS = 200_000

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _STRIP_SIZES, _PLANAR = 273, 277, 279, 284
_TILE_OFFSETS, _TILE_SIZES, _SAMPLE_FORMAT = 324, 325, 339


@dataclass(frozen=True)
class Layout:
    """The first page (size in pixels, samples, compression, photometric interpretation), and the number of pages."""

    width: int
    height: int
    bits: tuple[int, ...]
    samples: int
    sample_format: int
    compression: int
    photometric: int
    planar: bool
    pages: int


def layout(reader: BoundedReader) -> Layout:
    """Return the layout of a file; raise BrokenContainer or LimitExceeded."""
    directories = Directories(reader)
    if directories.entry_count(directories.first) > MAX_ENTRIES:
        raise LimitExceeded(f"its directory has more than {MAX_ENTRIES} entries")
    for entry in directories.entries(directories.first):
        if entry.tag in (_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES) and entry.count > MAX_STRIPS:
            raise LimitExceeded(f"it has more than {MAX_STRIPS} strips or tiles")
    tags = directories.main()
    return Layout(
        width=_number(tags, _WIDTH),
        height=_number(tags, _HEIGHT),
        bits=_numbers(tags.get(_BITS, 1)),
        samples=_number(tags, _SAMPLES, 1),
        sample_format=_numbers(tags.get(_SAMPLE_FORMAT, 1))[0],
        compression=_number(tags, _COMPRESSION, 1),
        photometric=_number(tags, _PHOTOMETRIC, 0),
        planar=_number(tags, _PLANAR, 1) == 2,
        pages=_pages(directories),
    )


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


def _numbers(value: Any) -> tuple[int, ...]:
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, int) for number in numbers):
        raise BrokenContainer("the bits of its samples are not numbers")
    return numbers
