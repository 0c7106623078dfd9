"""How a picture is turned, for every format: the only place that decides it."""

from PIL import Image

from imago.imaging.formats.header import PARSER_ERRORS

_ORIENTATION = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return the orientation (1..8, as in EXIF) of the pixels of an opened image, before any operation on it.

    TIFF is loaded for it, because Pillow makes its pixels upright while it loads them.
    """
    match image.format:
        case "TIFF":
            image.load()
            return 1
        case "AVIF":
            return _container_orientation(image)
        case "JPEG" | "MPO" | "PNG" | "WEBP":
            return _tag(image)
        case _:
            # libheif has applied what the container says, and GIF and BMP can't say anything.
            return 1


def make_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright, given its orientation."""
    method = _TO_UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height of an image after `make_upright`."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def _container_orientation(image: Image.Image) -> int:
    """Return what the properties `irot` and `imir` amount to; EXIF and XMP don't count (ISO/IEC 23008-12, A.2.4).

    Pillow doesn't turn AVIF, and puts the container's orientation into the EXIF block in place of the block's own.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return _valid(exif.get(_ORIENTATION))
    except PARSER_ERRORS:
        return 1


def _tag(image: Image.Image) -> int:
    try:
        return _valid(image.getexif().get(_ORIENTATION))
    except PARSER_ERRORS:
        return 1


def _valid(value: object) -> int:
    return value if isinstance(value, int) and value in _TO_UPRIGHT else 1
