"""Layouts of TIFF samples that Imago decodes: Pillow's and some more, for the header check and the decoder."""

from PIL import TiffImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

__all__ = ["LITTLE_ENDIAN", "NATIVE_MODES", "TiffImageFile", "require_layout"]

_BITS, _COMPRESSION, _SAMPLES, _PLANAR, _SEPARATE_PLANES = 258, 259, 277, 284, 2

# Compressions that Pillow knows, but does not decode in the layouts that it opens: ThunderScan, SGI's two, WebP.
_NOT_DECODED = frozenset({32809, 34676, 34677, 50001})
# Those for fax pages, which have one bit per pixel.
_OF_BILEVEL = frozenset({2, 3, 4, 32771})

LITTLE_ENDIAN, BIG_ENDIAN = b"II", b"MM"
# Layouts that Pillow's table lacks, though its unpackers read them: 16-bit and 12-bit gray, and gray with alpha of 16
# bits, whose four bytes are unpacked as four channels (`pixels.tiff.samples_of` says which of them count).
for _order in (LITTLE_ENDIAN, BIG_ENDIAN):
    for _photometric in (0, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
    for _alpha in (0, 1, 2):
        TiffImagePlugin.OPEN_INFO[_order, 1, (1,), 1, (16, 16), (_alpha,)] = "RGBX", "RGBX"
TiffImagePlugin.OPEN_INFO[BIG_ENDIAN, 0, (1,), 1, (16,), ()] = "I;16B", "I;16B"
# Pillow takes unsigned samples of 32 bits for signed ones.
TiffImagePlugin.OPEN_INFO[LITTLE_ENDIAN, 1, (1,), 1, (32,), ()] = "F", "F;32"
TiffImagePlugin.OPEN_INFO[BIG_ENDIAN, 1, (1,), 1, (32,), ()] = "F", "F;32B"
# libtiff returns samples in the machine's byte order, but Pillow unpacks some as those of the file.
NATIVE_MODES = {"F;32": "F;32N", "F;32B": "F;32N", "F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}


def require_layout(image: TiffImageFile) -> None:
    """Raise UnidentifiedImageError for a layout that Pillow opens and decodes wrongly."""
    if image.tag_v2.get(_PLANAR) == _SEPARATE_PLANES and image.tag_v2.get(_SAMPLES) == 2:
        raise UnidentifiedImageError("gray and alpha in separate planes")
    compression = image.tag_v2.get(_COMPRESSION, 1)
    if compression in _NOT_DECODED or (compression in _OF_BILEVEL and max(image.tag_v2.get(_BITS, (1,))) > 1):
        raise UnidentifiedImageError("compression")
