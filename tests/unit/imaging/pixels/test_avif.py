"""AVIF whose alpha image has no size, as old encoders write it, and AVIF with a clean aperture."""

import io
import struct

import pytest
from PIL import Image, UnidentifiedImageError

from imago.imaging.formats.header import probe
from imago.imaging.pixels.decode import decode_image


def without_alpha_size(data: bytes) -> bytes:
    """Remove the association of a size from the last item of a file that Pillow made, and move what follows."""
    at = data.index(b"ipma") - 4
    size = struct.unpack_from(">I", data, at)[0]
    box = data[at : at + size]
    entry = box.rindex(b"\0\x02")
    smaller = box[: entry + 2] + bytes([box[entry + 2] - 1]) + box[entry + 4 :]
    changed = bytearray(data[:at] + smaller + data[at + size :])
    for kind in (b"meta", b"iprp", b"ipma"):
        start = data.index(kind) - 4
        struct.pack_into(">I", changed, start, struct.unpack_from(">I", data, start)[0] - 1)
    # `iloc` has 4-byte offsets here, of two items or, with an EXIF block, of three.
    locations = data.index(b"iloc") + 8
    for index in range(struct.unpack_from(">H", data, locations + 2)[0]):
        offset = locations + 4 + 14 * index + 6
        struct.pack_into(">I", changed, offset, struct.unpack_from(">I", data, offset)[0] - 1)
    return bytes(changed)


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_alpha_image_without_a_size_is_decoded(orientation: int) -> None:
    image = Image.new("RGBA", (64, 48), (200, 100, 50, 128))
    image.paste((0, 0, 255, 255), (0, 0, 32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=95, exif=exif)
    broken = without_alpha_size(buffer.getvalue())
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(broken))
    shown = decode_image(io.BytesIO(broken), max_side=512, max_pixels=10**6).image
    expected = decode_image(io.BytesIO(buffer.getvalue()), max_side=512, max_pixels=10**6).image
    assert shown.mode == "RGBA"
    assert shown.tobytes() == expected.tobytes()


def with_clean_aperture(data: bytes, *numbers: int) -> bytes:
    """Replace the association of `pixi` in a file that Pillow made by one of a new property `clap`."""
    properties = data.index(b"ipco") - 4
    size = struct.unpack_from(">I", data, properties)[0]
    kinds, at = [], properties + 8
    while at < properties + size:
        length, kind = struct.unpack_from(">I4s", data, at)
        kinds.append(kind)
        at += length
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", *numbers)
    changed = bytearray(data[:at] + box + data[at:])
    for kind in (b"meta", b"iprp", b"ipco"):
        start = data.index(kind) - 4
        struct.pack_into(">I", changed, start, struct.unpack_from(">I", data, start)[0] + len(box))
    entry = changed.index(b"ipma") + 4 + 8
    links = slice(entry + 3, entry + 3 + changed[entry + 2])
    pixels = kinds.index(b"pixi") + 1
    changed[links] = bytes(len(kinds) + 1 | 0x80 if link & 0x7F == pixels else link for link in changed[links])
    locations = data.index(b"iloc") + 8
    for index in range(struct.unpack_from(">H", data, locations + 2)[0]):
        offset = locations + 4 + 14 * index + 6
        struct.pack_into(">I", changed, offset, struct.unpack_from(">I", data, offset)[0] + len(box))
    return bytes(changed)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((60, 1, 40, 1, 0, 1, 0, 1), (2, 4, 62, 44)),
        ((120, 2, 40, 1, -2, 1, 8, 2), (0, 8, 60, 48)),
        ((60, 1, 40, 1, 3, 1, 0, 1), None),
        ((61, 1, 40, 1, 0, 1, 0, 1), None),
        ((0, 1, 40, 1, 0, 1, 0, 1), None),
        ((60, 0, 40, 1, 0, 1, 0, 1), None),
    ],
    ids=["centred", "moved", "outside", "half a pixel", "empty", "no number"],
)
def test_the_clean_aperture_is_shown(
    orientation: int, numbers: tuple[int, ...], shown: tuple[int, int, int, int] | None
) -> None:
    image = Image.effect_noise((64, 48), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=95, exif=exif)
    padded = Image.open(buffer)
    expected = padded.crop(shown or (0, 0, 64, 48)).convert("RGB")
    if orientation == 6:
        expected = expected.transpose(Image.Transpose.ROTATE_270)
    data = with_clean_aperture(buffer.getvalue(), *numbers)
    decoded = decode_image(io.BytesIO(data), max_side=512, max_pixels=10**6)
    assert (decoded.width, decoded.height) == expected.size
    assert decoded.image.tobytes() == expected.tobytes()
    if shown:
        header = probe(io.BytesIO(data))
        assert (header.width, header.height) == (shown[2] - shown[0], shown[3] - shown[1])
