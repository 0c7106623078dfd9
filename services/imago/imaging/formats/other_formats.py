"""Names of the formats that Imago does not take, by their first bytes, and what to send instead."""

from collections.abc import Iterable
from enum import StrEnum

from imago.core.errors import UnsupportedMediaType
from imago.imaging.containers import bmff

ACCEPTED = "JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC or AVIF"


class Remedy(StrEnum):
    """What a client can send instead."""

    RAW = (
        "Camera raw files are not accepted: upload the JPEG or HEIC of the camera, or export the photo as JPEG or TIFF."
    )
    PICTURE = "Convert it to JPEG, PNG or WebP."
    VECTOR = "Export it as PNG."
    DOCUMENT = "Export its pages as PNG or TIFF."
    VIDEO = "Videos are not accepted: upload a frame as JPEG or PNG."
    OTHER = "It is not an image."


# Formats whose files begin as those of an accepted format do. The marks are long, because pixels may be there too.
_LOOKALIKE_SIGNATURES = (
    (0, b"II*\0\x10\0\0\0CR\x02\0", "Canon CR2", Remedy.RAW),
    (8, b"IIIITwaR", "Phase One IIQ", Remedy.RAW),
    (8, b"IIIICwaR", "Phase One IIQ", Remedy.RAW),
    (8, b"MMMMRawT", "Phase One IIQ", Remedy.RAW),
    (8, b"MMMMRawC", "Phase One IIQ", Remedy.RAW),
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS", Remedy.PICTURE),
)

_RAW_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (4, b"ftypcrx ", "Canon CR3"),
)

_PICTURE_SIGNATURES = (
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\2\0", "CUR"),
    (0, b"icns", "ICNS"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"AT&TFORM", "DjVu"),
    (128, b"DICM", "DICOM"),
    *((0, b"P%d%c" % (kind, space), "PNM") for kind in range(1, 8) for space in b"\n \t\r"),
)

_OTHER_SIGNATURES = (
    (0, b"%PDF", "PDF", Remedy.DOCUMENT),
    (0, b"%!PS", "PostScript", Remedy.DOCUMENT),
    (0, b"\xc5\xd0\xd3\xc6", "EPS", Remedy.DOCUMENT),
    (0, b"\xd7\xcd\xc6\x9a", "WMF", Remedy.VECTOR),
    (40, b" EMF", "EMF", Remedy.VECTOR),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM", Remedy.VIDEO),
    (8, b"AVI LIST", "AVI", Remedy.VIDEO),
    (0, b"PK\x03\x04", "ZIP", Remedy.OTHER),
    (0, b"\x1f\x8b\x08", "gzip", Remedy.OTHER),
)

_SIGNATURES = (
    *((offset, mark, name, Remedy.RAW) for offset, mark, name in _RAW_SIGNATURES),
    *((offset, mark, name, Remedy.PICTURE) for offset, mark, name in _PICTURE_SIGNATURES),
    *_OTHER_SIGNATURES,
)

_VIDEO_BRANDS = frozenset({b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "})


def lookalike_refusal(head: bytes) -> UnsupportedMediaType | None:
    """Return the error for a file that only looks like one of an accepted format; None for others."""
    return _signed(head, _LOOKALIKE_SIGNATURES)


def refusal(head: bytes) -> UnsupportedMediaType:
    """Return the error for a file of no accepted format, by its first 256 bytes.

    The first bytes of an accepted format can contain any of these marks, in a comment for example.
    """
    return _signed(head, _SIGNATURES) or _text_refusal(head) or _video_refusal(head) or _unknown()


def _signed(head: bytes, signatures: Iterable[tuple[int, bytes, str, Remedy]]) -> UnsupportedMediaType | None:
    found = (_error(name, remedy) for offset, mark, name, remedy in signatures if head.startswith(mark, offset))
    return next(found, None)


def _text_refusal(head: bytes) -> UnsupportedMediaType | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if text.startswith((b"<svg", b"<!doctype svg")) or b"<svg" in text:
        return _error("SVG", Remedy.VECTOR)
    if text.startswith(b"<?xml"):
        # A comment can be longer than what is read here.
        return _error("SVG or other XML", Remedy.VECTOR)
    if text.startswith((b"<!doctype html", b"<html")):
        return _error("HTML", Remedy.OTHER)
    return None


def _video_refusal(head: bytes) -> UnsupportedMediaType | None:
    return _error("MP4 or QuickTime", Remedy.VIDEO) if bmff.brands(head) & _VIDEO_BRANDS else None


def _unknown() -> UnsupportedMediaType:
    return UnsupportedMediaType(f"Unsupported file type; expected {ACCEPTED}.")


def raw_tiff(what: str) -> UnsupportedMediaType:
    """Return the error for a raw file with the structure of a TIFF."""
    return _error(what, Remedy.RAW)


def _error(name: str, remedy: Remedy) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"Unsupported file type: {name}. {remedy} Accepted: {ACCEPTED}.")
