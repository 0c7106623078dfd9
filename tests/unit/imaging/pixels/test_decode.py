"""Errors of decoders are permanent failures, files that end early are decoded, and JPEG is scaled while decoded."""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat

from imago.core.jobs.failures import PermanentFailure
from imago.imaging.pixels.decode import DecodedImage, decode_image, shrink
from imago.imaging.pixels.opening import open_image
from tests.support.images import encoded
from tests.support.quadrants import COLOURS, furthest, middles, quadrants


def decoded(data: bytes, *, max_side: int = 512) -> DecodedImage:
    return decode_image(io.BytesIO(data), max_side=max_side, max_pixels=10**6)


def noisy(width: int = 240, height: int = 160) -> Image.Image:
    """A picture whose every row needs bytes of the file."""
    noise = np.random.default_rng(1).integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(quadrants(size=(width, height)) + noise, 0, 255).astype(np.uint8))


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = noisy()
    (image.quantize(64) if kind == "GIF" else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["avif", "heic", "jpeg", "png", "webp", "tiff"])
def test_a_file_with_overwritten_pixels_is_not_an_internal_error(kind: str) -> None:
    data = bytearray(encoded(kind))
    middle = len(data) // 2
    data[middle:] = bytes(len(data) - middle)
    # Some decoders ignore it. The others must raise PermanentFailure.
    with contextlib.suppress(PermanentFailure):
        decoded(bytes(data))


def test_an_error_of_libavif_is_an_undecodable_image() -> None:
    data = encoded("avif")
    pixels = data.index(b"mdat") + 4
    with pytest.raises(PermanentFailure) as raised:
        decoded(data[:pixels] + bytes(len(data) - pixels))
    assert raised.value.code == "undecodable-image"
    assert isinstance(raised.value.__cause__, RuntimeError), "libavif raised another error than this test expects"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("max_side", [512, 60])
def test_a_jpeg_without_its_end_marker_is_whole(progressive: bool, mode: str, missing: int, max_side: int) -> None:
    data = encoded("jpeg", noisy().convert(mode), progressive=progressive)
    whole, cut = decoded(data, max_side=max_side), decoded(data[:-missing], max_side=max_side)
    assert not cut.truncated
    assert cut.image.tobytes() == whole.image.tobytes()


CUT = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"quality": 90},
    "WEBP lossless": {"lossless": True},
    "HEIF": {"quality": 90},
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("kept", [0.6, 0.9])
def test_the_pixels_of_a_cut_file_are_decoded_and_the_result_says_so(kind: str, kept: float) -> None:
    data = saved(kind.split()[0], **CUT[kind])
    cut = decoded(data[: int(kept * len(data))])
    assert cut.truncated
    assert cut.image.size == (240, 160)
    assert not decoded(data).truncated
    found, wanted = middles(cut.image), COLOURS
    if kind == "BMP":
        # It is stored from the bottom.
        found, wanted = found[2:], wanted[2:]
    # The upper half is there. BMP and GIF have no losses, the others few.
    assert furthest(found[:2], wanted[:2]) <= 60


def test_a_bmp_with_more_colours_than_a_byte_selects_is_decoded() -> None:
    picture = Image.fromarray(quadrants().astype(np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE)
    data = bytearray(encoded("bmp", picture))
    pixels, headers, colours = struct.unpack_from("<I", data, 10)[0], 14 + 40, 300
    more = bytes(headers + 4 * colours - pixels)
    struct.pack_into("<I", data, 10, pixels + len(more))
    struct.pack_into("<I", data, 46, colours)
    assert furthest(middles(decoded(bytes(data[:pixels]) + more + bytes(data[pixels:])).image), COLOURS) < 10


def test_the_strips_of_a_cut_tiff_are_decoded() -> None:
    data = bytearray(saved("TIFF", compression="tiff_adobe_deflate"))
    # libtiff writes the directory at the end, so the strips in the middle are overwritten instead.
    data[len(data) // 2 : len(data) * 3 // 4] = bytes(len(data) * 3 // 4 - len(data) // 2)
    cut = decoded(bytes(data))
    assert cut.truncated
    assert furthest(middles(cut.image)[:2], COLOURS[:2]) <= 30


def test_a_cut_webp_file_that_lost_only_metadata_is_whole() -> None:
    exif = Image.Exif()
    exif[0x010F] = "M" * 500
    data = saved("WEBP", exif=exif.tobytes())
    cut = decoded(data[:-200])
    assert not cut.truncated
    assert cut.image.tobytes() == decoded(data).image.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP", "HEIF", "JPEG"])
def test_a_file_that_ends_before_its_first_pixel_fails_permanently(kind: str) -> None:
    data = saved(kind)
    start = {"PNG": b"IDAT", "HEIF": b"mdat", "JPEG": b"\xff\xda", "WEBP": b"VP8 "}.get(kind)
    end = data.index(start) + len(start) + 4 if start else 20
    with pytest.raises(PermanentFailure):
        decoded(data[:end])


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("size", [4, 1])
def test_a_box_that_is_smaller_than_its_head_is_not_an_internal_error(kind: str, size: int) -> None:
    data = saved(kind)
    first = struct.unpack_from(">I", data)[0]
    broken = data[:first] + struct.pack(">I4sQ", size, b"free", 3) + data[first:]
    with pytest.raises(PermanentFailure):
        decoded(broken)


def test_a_checksum_of_a_png_comment_is_not_checked() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "c" * 2_000_000, zip=True)
    data = bytearray(saved("PNG", pnginfo=info))
    length = int.from_bytes(data[data.index(b"zTXt") - 4 :][:4])
    data[data.index(b"zTXt") + 4 + length] ^= 0xFF
    image = decoded(bytes(data))
    assert not image.truncated
    assert furthest(middles(image.image), COLOURS) <= 12


@pytest.mark.parametrize("size", [(128, 96), (256, 171), (512, 512), (171, 256), (512, 3)])
def test_a_jpeg_scaled_by_the_decoder_is_as_good_as_a_resampled_one(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "photo.jpg"
    photo = Image.effect_mandelbrot((512, 512), (-2.0, -1.5, 1.0, 1.5), 100).convert("RGB").resize(size)
    photo.save(path, quality=95)
    with open_image(path, max_pixels=10**6) as opened:
        small = shrink(opened.image, 64)
        width, height = small.size
    by = max(size) // 64
    assert (width, height) == (-(-size[0] // by), -(-size[1] // by))
    difference = ImageChops.difference(small, photo.resize(small.size, Image.Resampling.LANCZOS))
    assert ImageStat.Stat(difference).rms[0] < 8
