"""A bounded parser of the boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12), without decoding.

It finds what the header check and the readers of metadata need: the size of the primary image, the number of images,
and the location of the items with EXIF and XMP. Every count, size and depth has a limit, so that a crafted file costs
little.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded

MAX_BOXES = 4096
MAX_META_BYTES = 4 * 2**20
MAX_ITEMS = 4096
MAX_EXTENTS = 64

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
GENERIC_BRANDS = frozenset({b"mif1", b"msf1", b"mif2"})

# How long boxes and extents take to read, compared with the parts of other formats.
_BOX_STEPS = 2
_EXTENT_STEPS = 5

_HIDDEN_OR_DATA = frozenset({b"Exif", b"mime", b"uri "})
# The item types that are made of other items: grids, overlays, and images that are turned or cropped.
_DERIVED = frozenset({b"grid", b"iovl", b"iden", b"tmap"})


class InvalidBoxes(BrokenContainer):
    """The boxes contradict each other or exceed a limit."""


@dataclass(frozen=True)
class Extent:
    """A range of bytes, in the file or (`in_idat`) in the meta box's `idat` box."""

    offset: int
    length: int
    in_idat: bool


@dataclass
class HeifInfo:
    """The content of the meta box."""

    brands: frozenset[bytes]
    primary: int | None = None
    types: dict[int, bytes] = field(default_factory=dict)
    content_types: dict[int, bytes] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    extents: dict[int, list[Extent]] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    references: dict[bytes, dict[int, list[int]]] = field(default_factory=dict)
    idat: bytes = b""

    @property
    def codec(self) -> bytes | None:
        """The item type of the coded pixels: `hvc1`, `av01`, or None if no item has one."""
        coded = [kind for kind in self.types.values() if kind in (b"hvc1", b"av01")]
        return coded[0] if coded else None

    @property
    def foreign_codecs(self) -> tuple[bytes, ...]:
        """The item types of coded pixels that are neither HEVC nor AV1."""
        known = {*_HIDDEN_OR_DATA, *_DERIVED, b"hvc1", b"av01"}
        return tuple(sorted({kind for kind in self.types.values() if kind not in known}))

    @property
    def primary_size(self) -> tuple[int, int] | None:
        """Width and height of the primary image before its rotation, or None if the file has no size."""
        return None if self.primary is None else self.sizes.get(self.primary)

    @property
    def images(self) -> int:
        """The number of images that a reader would show: no tiles, thumbnails, auxiliary or hidden images."""
        parts = set(self.hidden)
        for tiles in self.references.get(b"dimg", {}).values():
            parts.update(tiles)
        for kind in (b"thmb", b"auxl"):
            parts.update(self.references.get(kind, {}))
        shown = [item for item, kind in self.types.items() if kind not in _HIDDEN_OR_DATA and item not in parts]
        return max(1, len(shown))


def brands(head: bytes) -> frozenset[bytes]:
    """Return the brands of a file by its first bytes; empty if it doesn't begin with a `ftyp` box."""
    if len(head) < 16 or head[4:8] != b"ftyp":
        return frozenset()
    size = min(struct.unpack(">I", head[:4])[0], len(head))
    return frozenset(head[at : at + 4] for at in (8, *range(16, size - 3, 4)))


@dataclass(frozen=True)
class Box:
    """A box: its type, its position, the position of its content, and its end."""

    kind: bytes
    start: int
    content: int
    end: int


def box_head(data: bytes, at: int = 0) -> Box:
    """Return the box that begins in data; the end of one without a size is 0. Raises struct.error or InvalidBoxes."""
    size, kind = struct.unpack_from(">I4s", data, at)
    header = 8
    if size == 1:
        size, header = struct.unpack_from(">Q", data, at + 8)[0], 16
    if 0 < size < header:
        raise InvalidBoxes("a box is smaller than its header")
    return Box(kind, at, at + header, at + size if size else 0)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of a range of data; raise InvalidBoxes or LimitExceeded."""
    end = len(data) if end is None else end
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        box = box_head(data, start)
        box = box if box.end else replace(box, end=end)
        if box.end > end:
            raise InvalidBoxes("a box is larger than its container")
        yield box
        start = box.end
    raise LimitExceeded("a box has too many parts")


def read_heif(reader: BoundedReader) -> HeifInfo:
    """Read the meta box of a file; raise InvalidBoxes or LimitExceeded if it is missing, invalid or too large."""
    info = HeifInfo(brands(reader.read(0, 256)))
    if not info.brands:
        raise InvalidBoxes("no ftyp box")
    try:
        meta = _find(reader, b"meta")
        for kind, body in _boxes(reader, meta[4:]):
            _read_child(reader, info, kind, body)
    except (struct.error, IndexError) as error:
        raise InvalidBoxes("a box ends too early") from error
    return info


def read_item(reader: BoundedReader, info: HeifInfo, item: int, *, limit: int) -> bytes:
    """Return the bytes of an item, at most `limit`."""
    parts, left = [], limit
    for extent in info.extents.get(item, [])[:MAX_EXTENTS]:
        length = min(extent.length, left)
        if length <= 0:
            break
        data = info.idat[extent.offset :][:length] if extent.in_idat else reader.read(extent.offset, length)
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def sequence_frames(reader: BoundedReader) -> int:
    """Return the number of samples in the longest track of an image sequence; 1 without a track."""
    try:
        moov = _find(reader, b"moov")
        return max([1, *_sample_counts(reader, moov, depth=0)])
    except (BrokenContainer, struct.error, IndexError):
        return 1


def _sample_counts(reader: BoundedReader, data: bytes, *, depth: int) -> Iterator[int]:
    for kind, body in _boxes(reader, data):
        if kind == b"stsz":
            yield struct.unpack_from(">I", body, 8)[0]
        elif kind in (b"trak", b"mdia", b"minf", b"stbl") and depth < 8:
            yield from _sample_counts(reader, body, depth=depth + 1)


def _find(reader: BoundedReader, box: bytes) -> bytes:
    position = 0
    for _ in range(MAX_BOXES):
        data = reader.read(position, 16)
        if len(data) < 8:
            break
        head = box_head(data)
        if head.kind == box:
            length = head.end - head.content if head.end else MAX_META_BYTES
            if length > MAX_META_BYTES:
                raise InvalidBoxes("a box is too large")
            return reader.read(position + head.content, length)
        if not head.end:
            break
        position += head.end
    raise InvalidBoxes(f"no {box.decode()} box")


def _boxes(reader: BoundedReader, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for box in boxes(data):
        reader.step(_BOX_STEPS)
        yield box.kind, data[box.content : box.end]


def _read_child(reader: BoundedReader, info: HeifInfo, kind: bytes, body: bytes) -> None:
    match kind:
        case b"pitm":
            info.primary = struct.unpack_from(">I" if body[0] else ">H", body, 4)[0]
        case b"iinf":
            _read_item_infos(reader, info, body)
        case b"iloc":
            _read_locations(reader, info, body)
        case b"iprp":
            _read_properties(reader, info, body)
        case b"iref":
            _read_references(reader, info, body)
        case b"idat":
            info.idat = body


def _read_item_infos(reader: BoundedReader, info: HeifInfo, body: bytes) -> None:
    start = 8 if body[0] else 6
    for kind, entry in _boxes(reader, body[start:]):
        if kind != b"infe" or entry[0] < 2:
            continue
        wide = entry[0] >= 3
        item = struct.unpack_from(">I" if wide else ">H", entry, 4)[0]
        at = 10 if wide else 8
        if len(info.types) >= MAX_ITEMS:
            raise LimitExceeded("the file has too many items")
        info.types[item] = item_type = entry[at : at + 4]
        if item_type == b"mime":
            # The item's name precedes its media type.
            info.content_types[item] = [*entry[at + 4 :].split(b"\0", 2), b""][1]
        if entry[3] & 1:
            info.hidden.add(item)


def _read_locations(reader: BoundedReader, info: HeifInfo, body: bytes) -> None:
    version = body[0]
    offset_size, length_size = body[4] >> 4, body[4] & 15
    base_size, index_size = body[5] >> 4, (body[5] & 15) if version else 0
    at = 6

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(body):
            raise InvalidBoxes("iloc ends too early")
        value = int.from_bytes(body[at : at + size], "big")
        at += size
        return value

    count = take(4 if version == 2 else 2)
    for _ in range(min(count, MAX_ITEMS)):
        item = take(4 if version == 2 else 2)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        extents = []
        for _ in range(min(take(2), MAX_BOXES)):
            # With sizes of zero, an extent takes no bytes.
            reader.step(_EXTENT_STEPS)
            take(index_size)
            offset, length = take(offset_size), take(length_size)
            extents.append(Extent(base + offset, length, method == 1))
        if method in (0, 1):
            info.extents[item] = extents


def _read_properties(reader: BoundedReader, info: HeifInfo, body: bytes) -> None:
    properties: list[_Size | None] = []
    for kind, part in _boxes(reader, body):
        if kind == b"ipco":
            properties.extend(_size_property(name, value) for name, value in _boxes(reader, part))
        elif kind == b"ipma":
            _read_associations(reader, info, part, properties)


@dataclass(frozen=True)
class _Size:
    width: int
    height: int
    clean: bool


def _size_property(name: bytes, value: bytes) -> _Size | None:
    if name == b"ispe":
        width, height = struct.unpack_from(">II", value, 4)
        return _Size(width, height, clean=False)
    if name == b"clap":
        # The clean aperture. Encoders pad images to the codec's blocks, and readers show only this part.
        width, by_width, height, by_height = struct.unpack_from(">IIII", value, 0)
        if by_width and by_height:
            return _Size(width // by_width, height // by_height, clean=True)
    return None


def _read_associations(reader: BoundedReader, info: HeifInfo, body: bytes, properties: list[_Size | None]) -> None:
    wide_item, wide_index = body[0] >= 1, body[3] & 1
    count, at = struct.unpack_from(">I", body, 4)[0], 8
    for _ in range(min(count, MAX_ITEMS)):
        item = struct.unpack_from(">I" if wide_item else ">H", body, at)[0]
        at += 4 if wide_item else 2
        links = body[at]
        at += 1
        reader.step(1 + links)
        for _ in range(links):
            index = struct.unpack_from(">H", body, at)[0] & 0x7FFF if wide_index else body[at] & 0x7F
            at += 2 if wide_index else 1
            size = properties[index - 1] if 0 < index <= len(properties) else None
            if size is not None and (size.clean or item not in info.sizes):
                info.sizes[item] = (size.width, size.height)


def _read_references(reader: BoundedReader, info: HeifInfo, body: bytes) -> None:
    wide = body[0] >= 1
    size, code = (4, ">I") if wide else (2, ">H")
    for kind, part in _boxes(reader, body[4:]):
        source = struct.unpack_from(code, part, 0)[0]
        count = struct.unpack_from(">H", part, size)[0]
        reader.step(count)
        targets = [struct.unpack_from(code, part, size + 2 + size * index)[0] for index in range(count)]
        info.references.setdefault(kind, {}).setdefault(source, []).extend(targets)
