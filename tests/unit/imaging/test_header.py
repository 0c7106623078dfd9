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
from imago.imaging.header import probe
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
    for path in corpus_files("**/*.jp*g", "**/*.tiff", "**/*.HEIC", "**/*.heif"):
        with path.open("rb") as stream:
            header = probe(stream)
        assert header.pixels > 0, path


READ_ALL = """
import resource, sys, time
from imago.core.errors import Problem
from imago.imaging.exif import read_exif
from imago.imaging.header import probe
from imago.imaging.metadata_parts import read_metadata
for path in sys.argv[1:]:
    for read in (probe, read_metadata, read_exif):
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with open(path, "rb") as file:
            try:
                read(file)
            except Problem:
                pass
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        seconds = time.process_time() - began
        if grown > 64 or seconds > 1:
            print(f"{path}: {read.__name__} took {seconds:.1f} s and {grown:.0f} MiB")
"""


def test_the_header_of_any_file_costs_little_time_and_memory(tmp_path: Path) -> None:
    for name, make in HOSTILE.items():
        (tmp_path / name).write_bytes(make(12_000_000))
    paths = [str(tmp_path / name) for name in HOSTILE]
    # In a process of its own, whose largest memory is known.
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
            probe(io.BytesIO(body))
