"""Every format in every orientation gives the same upright picture to thumbnails, vision and OCR."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from imago.imaging.pixels.decode import decode_image
from tests.support.quadrants import COLOURS, SIZE, furthest, middles, quadrants, turned

ORIENTATIONS = range(1, 9)
TIFFS = {
    "raw": {},
    "lzw": {"compression": "tiff_lzw"},
    "deflate": {"compression": "tiff_adobe_deflate"},
    "jpeg": {"compression": "jpeg", "quality": 95},
    "packbits": {"compression": "packbits"},
}


def decoded(data: bytes) -> Image.Image:
    return decode_image(io.BytesIO(data), max_side=512, max_pixels=10**6).image


def assert_upright(data: bytes) -> None:
    image = decoded(data)
    assert image.size == SIZE
    assert furthest(middles(image), COLOURS) <= 12, middles(image)


def stored(orientation: int) -> Image.Image:
    return Image.fromarray(turned(quadrants(), orientation).astype(np.uint8))


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_a_picture_is_turned_once(kind: str, orientation: int) -> None:
    # Pillow and pillow-heif write irot and imir for AVIF and HEIC.
    assert_upright(saved(stored(orientation), kind, quality=95, exif=exif(orientation)))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("compression", TIFFS)
def test_a_tiff_file_is_turned_once(compression: str, orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    assert_upright(saved(stored(orientation), "TIFF", tiffinfo=tags, **TIFFS[compression]))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("layout", ["tiles", "planes", "tiles of planes", "16 bits", "big endian"])
def test_a_tiff_file_of_another_layout_is_turned_once(tmp_path: Path, layout: str, orientation: int) -> None:
    pixels = turned(quadrants(), orientation).astype(np.uint8)
    if layout == "16 bits":
        pixels = pixels.astype(np.uint16) * 257
    planar = "planes" in layout
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        tile=(32, 16) if "tiles" in layout else None,
        byteorder=">" if layout == "big endian" else "<",
        extratags=[(274, 3, 1, orientation, True)],
    )
    assert_upright((tmp_path / "a.tif").read_bytes())


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_the_container_goes_before_its_exif_block(kind: str) -> None:
    # Encoders turn the container and reset the tag, so another tag becomes the orientation afterwards.
    block = Image.Exif()
    block.endian = ">"
    block[0x0113] = 3
    data = saved(stored(1), kind, quality=95, exif=block.tobytes())
    other = data.replace(b"\x01\x13\x00\x03", b"\x01\x12\x00\x03")
    assert other != data
    assert_upright(other)


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_formats_without_an_orientation_are_left_as_they_are(kind: str) -> None:
    image = decoded(saved(stored(1).quantize(8) if kind == "GIF" else stored(1), kind))
    assert furthest(middles(image), COLOURS) <= 12
