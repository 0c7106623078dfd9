"""AVIF files: their colour code points and clean aperture, which Pillow ignores, and a size for alpha without one.

This reads the boxes again (ISO/IEC 14496-12 and 23008-12), because it needs their positions. It runs in the child
process, so it only has to end, and any error of it means that the file is left as it is.
"""

import struct
from dataclasses import dataclass, field
from fractions import Fraction

from imago.imaging.containers.bmff import MAX_ITEMS, Box, boxes
from imago.imaging.pixels.cicp import CodePoints


@dataclass
class _Properties:
    """The properties of a file's items; associations are the indexes of an item's properties, from 1."""

    path: list[Box]
    properties: list[Box] = field(default_factory=list)
    associations: dict[int, list[int]] = field(default_factory=dict)
    table: Box | None = None

    def indexes(self, item: int, kind: bytes) -> list[int]:
        """Return the indexes of an item's properties of a kind."""
        found = (index & 0x7FFF for index in self.associations.get(item, []))
        return [at for at in found if 0 < at <= len(self.properties) and self.properties[at - 1].kind == kind]


def code_points(data: bytes) -> CodePoints | None:
    """Return the code points of the primary image; None without any. Raises struct.error or ValueError."""
    meta = _box(data, b"meta", 0, len(data))
    content = {box.kind: box for box in boxes(data, meta.content + 4, meta.end)}
    primary = _item(data, content[b"pitm"])
    properties = _read_properties(data, meta, content[b"iprp"])
    for index in properties.indexes(primary, b"colr"):
        at = properties.properties[index - 1].content
        if data[at : at + 4] == b"nclx":
            return CodePoints(*struct.unpack_from(">HH", data, at + 4))
    return None


def clean_aperture(data: bytes, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the part of the primary image that is shown (left, top, right, bottom), by ISO/IEC 14496-12, 12.1.4.

    Encoders pad images to the blocks of the codec. None if the file declares no part within the image's whole pixels.
    Raises struct.error, KeyError or ValueError.
    """
    meta = _box(data, b"meta", 0, len(data))
    content = {box.kind: box for box in boxes(data, meta.content + 4, meta.end)}
    properties = _read_properties(data, meta, content[b"iprp"])
    for index in properties.indexes(_item(data, content[b"pitm"]), b"clap"):
        numbers = struct.unpack_from(">IIIIiIiI", data, properties.properties[index - 1].content)
        width, height, right, down = (Fraction(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))
        left, top = (size[0] - width) / 2 + right, (size[1] - height) / 2 + down
        edges = left, top, left + width, top + height
        is_within = 0 <= left < edges[2] <= size[0] and 0 <= top < edges[3] <= size[1]
        if is_within and all(edge.denominator == 1 for edge in edges):
            return int(left), int(top), int(edges[2]), int(edges[3])
    return None


def with_alpha_size(data: bytes) -> bytes:
    """Return the file with a size property for each alpha image that lacks one, as in files of cavif before 2021.

    libavif refuses such files, unless it is compiled otherwise. Browsers show them. Raises struct.error, KeyError or
    ValueError.
    """
    meta = _box(data, b"meta", 0, len(data))
    content = {box.kind: box for box in boxes(data, meta.content + 4, meta.end)}
    if b"iref" not in content:
        return data
    properties = _read_properties(data, meta, content[b"iprp"])
    sizes = properties.indexes(_item(data, content[b"pitm"]), b"ispe")
    lacking = [item for item in _auxiliary_items(data, content[b"iref"]) if not properties.indexes(item, b"ispe")]
    if not sizes or not lacking or properties.table is None:
        return data
    for item in lacking:
        properties.associations.setdefault(item, []).insert(0, sizes[0])
    return _with_associations(data, properties, properties.table, content[b"iloc"])


def _with_associations(data: bytes, properties: _Properties, table: Box, locations: Box) -> bytes:
    """Return the file with the associations written again, and the offsets behind them moved."""
    version, wide = data[table.content], data[table.content + 3] & 1
    written = bytearray(data[table.content : table.content + 4] + struct.pack(">I", len(properties.associations)))
    for item, indexes in properties.associations.items():
        written += struct.pack(">I" if version else ">H", item) + bytes([len(indexes)])
        for index in indexes:
            # The topmost bit says that the property is essential.
            written += struct.pack(">H", index) if wide else bytes([index & 0x7F | index >> 8 & 0x80])
    growth = len(written) - (table.end - table.content)
    changed = bytearray(data)
    for box in (*properties.path, table):
        if box.content != box.start + 8:
            raise ValueError("a small box with a size of 64 bits")
        struct.pack_into(">I", changed, box.start, box.end - box.start + growth)
    _move_offsets(changed, locations, behind=table.end, by=growth)
    changed[table.content : table.end] = written
    return bytes(changed)


def _move_offsets(data: bytearray, locations: Box, *, behind: int, by: int) -> None:
    """Add `by` to the offsets of extents in the file that are at or after `behind`."""
    version = data[locations.content]
    sizes = struct.unpack_from(">H", data, locations.content + 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    at = locations.content + 6
    count, at = int.from_bytes(data[at : at + wide]), at + wide
    for _ in range(min(count, MAX_ITEMS)):
        method = data[at + wide + 1] & 15 if version else 0
        at += wide + (2 if version else 0) + 2
        base_at, at = at, at + base_size
        extents, at = int.from_bytes(data[at : at + 2]), at + 2
        base = int.from_bytes(data[base_at : base_at + base_size])
        for _ in range(extents):
            at += index_size if version else 0
            offset = int.from_bytes(data[at : at + offset_size])
            if method == 0 and base + offset >= behind and not base:
                data[at : at + offset_size] = (offset + by).to_bytes(offset_size)
            at += offset_size + length_size
        if method == 0 and base >= behind:
            data[base_at : base_at + base_size] = (base + by).to_bytes(base_size)


def _read_properties(data: bytes, meta: Box, box: Box) -> _Properties:
    found = _Properties([meta, box])
    for child in boxes(data, box.content, box.end):
        if child.kind == b"ipco":
            found.properties = list(boxes(data, child.content, child.end))
        elif child.kind == b"ipma" and found.table is None:
            found.table = child
            found.associations = _read_associations(data, child)
    return found


def _read_associations(data: bytes, box: Box) -> dict[int, list[int]]:
    """Return the indexes of each item's properties; the bit 0x8000 says that one is essential."""
    wide_item, wide = (4 if data[box.content] else 2), data[box.content + 3] & 1
    count, at = struct.unpack_from(">I", data, box.content + 4)[0], box.content + 8
    associations: dict[int, list[int]] = {}
    for _ in range(min(count, MAX_ITEMS)):
        item, at = int.from_bytes(data[at : at + wide_item]), at + wide_item
        number, at = data[at], at + 1
        if wide:
            values = list(struct.unpack_from(f">{number}H", data, at))
        else:
            values = [value & 0x7F | (value & 0x80) << 8 for value in data[at : at + number]]
        at += number * (2 if wide else 1)
        associations[item] = values
    return associations


def _auxiliary_items(data: bytes, references: Box) -> list[int]:
    wide = 4 if data[references.content] else 2
    return [
        int.from_bytes(data[box.content : box.content + wide])
        for box in boxes(data, references.content + 4, references.end)
        if box.kind == b"auxl"
    ]


def _item(data: bytes, box: Box) -> int:
    return int.from_bytes(data[box.content + 4 : box.end][: 4 if data[box.content] else 2])


def _box(data: bytes, kind: bytes, start: int, end: int) -> Box:
    for box in boxes(data, start, end):
        if box.kind == kind:
            return box
    raise ValueError(f"no {kind.decode()} box")
