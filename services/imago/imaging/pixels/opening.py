"""Open images of the supported formats for decoding, with what their files say beside Pillow."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import pillow_heif
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from imago.core.images.model import ImageFormat
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.containers import jpeg
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, LimitExceeded
from imago.imaging.files import TaskFile, reading
from imago.imaging.header import MAX_STEPS, PARSER_ERRORS, sniff
from imago.imaging.pixels import avif, png, tiff
from imago.imaging.pixels.cicp import CodePoints
from imago.imaging.pixels.samples import Samples

pillow_heif.register_heif_opener()

# A text may be as long as all texts together, which Pillow limits to 64 MB; its limit for one refuses real files.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# The header check during the upload estimates only the first page's memory.
_MAX_PIXELS_OF_LATER_PAGES = 50_000_000


@dataclass(frozen=True)
class OpenedImage:
    """An opened image that is not loaded yet, and what its file says about its pixels."""

    image: Image.Image
    samples: Samples = field(default_factory=Samples)
    code_points: CodePoints | None = None
    png_header: png.PngHeader | None = None
    stream: BinaryIO | None = None

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


def _open_tiff(stream: BinaryIO, *, page: int, lenient: bool) -> OpenedImage:
    try:
        image = tiff.open_tiff(stream, page=page)
    except EOFError:
        raise NoSuchPageError from None
    except UnidentifiedImageError as error:
        reason = tiff.unsupported(stream)
        if reason is None:
            raise
        raise PermanentFailure("unsupported-image", reason) from error
    if lenient:
        with contextlib.suppress(OSError):
            image.load()
        if image.tile:
            raise OSError("no pixels")
    return OpenedImage(image, samples=tiff.samples_of(image))


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
    return OpenedImage(image, samples=Samples(white), code_points=header.code_points, png_header=header, stream=stream)


def _open_avif(stream: BinaryIO) -> OpenedImage:
    data = stream.read()
    points = None
    with contextlib.suppress(ValueError, KeyError, IndexError, struct.error, OverflowError):
        points = avif.code_points(data)
        data = avif.with_alpha_size(data)
    return OpenedImage(Image.open(io.BytesIO(data), formats=["AVIF"]), code_points=points)


def _open_heic(stream: BinaryIO) -> OpenedImage:
    image = Image.open(stream, formats=["HEIF"])
    nclx = image.info.get("nclx_profile")
    points = CodePoints(nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None
    return OpenedImage(image, code_points=points)


def _failure(error: BaseException) -> PermanentFailure:
    if isinstance(error, MemoryError):
        return PermanentFailure("out-of-memory", "The image needs more memory than a worker may use.")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
    if isinstance(error, OSError) and "truncated" in str(error):
        return PermanentFailure("truncated-image", "The file ends before the image does.")
    return PermanentFailure("undecodable-image", "The image can't be decoded.")
