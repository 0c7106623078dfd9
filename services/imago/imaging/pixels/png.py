"""What PNG files say about their samples that Pillow doesn't report exactly: bit depth, colour key and code points."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, ImageChops, ImageFile

from imago.imaging.containers.png import chunks
from imago.imaging.containers.reading import BoundedReader
from imago.imaging.pixels.cicp import CodePoints

_GRAY, _RGB = 0, 2


@dataclass(frozen=True)
class PngHeader:
    """The bit depth and colour type of the samples, the colour that is transparent, and the colour space."""

    depth: int
    colour_type: int
    key: tuple[int, ...] | None = None
    code_points: CodePoints | None = None


def read_header(stream: BinaryIO) -> PngHeader:
    """Read the chunks before the pixels. Raises BrokenContainer on an invalid chunk."""
    depth, colour_type, key, code_points = 8, _RGB, None, None
    reader = BoundedReader(stream)
    for chunk in chunks(reader):
        if chunk.name == b"IDAT":
            break
        if chunk.name == b"IHDR":
            depth, colour_type = struct.unpack(">8xBB", reader.exactly(chunk.offset, 10))
        elif chunk.name == b"tRNS" and colour_type in (_GRAY, _RGB):
            samples = 1 if colour_type == _GRAY else 3
            values = struct.unpack(f">{samples}H", reader.exactly(chunk.offset, 2 * samples))
            # Only the bits of a sample count (PNG, section 11.3.1.1).
            key = tuple(value & (2**depth - 1) for value in values)
        elif chunk.name == b"cICP":
            code_points = CodePoints(*struct.unpack(">BB", reader.exactly(chunk.offset, 2)))
    return PngHeader(depth, colour_type, key, code_points)


def key_mask(image: Image.Image, header: PngHeader, stream: BinaryIO) -> Image.Image | None:
    """Return the alpha channel that the key makes: 0 where a pixel has exactly the key's colour; None without a key."""
    if header.key is None:
        return None
    if header.depth < 16:
        scale = 255 // (2**header.depth - 1)
        return _unlike(image.convert("L" if header.colour_type == _GRAY else "RGB"), [scale * v for v in header.key])
    if header.colour_type == _GRAY:
        table = [255 * (sample != header.key[0]) for sample in range(65536)]
        return image.convert("I").point(table, "L")
    high, low = (_bytes_of_samples(stream, raw_mode) for raw_mode in ("RGB;16B", "RGB;16L"))
    return ImageChops.lighter(
        _unlike(high, [value >> 8 for value in header.key]), _unlike(low, [value & 255 for value in header.key])
    )


def _unlike(image: Image.Image, colour: list[int]) -> Image.Image:
    """Return a mask of the pixels that have another colour."""
    mask = Image.new("L", image.size, 0)
    for channel, value in zip(image.split(), colour, strict=True):
        mask = ImageChops.lighter(mask, channel.point([255 * (sample != value) for sample in range(256)]))
    return mask


def _bytes_of_samples(stream: BinaryIO, raw_mode: str) -> Image.Image:
    """Decode one byte of each 16-bit sample of RGB: an unpacker of Pillow keeps the high byte of its byte order."""
    stream.seek(0)
    image = Image.open(stream, formats=["PNG"])
    if isinstance(image, ImageFile.ImageFile):
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
    image.load()
    return image
