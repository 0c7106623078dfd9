"""Thumbnails and prepared images: upright, in sRGB, without metadata."""

import io
from pathlib import Path

import piexif
import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from devtools.photos import ROCKET, corpus
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.preparation import prepare_for_vision
from imago.imaging.thumbnail import ThumbnailFormat, make_thumbnail
from tests.support.images import FORMATS, animated, encoded, picture

PIXELS = 50_000_000


def thumbnail(
    data: bytes | Path, folder: Path, *, kind: ThumbnailFormat = "webp", size: int = 100, pixels: int = PIXELS
):
    source = data if isinstance(data, Path) else folder / "source"
    if isinstance(data, bytes):
        source.write_bytes(data)
    target = folder / "target"
    result = make_thumbnail(source, target, size=size, format=kind, max_pixels=pixels)
    with Image.open(target) as image:
        image.load()
        return result, image


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) / 3


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("into", ["webp", "jpeg"])
def test_every_format_gives_a_thumbnail_of_the_requested_size(tmp_path: Path, kind: str, into: ThumbnailFormat) -> None:
    result, image = thumbnail(encoded(kind, picture(300, 200)), tmp_path, kind=into)
    assert (result.width, result.height, image.size) == (100, 67, (100, 67))
    assert (result.content_type, result.size_bytes) == (f"image/{into}", (tmp_path / "target").stat().st_size)
    assert difference(image, picture(100, 67)) < 12


def test_a_small_image_is_not_enlarged(tmp_path: Path) -> None:
    assert thumbnail(encoded("png", picture(30, 20)), tmp_path)[1].size == (30, 20)


@pytest.mark.parametrize("group", ["landscape", "portrait"])
def test_all_eight_orientations_give_the_same_thumbnail(tmp_path: Path, group: str) -> None:
    folder = corpus() / "jpg" / "orientation"
    shown = [thumbnail(folder / f"{group}_{number}.jpg", tmp_path)[1] for number in range(1, 9)]
    assert {image.size for image in shown} == {shown[0].size}
    for number, image in enumerate(shown[1:], 2):
        assert difference(shown[0], image) < 12, f"{group}_{number} is not upright"


@pytest.mark.parametrize("into", ["webp", "jpeg"])
def test_the_metadata_of_the_original_is_removed(tmp_path: Path, into: ThumbnailFormat) -> None:
    exif = piexif.dump({"0th": {piexif.ImageIFD.Make: "Secret"}, "GPS": {1: "N", 2: ((1, 1), (2, 1), (3, 1))}})
    data = encoded("jpeg", picture(300, 200), exif=exif, comment=b"Secret", xmp=b"<x>Secret</x>")
    _, image = thumbnail(data, tmp_path, kind=into)
    assert b"Secret" not in (tmp_path / "target").read_bytes()
    assert not dict(image.getexif())
    assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)


def test_transparency_is_kept_in_webp_and_white_in_jpeg(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (300, 200), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 150, 200))
    assert thumbnail(encoded("png", clear), tmp_path)[1].getchannel("A").getextrema() == (0, 255)
    _, flat = thumbnail(encoded("png", clear), tmp_path, kind="jpeg")
    red, green, blue = flat.getpixel((90, 30))
    assert min(red, green, blue) > 245


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_pixel_mode_is_supported(tmp_path: Path, mode: str) -> None:
    image = Image.linear_gradient("L").resize((300, 200)).convert("I") if mode == "I;16" else Image.linear_gradient("L")
    source = tmp_path / "source"
    image.convert(mode).save(source, "TIFF")
    _, small = thumbnail(source, tmp_path)
    assert max(small.size) == 100
    low, high = small.convert("L").getextrema()
    assert high > low or mode in ("I;16",), "the gradient is lost"


def test_the_first_frame_is_used(tmp_path: Path) -> None:
    assert difference(thumbnail(animated("gif"), tmp_path)[1], picture()) < 12


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded("jpeg", picture(900, 900))[:600], "undecodable-image"),
        (encoded("png", picture(900, 900))[:60], "truncated-image"),
        (b"\xff\xd8\xff" + b"x" * 500, "undecodable-image"),
        (b"nothing", "undecodable-image"),
    ],
)
def test_an_undecodable_image_fails_permanently_with_a_code(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(PermanentFailure) as failure:
        thumbnail(data, tmp_path)
    assert failure.value.code == code
    assert str(tmp_path) not in failure.value.text


def test_more_pixels_than_allowed_are_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure) as failure:
        thumbnail(encoded("png", picture(200, 200)), tmp_path, pixels=10_000)
    assert failure.value.code == "too-many-pixels"


def test_a_vision_provider_gets_an_upright_jpeg_and_the_size_of_the_original(tmp_path: Path) -> None:
    source = corpus() / "jpg" / "orientation" / "portrait_6.jpg"
    prepared = prepare_for_vision(source, tmp_path / "small.jpg", max_side=200, max_pixels=PIXELS)
    assert (prepared.width, prepared.height) == (450, 600)
    with Image.open(tmp_path / "small.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (150, 200))


def test_colours_of_another_profile_are_converted_to_srgb(tmp_path: Path) -> None:
    # This photo is in Adobe RGB, which looks pale if it is shown as sRGB.
    with Image.open(ROCKET) as original:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(original.info["icc_profile"]))
        right = ImageCms.profileToProfile(original, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert right is not None
        wrong = original.convert("RGB")
    _, image = thumbnail(ROCKET, tmp_path, size=200)
    # The remaining difference is the loss of WebP.
    assert difference(image, right.resize(image.size)) < 4
    assert difference(image, wrong.resize(image.size)) > difference(image, right.resize(image.size)) + 1


def test_a_broken_profile_is_ignored(tmp_path: Path) -> None:
    _, image = thumbnail(encoded("jpeg", picture(300, 200), icc_profile=b"no profile at all"), tmp_path)
    assert difference(image, picture(100, 67)) < 12
