"""AVIF of old encoders, whose alpha image has no size."""

import io
import struct

import pytest
from PIL import Image, UnidentifiedImageError

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
