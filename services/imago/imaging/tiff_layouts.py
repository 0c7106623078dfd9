"""Layouts of TIFF samples that Imago decodes: Pillow's and some more, for the header check and the decoder."""

from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

__all__ = ["LITTLE_ENDIAN", "NATIVE_MODES", "TiffImageFile"]

LITTLE_ENDIAN, BIG_ENDIAN = b"II", b"MM"
# Layouts that Pillow's table lacks, though its unpackers read them: 16-bit and 12-bit gray, and gray with alpha of 16
# bits, whose four bytes are unpacked as four channels (`pixels.tiff.samples_of` says which of them count).
for _order in (LITTLE_ENDIAN, BIG_ENDIAN):
    for _photometric in (0, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
    for _alpha in (0, 1, 2):
        TiffImagePlugin.OPEN_INFO[_order, 1, (1,), 1, (16, 16), (_alpha,)] = "RGBX", "RGBX"
TiffImagePlugin.OPEN_INFO[BIG_ENDIAN, 0, (1,), 1, (16,), ()] = "I;16B", "I;16B"
# libtiff returns samples in the machine's byte order, but Pillow unpacks some as those of the file.
NATIVE_MODES = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
