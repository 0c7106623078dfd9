"""The segments of a JPEG file (ITU-T T.81, annex B)."""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imago.imaging.containers.ifd import Directories, NotTiff
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded

MAX_SEGMENTS = 10_000
# Bytes between segments, which decoders skip.
MAX_JUNK = 2**20

# Encoders write up to 30 scans. A decoder passes over all pixels in each scan, at 0.3 s for 1,000 megapixels.
MAX_SCANS = 200
MIN_SCAN_LIMIT = 30
MAX_SCANNED_PIXELS = 5_000_000_000

START_OF_SCAN, END_OF_IMAGE, APP1, APP2, APP13 = 0xDA, 0xD9, 0xE1, 0xE2, 0xED

_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})

# Any marker. FF 00 is a byte of pixel data, and FF FF is padding.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
# A marker that ends a scan: restarts are part of the pixel data.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# Searching the next marker takes longer than reading the next part.
_SCAN_STEPS = 3

_MPF_ENTRIES = 0xB002
_MPF_ENTRY_BYTES = 16
# CIPA DC-007, table 5: the types of panoramas and of pictures from several angles.
_MPF_MULTI_FRAME = 0x02


@dataclass(frozen=True)
class Segment:
    """A marker, and the position and length of its payload."""

    marker: int
    offset: int
    length: int


@dataclass(frozen=True)
class Frame:
    """The frame header: size in pixels, bits of a sample, components, and coefficients of a pixel of all components."""

    width: int
    height: int
    bits: int
    components: int
    coefficients: float
    progressive: bool


@dataclass(frozen=True)
class Layout:
    """The frame of a file, its first scan, and the number of pictures of one subject (stereo, panorama)."""

    frame: Frame
    scan: Segment
    pictures: int
    several_scans: bool
    """Whether a decoder holds all coefficients, because the pixels are in several scans."""


def segments(reader: BoundedReader) -> Iterator[Segment]:
    """Yield the segments before the pixels, and the start of the first scan; raise BrokenContainer."""
    position, junk = 2, 0
    for _ in range(MAX_SEGMENTS):
        head = reader.read(position, 4)
        if len(head) >= 2 and _MARKER.match(head) is None:
            found = reader.search(_MARKER, position)
            if found is None:
                return
            junk += found - position
            if junk > MAX_JUNK:
                raise LimitExceeded("there are too many bytes between the segments")
            position, head = found, reader.read(found, 4)
        if len(head) < 4:
            return
        marker = head[1]
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        if marker == END_OF_IMAGE:
            return
        segment = Segment(marker, position + 4, max(0, struct.unpack_from(">H", head, 2)[0] - 2))
        yield segment
        if marker == START_OF_SCAN:
            return
        position = segment.offset + segment.length
    raise LimitExceeded(f"more than {MAX_SEGMENTS} segments precede the image")


def layout(reader: BoundedReader) -> Layout:
    """Return the layout of a file; raise BrokenContainer if a part is missing."""
    frame, pictures = None, None
    for segment in segments(reader):
        if segment.marker in _FRAMES and frame is None:
            frame = _frame(reader, segment)
        elif segment.marker == APP2 and pictures is None and reader.read(segment.offset, 4) == b"MPF\0":
            pictures = _pictures(reader.read(segment.offset + 4, segment.length - 4))
        elif segment.marker == START_OF_SCAN:
            if frame is None:
                raise BrokenContainer("the size is missing")
            return Layout(frame, segment, pictures or 1, _has_several_scans(reader, frame, segment))
    raise BrokenContainer("the file ends before the image")


def _has_several_scans(reader: BoundedReader, frame: Frame, scan: Segment) -> bool:
    in_first = reader.read(scan.offset, 1)
    return frame.progressive or bool(in_first and in_first[0] < frame.components)


def _frame(reader: BoundedReader, segment: Segment) -> Frame:
    bits, height, width, components = struct.unpack(">BHHB", reader.exactly(segment.offset, 6))
    sampling = reader.exactly(segment.offset + 6, 3 * components)[1::3]
    return Frame(width, height, bits, components, _coefficients(sampling), segment.marker in _PROGRESSIVE)


def _coefficients(sampling: bytes) -> float:
    """Return the samples of all components for one pixel, by the sampling factors of the components."""
    factors = [(byte >> 4 or 1, byte & 15 or 1) for byte in sampling]
    largest = max((across for across, _ in factors), default=1) * max((down for _, down in factors), default=1)
    return sum(across * down for across, down in factors) / largest


def _pictures(index: bytes) -> int:
    """Return the pictures of a multi-picture index (CIPA DC-007); previews and gain maps don't count."""
    try:
        directories = Directories(io.BytesIO(index))
    except NotTiff:
        return 1
    entries = directories.main().get(_MPF_ENTRIES)
    if not isinstance(entries, bytes):
        return 1
    usable = range(0, len(entries) - _MPF_ENTRY_BYTES + 1, _MPF_ENTRY_BYTES)
    kinds = [int(struct.unpack_from(directories.order + "I", entries, at)[0]) >> 16 & 0xFF for at in usable]
    return max(1, kinds.count(_MPF_MULTI_FRAME))


def check_scans(reader: BoundedReader, layout: Layout) -> None:
    """Raise LimitExceeded if a decoder would pass over the pixels more often than any encoder asks for.

    Only files that are progressive, or whose components are in different scans, are read to their end.
    """
    if not layout.several_scans:
        return
    pixels = layout.frame.width * layout.frame.height
    limit = max(MIN_SCAN_LIMIT, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels)))
    scans, position = 1, layout.scan.offset + layout.scan.length
    while (found := reader.search(_END_OF_SCAN, position)) is not None:
        reader.step(_SCAN_STEPS)
        head = reader.read(found, 4)
        if head[1] == END_OF_IMAGE or len(head) < 4:
            break
        scans += head[1] == START_OF_SCAN
        if scans > limit:
            raise LimitExceeded(f"the image has more than {limit} scans")
        position = found + 2 if head[1] in _WITHOUT_LENGTH else found + 2 + struct.unpack_from(">H", head, 2)[0]
