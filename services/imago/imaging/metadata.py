"""Read all metadata of a file: EXIF, and what XMP and IPTC add to it."""

import io
from dataclasses import replace
from typing import BinaryIO

from imago.core.images.model import ImageFormat
from imago.core.images.results import ExifResult, Gps
from imago.imaging.exif import ExifReader, parse, read_exif
from imago.imaging.header import sniff
from imago.imaging.ifd import Directories, NotTiff, Tags
from imago.imaging.iptc.exif_texts import read_texts
from imago.imaging.iptc.fields import local_time
from imago.imaging.iptc.iim import IimFields, read_iim
from imago.imaging.iptc.reconcile import reconcile
from imago.imaging.iptc.xmp import read_xmp
from imago.imaging.metadata_parts import MetadataParts, read_metadata

# The times of EXIF that are not the time of the last change: taken and digitized.
_CREATED = (0x9003, 0x9004)


def read_file(stream: BinaryIO, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the metadata of a file; empty if it has none or it is unreadable.

    The stream must be seekable, and only the bytes of the metadata are read. This is pure Python, so it may run outside
    the sandbox.
    """
    parts = read_metadata(stream)
    if parts.exif is not None:
        return _completed(parse(parts.exif, reader=reader), parts, _directories(io.BytesIO(parts.exif)))
    if _is_tiff(stream):
        # The file is itself a block of EXIF.
        return _completed(read_exif(stream, reader=reader), parts, _directories(stream))
    return _completed(ExifResult(), parts, None)


def _is_tiff(stream: BinaryIO) -> bool:
    stream.seek(0)
    return sniff(stream.read(256)) is ImageFormat.TIFF


def _directories(block: BinaryIO) -> Directories | None:
    try:
        return Directories(block)
    except NotTiff:
        return None


def _completed(result: ExifResult, parts: MetadataParts, directories: Directories | None) -> ExifResult:
    xmp = read_xmp(*parts.xmp)
    iim = read_iim(parts.iptc, digest=parts.iptc_digest) if parts.iptc else IimFields()
    iptc = reconcile(xmp.iptc, iim, read_texts(_main(directories)))
    taken_at = xmp.taken_at or (local_time(iptc.created_at) if iptc else None)
    if taken_at is None or (result.camera.taken_at and _has_time_of_creation(directories)):
        taken_at = result.camera.taken_at
    camera = replace(result.camera, lens=result.camera.lens or xmp.lens, taken_at=taken_at)
    return ExifResult(camera, _place(result.gps, xmp.gps), iptc)


def _main(directories: Directories | None) -> Tags:
    return directories.main() if directories else {}


def _has_time_of_creation(directories: Directories | None) -> bool:
    """Return whether EXIF has another time than that of the last change."""
    return directories is not None and any(tag in tags for tag in _CREATED for tags in directories.read()[:2])


def _place(gps: Gps, xmp: Gps) -> Gps:
    altitude = xmp.altitude if gps.altitude is None else gps.altitude
    return replace(gps if gps.has_gps else xmp, altitude=altitude)
