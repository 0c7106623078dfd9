"""Read EXIF into the camera, the exposure, the time and the place.

The tolerant reader of `containers.ifd` is the default, and piexif is an option of the exif stage (`EXIF_READER`) for
every format but TIFF, which piexif would load into memory. The vision stage always uses the default. piexif drops the
last letter of a text without a final NUL (the date of a Kodak CX7530 is lost), and fails on a whole block if one entry
is broken. Each field is read separately, so that a broken one doesn't affect the others. Invalid bytes never raise.
"""

import io
from dataclasses import replace
from typing import BinaryIO, Literal

import piexif

from imago.core.images.model import ImageFormat
from imago.core.images.results import Camera, ExifResult
from imago.imaging.containers.ifd import Directories, NotTiff
from imago.imaging.formats.header import PARSER_ERRORS, sniff
from imago.imaging.metadata.exif import dates, exposure, gps, lens, makernotes
from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.exif.values import text
from imago.imaging.metadata.metadata_parts import read_metadata

ExifReader = Literal["ifd", "piexif"]


class ExifBlock:
    """A block of EXIF, or a TIFF file, which is itself such a block; its directories are read once.

    Raises NotTiff if it doesn't begin with a byte order.
    """

    def __init__(self, source: bytes | BinaryIO) -> None:
        self._block = source if isinstance(source, bytes) else None
        self._directories = Directories(io.BytesIO(source) if isinstance(source, bytes) else source)
        self.tables = TagTables(*self._directories.read())

    def result(self, *, reader: ExifReader = "ifd") -> ExifResult:
        """Return the camera and the place."""
        tables = self._by_piexif() if reader == "piexif" else None
        if tables is not None:
            return _result(tables)
        return _completed(_result(self.tables), self._directories, self.tables)

    def _by_piexif(self) -> TagTables | None:
        """Return the tags as piexif reads them; None if it can't read the block, or not safely."""
        try:
            # piexif trusts counts, and allocates whatever a crafted one requests.
            if self._block is None or not self._directories.plausible():
                return None
            loaded = piexif.load(self._block)
        except PARSER_ERRORS:
            return None
        return TagTables(loaded["0th"], loaded["Exif"], loaded["GPS"])


def open_exif(source: bytes | BinaryIO) -> ExifBlock | None:
    """Return the block of EXIF in bytes, or the one that a TIFF file is; None if it is unreadable."""
    try:
        return ExifBlock(source)
    except NotTiff:
        return None


def read_exif(stream: BinaryIO, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the EXIF of a file; an empty result if it has none or it is unreadable.

    The stream must be seekable, and only the bytes of the tags are read. This is pure Python, so it may run outside
    the sandbox.
    """
    stream.seek(0)
    is_tiff = sniff(stream.read(256)) is ImageFormat.TIFF
    block = open_exif(stream if is_tiff else read_metadata(stream).exif or b"")
    return block.result(reader=reader) if block else ExifResult()


def parse(block: bytes, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the result of an EXIF block, which begins with its byte order (`II` or `MM`)."""
    opened = open_exif(block)
    return opened.result(reader=reader) if opened else ExifResult()


def _result(tables: TagTables) -> ExifResult:
    camera = Camera(
        make=tables.first(text, Tag.MAKE),
        model=tables.first(text, Tag.MODEL),
        lens=lens.lens(tables),
        iso=exposure.iso(tables),
        aperture=exposure.aperture(tables),
        shutter_speed=exposure.shutter_speed(tables),
        focal_length=exposure.focal_length(tables),
        taken_at=dates.taken_at(tables),
    )
    return ExifResult(camera, gps.place(tables.gps))


def _completed(result: ExifResult, directories: Directories, tables: TagTables) -> ExifResult:
    camera = result.camera
    if camera.lens and camera.iso:
        return result
    note = makernotes.read(directories, tables)
    return replace(result, camera=replace(camera, lens=camera.lens or note.lens, iso=camera.iso or note.iso))
