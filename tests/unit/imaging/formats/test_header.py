"""The format, size and frames of an image, detected from its bytes."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.photos import corpus_files
from imago.core.errors import EmptyFile, Problem, UnreadableImage, UnsupportedMediaType
from imago.core.images.model import ImageFormat
from imago.imaging.formats.header import MAX_FRAMES, probe
from tests.support.hostile_headers import HOSTILE, chunk, segment
from tests.support.images import FORMATS, animated, encoded, picture


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_detected(kind: str) -> None:
    header = probe(io.BytesIO(encoded(kind, picture(120, 80))))
    assert (header.format, header.width, header.height, header.frames) == (ImageFormat(kind), 120, 80, 1)


@pytest.mark.parametrize("kind", ["gif", "webp", "tiff", "png", "avif", "heic"])
def test_frames_are_counted(kind: str) -> None:
    assert probe(io.BytesIO(animated(kind, 4))).frames == 4


@pytest.mark.parametrize(
    "data",
    [
        b"<?xml version='1.0'?><svg/>",
        b"%PDF-1.4",
        b"<html>",
        b"PK\x03\x04",
        b"\0\0\1\0",
        b"8BPS",
        b"BMxxxx",
        b"RIFF0000WAVE",
    ]
    + [b"\0\0\0\x18ftypisom\0\0\0\0isommp42", b"MZ", b"#!/bin/sh", b" \n\xff\xd8\xff"],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        probe(io.BytesIO(data + b"\0" * 300))


SENSOR = {
    "a DNG": [[(254, 1), (256, 16), (257, 12), (50706, 1)], [(254, 0), (256, 640), (257, 480), (262, 32803)]],
    "a Nikon NEF": [[(254, 1), (256, 16), (257, 12)], [(256, 640), (257, 480), (259, 34713), (262, 32803)]],
    "a Sony ARW": [[(254, 1), (256, 16), (257, 12)], [(256, 640), (257, 480), (259, 32767)]],
    "a Pentax PEF": [[(256, 640), (257, 480), (259, 65535), (262, 32803)]],
    "linear raw": [[(256, 640), (257, 480), (262, 34892)]],
    "a preview before an image": [[(254, 1), (256, 16), (257, 12)], [(254, 0), (256, 640), (257, 480)]],
}


def tiff_of(*directories: list[tuple[int, int]]) -> bytes:
    """Return a TIFF of directories with numbers; the first one points to the others, which are below it."""
    first, *others = directories
    start = 8 + 2 + 12 * (len(first) + bool(others)) + 4
    entries, bodies = list(first), b""
    for directory in others:
        entries.append((330, start + len(bodies)))
        bodies += struct.pack("<H", len(directory))
        bodies += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in directory) + bytes(4)
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + bodies + bytes(300)


@pytest.mark.parametrize("name", SENSOR)
def test_a_raw_file_is_not_taken_for_its_preview(name: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="raw"):
        probe(io.BytesIO(tiff_of(*SENSOR[name])))


def test_a_tiff_with_smaller_copies_below_its_image_is_accepted() -> None:
    whole = [(256, 640), (257, 480), (258, 8), (259, 1), (262, 1), (273, 8), (278, 480), (279, 100)]
    header = probe(io.BytesIO(tiff_of(whole, [(254, 1), (256, 320), (257, 240)])))
    assert (header.width, header.height) == (640, 480)


@pytest.mark.parametrize(
    ("head", "name", "remedy"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3", "raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon CR2", "raw"),
        (b"II*\0\0\x10\0\0IIIITwaR", "Phase One IIQ", "raw"),
        (b"MM\0*\0\0\x10\0MMMMRawT", "Phase One IIQ", "raw"),
        (b"\xff\xd8\xff\xf7\0\x0b", "JPEG-LS", "Convert it"),
        (b"\1\0\0\0" + bytes(36) + b" EMF", "EMF", "Export it"),
        (bytes(128) + b"DICM", "DICOM", "Convert it"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF", "raw"),
        (b"IIRO\x08\0\0\0", "Olympus ORF", "raw"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2", "raw"),
        (b"FOVb\0\0\2\0", "Sigma X3F", "raw"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL", "Convert it"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "Convert it"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "Convert it"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000", "Convert it"),
        (b"\0\0\1\0\1\0", "ICO", "Convert it"),
        (b"8BPS\0\1", "Photoshop", "Convert it"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "Export it"),
        (b"<?xml version='1.0'?>\n<svg>", "SVG", "Export it"),
        (b"%PDF-1.7", "PDF", "Export its pages"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "MP4", "upload a frame"),
        (b"PK\3\4", "ZIP", "not an image"),
    ],
)
def test_other_formats_are_named_with_a_remedy(head: bytes, name: str, remedy: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        probe(io.BytesIO(head.ljust(300, b" ")))
    assert name in refused.value.detail
    assert remedy in refused.value.detail


def tiff_with_pixels_at_8(pixels: bytes) -> bytes:
    """Return a gray TIFF of 16 columns whose pixels precede its directory."""
    rows = len(pixels) // 16
    tags = [(256, 16), (257, rows), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, rows), (279, len(pixels))]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + table + bytes(4)


def test_pixels_are_not_taken_for_the_signature_of_another_format() -> None:
    for value in range(256):
        assert probe(io.BytesIO(tiff_with_pixels_at_8(bytes([value]) * 256))).format is ImageFormat.TIFF, value


@pytest.mark.parametrize("mark", [b"AVI LIST", b"CR\x02\0", b"IIII", b"MMMM", b" EMF", b"DICM", b"<svg"])
@pytest.mark.parametrize("position", [8, 40, 128])
def test_a_mark_of_another_format_among_pixels_does_no_harm(mark: bytes, position: int) -> None:
    pixels = bytes(position - 8) + mark + bytes(256)
    assert probe(io.BytesIO(tiff_with_pixels_at_8(pixels[:256]))).format is ImageFormat.TIFF


def test_a_comment_may_name_another_format() -> None:
    data = encoded("jpeg")
    assert probe(io.BytesIO(data[:2] + segment(0xFE, b"made from <svg> by DICM") + data[2:])).format is ImageFormat.JPEG


def test_the_box_of_brands_may_begin_as_an_icon_does() -> None:
    data = encoded("avif")
    size = struct.unpack(">I", data[:4])[0]
    padded = struct.pack(">I", 256) + data[4:size] + b"avif" * ((256 - size) // 4) + data[size:]
    assert padded.startswith(b"\0\0\1\0")
    assert probe(io.BytesIO(padded)).format is ImageFormat.AVIF


@pytest.mark.parametrize(("bits", "samples"), [(12, 1), (16, 1)])
def test_a_tiff_that_only_imagos_decoder_takes_is_accepted(bits: int, samples: int) -> None:
    tags = [(256, 64), (257, 48), (258, bits), (259, 1), (262, 0), (273, 8), (277, samples)]
    assert probe(io.BytesIO(tiff_of(tags))).width == 64


@pytest.mark.parametrize("compression", [2, 3, 4, 9, 32771, 32809, 34676, 34712, 34887, 50001])
def test_a_tiff_in_a_compression_that_is_not_decoded_is_refused(compression: int) -> None:
    tags = [(256, 64), (257, 48), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1)]
    with pytest.raises(UnreadableImage, match=f"in compression {compression} are not supported"):
        probe(io.BytesIO(tiff_of(tags)))


def test_a_tiff_that_no_decoder_takes_is_refused_with_its_samples() -> None:
    samples = [(256, 64), (257, 48), (258, 64), (259, 1), (262, 1), (273, 8), (277, 1), (339, 3)]
    with pytest.raises(UnreadableImage, match="1 floating-point samples of 64 bits per pixel in compression 1"):
        probe(io.BytesIO(tiff_of(samples)))


@pytest.mark.parametrize(("bits", "components"), [(12, 3), (8, 2)])
def test_a_jpeg_that_no_decoder_takes_is_refused_with_its_samples(bits: int, components: int) -> None:
    data = bytearray(encoded("jpeg"))
    at = data.index(b"\xff\xc0")
    data[at + 4], data[at + 9] = bits, components
    with pytest.raises(UnreadableImage, match=f"{components} components of {bits} bits"):
        probe(io.BytesIO(bytes(data)))


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    whole = encoded("jpeg", picture(300, 200), progressive=True)
    last = whole[whole.rfind(b"\xff\xda") : -2]
    with pytest.raises(UnreadableImage, match="more than 200 scans"):
        probe(io.BytesIO(whole[:-2] + 3000 * last + whole[-2:]))
    assert probe(io.BytesIO(whole[:-2] + 50 * last + whole[-2:])).width == 300


def test_a_file_without_bytes_is_empty() -> None:
    with pytest.raises(EmptyFile):
        probe(io.BytesIO(b""))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_header_is_unreadable(kind: str) -> None:
    with pytest.raises((UnreadableImage, UnsupportedMediaType)):
        probe(io.BytesIO(encoded(kind)[:17]))


def test_a_polyglot_is_accepted_as_its_image() -> None:
    for data in (encoded("gif") + b"<script>alert(1)</script>", encoded("jpeg") + b"PK\x03\x04 and so on"):
        assert probe(io.BytesIO(data)).width == 64


def test_the_size_of_a_bomb_is_read_without_decoding() -> None:
    body = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    png += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert probe(io.BytesIO(png)).pixels == 10**10


def test_few_bytes_of_a_large_file_are_read() -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.total += len(data)
            return data

    for kind in ("jpeg", "png", "webp", "bmp", "tiff", "avif", "heic"):
        data = encoded(kind, picture(1500, 1000))
        stream = Counting(data + b"\0" * 2**22)
        probe(stream)
        assert stream.total < 128 * 1024, (kind, stream.total)


def test_every_camera_file_has_a_size() -> None:
    paths = corpus_files("**/*.jp*g", "**/*.tiff", "**/*.HEIC", "**/*.heif")
    assert paths
    for path in paths:
        with path.open("rb") as stream:
            header = probe(stream)
        assert header.pixels > 0, path


READ_ALL = """
import re, sys, time
from pathlib import Path
from imago.core.errors import Problem
from imago.imaging.metadata.exif import read_exif
from imago.imaging.formats.header import probe
from imago.imaging.metadata.metadata_parts import read_metadata
def kilobytes():
    # Not `ru_maxrss`, which a process inherits from its parent.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
for path in sys.argv[1:]:
    for read in (probe, read_metadata, read_exif):
        before, began = kilobytes(), time.process_time()
        with open(path, "rb") as file:
            try:
                read(file)
            except Problem:
                pass
        grown = (kilobytes() - before) / 1024
        seconds = time.process_time() - began
        if grown > 64 or seconds > 1:
            print(f"{path}: {read.__name__} took {seconds:.1f} s and {grown:.0f} MiB")
"""


def test_the_header_of_any_file_costs_little_time_and_memory(tmp_path: Path) -> None:
    for name, make in HOSTILE.items():
        (tmp_path / name).write_bytes(make(12_000_000))
    paths = [str(tmp_path / name) for name in HOSTILE]
    # In a separate process, whose largest memory is known.
    found = subprocess.run([sys.executable, "-c", READ_ALL, *paths], capture_output=True, text=True, check=True)
    assert found.stdout == ""


@pytest.mark.parametrize("kind", ["stereo", "gain map", "preview"])
def test_only_pictures_of_one_subject_are_frames_of_a_jpeg(kind: str) -> None:
    primary, second = {"stereo": (0x020002, 0x020002), "gain map": (0x030000, 0), "preview": (0x030000, 0x010001)}[kind]
    entries = b"".join(struct.pack("<IIIHH", attribute, 100, 0, 0, 0) for attribute in (primary, second))
    table = struct.pack("<HHHIIHHIII", 2, 0xB001, 4, 1, 2, 0xB002, 7, len(entries), 38, 0)
    whole = encoded("jpeg")
    data = whole[:2] + segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + table + entries) + whole[2:] + whole
    assert probe(io.BytesIO(data)).frames == (2 if kind == "stereo" else 1)


def test_the_size_of_a_png_needs_no_other_chunk() -> None:
    whole = encoded("png", picture(120, 80))
    broken = struct.pack(">I", 4) + b"tEXt" + b"a\0bc" + b"\0\0\0\0"
    for extra in (
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 5_000_000)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"A" * 2_000_000),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"A" * 2_000_000)),
        broken,
    ):
        header = probe(io.BytesIO(whole[:33] + extra + whole[33:]))
        assert (header.width, header.height) == (120, 80)


SAMPLES = [encoded(kind) for kind in FORMATS] + [animated(kind) for kind in ("gif", "webp", "tiff", "avif")]


@settings(max_examples=600, derandomize=True, deadline=None)
@given(st.data())
def test_a_mutated_file_has_a_header_or_is_refused(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 10))):
        mutated[data.draw(st.integers(0, min(len(mutated), 600) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(mutated)))
    for body in (bytes(mutated), bytes(mutated[:cut])):
        with contextlib.suppress(Problem):
            header = probe(io.BytesIO(body))
            assert min(header.width, header.height) >= 1
            assert 1 <= header.frames <= MAX_FRAMES
