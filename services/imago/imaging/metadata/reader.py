"""Read all metadata of a file: EXIF, and what XMP and IPTC add to it."""

from dataclasses import replace
from typing import BinaryIO

from imago.core.images.model import ImageFormat
from imago.core.images.results import ExifResult, Gps
from imago.imaging.formats.header import sniff
from imago.imaging.metadata.exif import ExifReader, open_exif
from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.iptc.exif_texts import read_texts
from imago.imaging.metadata.iptc.fields import local_time
from imago.imaging.metadata.iptc.iim import IimFields, read_iim
from imago.imaging.metadata.iptc.reconcile import reconcile
from imago.imaging.metadata.iptc.xmp import read_xmp
from imago.imaging.metadata.metadata_parts import MetadataParts, read_metadata

# The times of EXIF that are not the time of the last change: taken and digitized.
_CREATED = (Tag.TAKEN, Tag.DIGITIZED)


def read_file(stream: BinaryIO, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the metadata of a file; empty if it has none or it is unreadable.

    The stream must be seekable, and only the bytes of the metadata are read. This is pure Python, so it may run outside
    the sandbox.
    """
    parts = read_metadata(stream)
    stream.seek(0)
    # A TIFF file is itself a block of EXIF.
    is_tiff = sniff(stream.read(256)) is ImageFormat.TIFF
    block = open_exif(stream if is_tiff else parts.exif or b"")
    if block is None:
        return _completed(ExifResult(), parts, TagTables())
    return _completed(block.result(reader=reader), parts, block.tables)


def _completed(result: ExifResult, parts: MetadataParts, tables: TagTables) -> ExifResult:
    xmp = read_xmp(*parts.xmp)
    iim = read_iim(parts.iptc, digest=parts.iptc_digest) if parts.iptc else IimFields()
    iptc = reconcile(xmp.iptc, iim, read_texts(tables.main))
    taken_at = xmp.taken_at or (local_time(iptc.created_at) if iptc else None)
    if taken_at is None or (result.camera.taken_at and any(tables.all(tag) for tag in _CREATED)):
        taken_at = result.camera.taken_at
    camera = replace(result.camera, lens=result.camera.lens or xmp.lens, taken_at=taken_at)
    return ExifResult(camera, _place(result.gps, xmp.gps), iptc)


def _place(gps: Gps, xmp: Gps) -> Gps:
    altitude = xmp.altitude if gps.altitude is None else gps.altitude
    return replace(gps if gps.has_gps else xmp, altitude=altitude)
