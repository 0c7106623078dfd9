"""Errors of decoders are permanent failures, and JPEG is scaled while it is decoded."""

import contextlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from imago.core.jobs.failures import PermanentFailure
from imago.imaging.pixels.decode import shrink
from imago.imaging.pixels.opening import open_image
from tests.support.images import encoded


@pytest.mark.parametrize("kind", ["avif", "heic", "jpeg", "png", "webp", "tiff"])
def test_a_file_with_overwritten_pixels_is_not_an_internal_error(kind: str, tmp_path: Path) -> None:
    data = bytearray(encoded(kind))
    middle = len(data) // 2
    data[middle:] = bytes(len(data) - middle)
    path = tmp_path / "broken"
    path.write_bytes(data)
    # Some decoders ignore it. The others must raise PermanentFailure.
    with contextlib.suppress(PermanentFailure), open_image(path, max_pixels=1_000_000) as opened:
        shrink(opened.image, 64)


def test_an_error_of_libavif_is_an_undecodable_image(tmp_path: Path) -> None:
    data = encoded("avif")
    picture = data.index(b"mdat") + 4
    path = tmp_path / "broken.avif"
    path.write_bytes(data[:picture] + bytes(len(data) - picture))
    with pytest.raises(PermanentFailure) as raised, open_image(path, max_pixels=1_000_000) as opened:
        shrink(opened.image, 64)
    assert raised.value.code == "undecodable-image"
    assert isinstance(raised.value.__cause__, RuntimeError), "libavif raised another error than this test expects"


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
