"""TIFF files that Pillow opens but decodes wrongly, and their correction."""

import sys
from typing import BinaryIO

from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from imago.imaging.formats.tiff_layouts import LITTLE_ENDIAN, NATIVE_MODES, require_layout
from imago.imaging.pixels.samples import Samples, is_dark

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _COLOUR_MAP, _MAX_SAMPLE = 258, 259, 262, 284, 320, 281
_EXTRA_SAMPLES = 338
_UNSPECIFIED, _PREMULTIPLIED = 0, 1
_UNCOMPRESSED, _SEPARATE_PLANES, _MIN_IS_WHITE = 1, 2, 0

# Bits of NewSubfileType: a copy in a lower resolution, and a transparency mask.
_SUBFILE_TYPE, _NOT_A_PAGE = 254, 1 | 4
_MAX_DIRECTORIES = 1000

# Raw modes of 16-bit RGB, of which Pillow unpacks the high bytes, and the modes by which it unpacks the low ones.
_LOW_BYTES = {
    "RGB;16L": "RGB;16B",
    "RGB;16B": "RGB;16L",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
# The header check estimates the memory of one decoded image.
_MOST_PIXELS_TWICE = 25_000_000


def open_tiff(stream: BinaryIO, *, page: int) -> TiffImagePlugin.TiffImageFile:
    """Open a page (0 is the first) of a TIFF file. Raises EOFError if it has fewer pages, and Pillow's errors.

    After the first, directories with a smaller copy of a page or with a mask are not counted as pages.
    """
    page = _directory_of(stream, page) if page else 0
    image = _open_page(stream, page)
    if _needs_libtiff(image):
        # Pillow's own reader takes the planes of deep samples for 8-bit ones; libtiff's is used for compressed ones.
        TiffImagePlugin.READ_LIBTIFF = True
        try:
            image = _open_page(stream, page)
        finally:
            TiffImagePlugin.READ_LIBTIFF = False
    if image.tile and image.tile[0].codec_name == "libtiff" and isinstance(image.tile[0].args, tuple):
        raw_mode, *others = image.tile[0].args
        image.tile = [image.tile[0]._replace(args=(NATIVE_MODES.get(raw_mode, raw_mode), *others))]
    if image.mode in ("P", "PA") and max(image.tag_v2[_COLOUR_MAP]) < 256:
        # TIFF's colours have 16 bits, but some writers store 8. libtiff makes the same distinction.
        image.palette = ImagePalette.raw("RGB;L", bytes(image.tag_v2[_COLOUR_MAP]))
    return image


def _directory_of(stream: BinaryIO, page: int) -> int:
    image = _open_page(stream, 0)
    directory = 0
    while page:
        directory += 1
        if directory > _MAX_DIRECTORIES:
            raise EOFError("too many directories")
        image.seek(directory)
        page -= not image.tag_v2.get(_SUBFILE_TYPE, 0) & _NOT_A_PAGE
    return directory


def _open_page(stream: BinaryIO, page: int) -> TiffImagePlugin.TiffImageFile:
    stream.seek(0)
    image = Image.open(stream, formats=["TIFF"])
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        raise TypeError("not a TIFF image")
    image.seek(page)
    require_layout(image)
    return image


def samples_of(image: TiffImagePlugin.TiffImageFile) -> Samples:
    """Return how deep samples of an image that is not loaded yet are to be read."""
    tags = image.tag_v2
    if image.mode == "RGBX":
        # Bytes of pairs of 16 bits, which libtiff returns in the machine's byte order.
        is_little = sys.byteorder == "little" if image.tile[0].codec_name == "libtiff" else tags.prefix == LITTLE_ENDIAN
        mode = {_UNSPECIFIED: "L", _PREMULTIPLIED: "La"}.get(tags[_EXTRA_SAMPLES][0], "LA")
        return Samples(pair=(1, 3) if is_little else (0, 2), pair_mode=mode)
    # Pillow inverts samples of up to 8 bits itself.
    inverted = tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE and image.mode not in ("1", "L", "LA", "La")
    if not image.mode.startswith("I;16"):
        return Samples(None, inverted=inverted)
    white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    declared = tags.get(_MAX_SAMPLE)
    declared = declared[0] if isinstance(declared, tuple) and declared else declared
    if isinstance(declared, int) and 255 < declared < white:
        white = declared
    return Samples(white, inverted=inverted)


def low_bytes(stream: BinaryIO, image: TiffImagePlugin.TiffImageFile, *, page: int) -> Image.Image | None:
    """Return the low bytes of an RGB image of 16 bits that uses only 10 or 12 of them, and None for others.

    Pillow reads the high bytes, which are dark then.
    """
    is_planar = image.tag_v2.get(_PLANAR) == _SEPARATE_PLANES
    if image.mode != "RGB" or is_planar or image.width * image.height > _MOST_PIXELS_TWICE:
        return None
    if not image.tile or any(_raw_mode(tile) not in _LOW_BYTES for tile in image.tile) or not is_dark(image):
        return None
    low = open_tiff(stream, page=page)
    low.tile = [_with_raw_mode(tile, _LOW_BYTES[_raw_mode(tile)]) for tile in low.tile]
    low.load()
    return low


def _raw_mode(tile: ImageFile._Tile) -> str:
    args = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    return str(args)


def _with_raw_mode(tile: ImageFile._Tile, mode: str) -> ImageFile._Tile:
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def _needs_libtiff(image: TiffImagePlugin.TiffImageFile) -> bool:
    tags = image.tag_v2
    return (
        tags.get(_PLANAR) == _SEPARATE_PLANES
        and tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
        and (max(tags.get(_BITS, (1,))) > 8 or _EXTRA_SAMPLES in tags)
    )
