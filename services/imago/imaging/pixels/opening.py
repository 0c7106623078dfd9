"""Open images of the supported formats for decoding, with what their files say beside Pillow."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import pillow_heif
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from imago.core.images.model import ImageFormat
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.containers import jpeg
from imago.imaging.containers.ifd import Directories
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded, UnsupportedVariant
from imago.imaging.files import TaskFile, reading
from imago.imaging.formats.header import MAX_STEPS, PARSER_ERRORS, mode_of_tiff, sniff
from imago.imaging.pixels import avif, png, tiff
from imago.imaging.pixels.cicp import CodePoints, MeasuredColours, measured
from imago.imaging.pixels.samples import Samples

pillow_heif.register_heif_opener()

# A text may be as long as all texts together, which Pillow limits to 64 MB; its limit for one refuses real files.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# The header check during the upload estimates only the first page's memory.
_MAX_PIXELS_OF_LATER_PAGES = 50_000_000

_COLOURS_OF_A_BYTE = 256

_BROKEN_BOXES = (ArithmeticError, ValueError, LookupError, struct.error)


@dataclass(frozen=True)
class OpenedImage:
    """An opened image that is not loaded yet, and what its file says about its pixels."""

    image: Image.Image
    samples: Samples = field(default_factory=Samples)
    colours: CodePoints | MeasuredColours | None = None
    png_header: png.PngHeader | None = None
    stream: BinaryIO | None = None
    shown: tuple[int, int, int, int] | None = None
    """The part of the image that is to be shown, if it isn't the whole: left, top, right, bottom."""

    def cropped(self) -> "OpenedImage":
        """Return the part that is to be shown."""
        return replace(self, image=self.image.crop(self.shown), shown=None) if self.shown else self

    def key_mask(self) -> Image.Image | None:
        """Return the alpha channel that a transparent colour of a PNG makes, if it declares one."""
        if self.png_header is None or self.stream is None:
            return None
        return png.key_mask(self.image, self.png_header, self.stream)


class NoSuchPageError(Exception):
    """The file has fewer pages."""


@contextmanager
def open_image(source: TaskFile, *, max_pixels: int, page: int = 0, lenient: bool = False) -> Iterator[OpenedImage]:
    """Open a page of an image of a supported format. Any decoding error inside the block becomes a PermanentFailure.

    Only TIFF has pages; raises NoSuchPageError if the file has fewer. `lenient` accepts pixel data that ends early or
    is damaged: what can't be decoded is black or transparent.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = lenient
    try:
        with warnings.catch_warnings(), reading(source) as stream:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = _open(stream, page=page, lenient=lenient)
            with opened.image as image:
                if image.width * image.height > (min(max_pixels, _MAX_PIXELS_OF_LATER_PAGES) if page else max_pixels):
                    raise PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
                yield opened
    except (*PARSER_ERRORS, RuntimeError) as error:
        # libavif and libheif raise RuntimeError on broken planes, missing items and impossible sizes.
        raise _failure(error) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _open(stream: BinaryIO, *, page: int, lenient: bool) -> OpenedImage:
    kind = sniff(stream.read(256))
    if kind is None:
        raise PermanentFailure("undecodable-image", "The file is not an image of a known format.")
    if page and kind is not ImageFormat.TIFF:
        raise NoSuchPageError
    stream.seek(0)
    match kind:
        case ImageFormat.TIFF:
            return _open_tiff(stream, page=page, lenient=lenient)
        case ImageFormat.PNG:
            return _open_png(stream)
        case ImageFormat.AVIF:
            return _open_avif(stream)
        case ImageFormat.HEIC:
            return _open_heic(stream)
        case ImageFormat.JPEG:
            return _open_jpeg(stream)
        case ImageFormat.BMP:
            return _open_bmp(stream)
        case _:
            return OpenedImage(Image.open(stream, formats=[kind.upper()]))


def _open_jpeg(stream: BinaryIO) -> OpenedImage:
    # Images that were stored before uploads had this check need it.
    reader = BoundedReader(stream, max_steps=MAX_STEPS)
    try:
        jpeg.check_scans(reader, jpeg.layout(reader))
    except LimitExceeded as error:
        raise PermanentFailure("unsupported-image", f"The JPEG file can't be decoded: {error}.") from error
    except BrokenContainer:
        # The decoder says what is wrong.
        pass
    stream.seek(0)
    return OpenedImage(Image.open(stream, formats=["JPEG", "MPO"]))


def _open_bmp(stream: BinaryIO) -> OpenedImage:
    image = Image.open(stream, formats=["BMP"])
    palette = image.palette
    if palette is not None and palette.rawmode is not None:
        # Some writers store more colours than a byte can select, which Pillow refuses while it loads the pixels.
        palette.palette = bytes(palette.palette)[: _COLOURS_OF_A_BYTE * len(palette.rawmode)]
    return OpenedImage(image)


def _open_tiff(stream: BinaryIO, *, page: int, lenient: bool) -> OpenedImage:
    try:
        image = tiff.open_tiff(stream, page=page)
    except EOFError:
        raise NoSuchPageError from None
    except UnidentifiedImageError:
        _require_tiff_layout(stream)
        raise
    if lenient:
        with contextlib.suppress(OSError):
            image.load()
        if image.tile:
            raise OSError("no pixels")
    samples = tiff.samples_of(image)
    return OpenedImage(image, samples=replace(samples, low=tiff.low_bytes(stream, image, page=page)))


def _require_tiff_layout(stream: BinaryIO) -> None:
    """Raise PermanentFailure if the layout of the samples is why Pillow doesn't open a file."""
    try:
        mode_of_tiff(Directories(stream))
    except UnsupportedVariant as error:
        raise PermanentFailure("unsupported-image", f"The TIFF file can't be decoded: {error}.") from error


def _open_png(stream: BinaryIO) -> OpenedImage:
    header = png.read_header(stream)
    stream.seek(0)
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        # Faults of chunks beside the pixels, such as a wrong checksum or a text that is too long, don't matter here.
        image = Image.open(stream, formats=["PNG"])
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
    white = 2**16 - 1 if header.depth == 16 else None
    colours = header.code_points or _measured_colours(image)
    return OpenedImage(image, samples=Samples(white), colours=colours, png_header=header, stream=stream)


def _measured_colours(image: Image.Image) -> MeasuredColours | None:
    """Return the colours by the chunks `gAMA` and `cHRM`, which `sRGB` replaces (PNG, section 4.3)."""
    if "srgb" in image.info:
        return None
    return measured(image.info.get("chromaticity"), image.info.get("gamma"))


def _open_avif(stream: BinaryIO) -> OpenedImage:
    data = stream.read()
    points = None
    with contextlib.suppress(*_BROKEN_BOXES):
        points = avif.code_points(data)
        data = avif.with_alpha_size(data)
    image, shown = Image.open(io.BytesIO(data), formats=["AVIF"]), None
    with contextlib.suppress(*_BROKEN_BOXES):
        shown = avif.clean_aperture(data, image.size)
    return OpenedImage(image, colours=points, shown=shown)


def _open_heic(stream: BinaryIO) -> OpenedImage:
    image = Image.open(stream, formats=["HEIF"])
    nclx = image.info.get("nclx_profile")
    points = CodePoints(nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None
    return OpenedImage(image, colours=points)


def _failure(error: BaseException) -> PermanentFailure:
    if isinstance(error, MemoryError):
        return PermanentFailure("out-of-memory", "The image needs more memory than a worker may use.")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
    if isinstance(error, OSError) and "truncated" in str(error):
        return PermanentFailure("truncated-image", "The file ends before the image does.")
    return PermanentFailure("undecodable-image", "The image can't be decoded.")
