"""The memory of decoding is estimated from the header: photos of phones fit, and no estimate is too low."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from imago.imaging.formats.header import probe
from imago.settings.uploads import UploadSettings
from tests.support.images import encoded, picture

LIMITS = UploadSettings()


def resized(kind: str, width: int, height: int, **options: object) -> bytes:
    """Return a file whose header has another size."""
    # An encoder of HEIC cuts other sizes to whole blocks, and stores the size twice.
    data = bytearray(encoded(kind, picture(64, 64), **options))
    if kind == "jpeg":
        at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
        struct.pack_into(">HH", data, at + 5, height, width)
    elif kind == "png":
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    else:
        at = data.index(b"ispe") + 8
        struct.pack_into(">II", data, at, width, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("jpeg", 8160, 6144),
        ("jpeg", 12000, 9000),
        ("jpeg", 16320, 12240),
        ("jpeg", 16384, 12288),
        ("heic", 8064, 6048),
        ("heic", 8160, 6144),
        ("avif", 8160, 6144),
        ("png", 8160, 6144),
    ],
)
def test_the_photos_of_phones_are_within_the_limits(kind: str, width: int, height: int) -> None:
    header = probe(io.BytesIO(resized(kind, width, height)))
    assert (header.width, header.height) == (width, height)
    assert header.pixels <= LIMITS.max_image_pixels
    assert header.decode_bytes <= LIMITS.max_decode_bytes


@pytest.mark.parametrize(
    ("kind", "options"), [("jpeg", {"progressive": True}), ("png", {}), ("heic", {}), ("avif", {})]
)
def test_200_megapixels_that_must_be_decoded_at_full_size_are_beyond_the_limit(kind: str, options: dict) -> None:
    assert probe(io.BytesIO(resized(kind, 16320, 12240, **options))).decode_bytes > LIMITS.max_decode_bytes


PREPARE = """
import io, re, sys
from pathlib import Path
from imago.imaging.ocr.finding import decode_page
def megabytes():
    # Not `ru_maxrss`, which a process inherits from its parent.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
small, large = (Path(path) for path in sys.argv[1:])
decode_page(small, max_side=4700, max_pixels=10**9, page=0, finds_lines=False)
before = megabytes()
decode_page(large, max_side=4700, max_pixels=10**9, page=0, finds_lines=False)
print(megabytes() - before)
"""

PICTURES = {
    "jpeg": ("jpeg", "RGB", {}),
    "progressive jpeg": ("jpeg", "RGB", {"progressive": True, "subsampling": 0}),
    "gray png": ("png", "L", {}),
    "png with alpha": ("png", "RGBA", {}),
    "png with a palette": ("png", "P", {}),
    "png with a transparent colour": ("png", "RGB", {"transparency": (40, 90, 160)}),
    "deep gray tiff": ("tiff", "I;16", {}),
    "compressed tiff": ("tiff", "RGB", {"compression": "tiff_lzw"}),
    "webp": ("webp", "RGB", {"method": 0}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_decoding_takes_no_more_memory_than_estimated(tmp_path: Path, name: str) -> None:
    kind, mode, options = PICTURES[name]
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encoded(kind, Image.new(mode, (64, 48))))
    large.write_bytes(encoded(kind, Image.new(mode, (5600, 4000)), **options))
    with large.open("rb") as stream:
        estimated = probe(stream).decode_bytes / 2**20
    ran = subprocess.run([sys.executable, "-c", PREPARE, str(small), str(large)], capture_output=True, check=True)
    # The page itself is converted and written after the decoder has ended, and libraries are loaded.
    assert float(ran.stdout) <= estimated + 45
