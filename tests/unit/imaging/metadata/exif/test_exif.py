"""Broken or hostile EXIF never fails, and its valid parts are read."""

import io
import struct

import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.core.images.results import ExifResult
from imago.imaging.metadata.exif import parse, read_exif
from tests.support.images import encoded, picture

ORDINARY = piexif.dump(
    {
        "0th": {piexif.ImageIFD.Make: "NIKON", piexif.ImageIFD.Model: "D70"},
        "Exif": {piexif.ExifIFD.FNumber: (56, 10), piexif.ExifIFD.ISOSpeedRatings: 200},
        "GPS": {1: "N", 2: ((43, 1), (28, 1), (0, 1)), 3: "E", 4: ((11, 1), (53, 1), (0, 1))},
    }
)[6:]


def block(*entries: tuple[int, int, int, bytes], data: bytes = b"", following: int = 0) -> bytes:
    """Return a TIFF structure of one directory: entries of tag, type, count and four bytes."""
    table = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", following) + data


@pytest.mark.parametrize("reader", ["ifd", "piexif"])
def test_both_readers_agree_on_an_ordinary_block(reader) -> None:
    result = parse(ORDINARY, reader=reader)
    assert (result.camera.make, result.camera.model, result.camera.aperture) == ("NIKON", "D70", "f/5.6")
    assert (result.gps.has_gps, result.gps.latitude) == (True, 43.4666667)


def test_a_broken_value_does_not_affect_other_values() -> None:
    broken = block((0x010F, 2, 2**31, b"\xff\xff\xff\x7f"), (0x0110, 2, 4, b"D70\0"), (0x0112, 99, 1, b"\0\0\0\0"))
    assert parse(broken).camera.model == "D70"


def with_overlapping_values(place: str) -> bytes:
    """Return a block whose directory `place` claims the whole block as the value of each of its 200 entries."""
    linked = 8 + 2 + 12 + 4
    claims = [(0x0111, 4, 16_000, bytes(4))] * 200
    crafted = struct.pack("<H", len(claims)) + b"".join(struct.pack("<HHI", *claim[:3]) + claim[3] for claim in claims)
    data = crafted + bytes(64_000)
    if place == "next":
        return block((0x0112, 3, 1, b"\1\0\0\0"), data=data, following=linked)
    if place == "interoperability":
        exif = struct.pack("<HHHII", 1, 0xA005, 4, 1, linked + 18) + bytes(4)
        return block((0x8769, 4, 1, struct.pack("<I", linked)), data=exif + data)
    return block(*claims, data=data)


@pytest.mark.parametrize("place", ["main", "next", "interoperability"])
def test_piexif_never_reads_a_block_whose_values_overlap(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each value is as large as the block, so that piexif would take hundreds of times its size.
    read = []
    monkeypatch.setattr("piexif.load", lambda *_: read.append(place))
    parse(with_overlapping_values(place), reader="piexif")
    assert not read


def test_piexif_reads_a_block_with_a_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {
        "0th": {piexif.ImageIFD.Model: "D70"},
        "Exif": {piexif.ExifIFD.FNumber: (28, 10)},
        "1st": {piexif.ImageIFD.Compression: 6},
    }
    tags["thumbnail"] = encoded("jpeg", picture(32, 32))
    data = piexif.dump({**tags, "Interop": {piexif.InteropIFD.InteroperabilityIndex: "R98"}})[6:]
    read, load = [], piexif.load
    monkeypatch.setattr("piexif.load", lambda block: read.append(block) or load(block))
    assert parse(data, reader="piexif").camera.model == "D70"
    assert read


@pytest.mark.parametrize(
    ("tag", "numerator", "denominator"), [(0x829A, 1, 0), (0x829D, 0, 0), (0x920A, 2**32 - 1, 1), (0x829A, 0, 5)]
)
def test_impossible_rationals_have_no_value(tag: int, numerator: int, denominator: int) -> None:
    offset = 8 + 2 + 12 + 4
    data = block((tag, 5, 1, struct.pack("<I", offset)), data=struct.pack("<II", numerator, denominator))
    camera = parse(data).camera
    assert (camera.shutter_speed, camera.aperture) == (None, None)


def test_a_directory_that_points_to_itself_is_read_once() -> None:
    looped = block((0x8769, 4, 1, struct.pack("<I", 8)), (0x8825, 4, 1, struct.pack("<I", 8)), following=8)
    assert parse(looped) == ExifResult()


def test_pointers_of_the_type_ifd_and_texts_of_the_type_utf_8_are_read() -> None:
    text = "Ünix\0".encode()
    main = 8 + 2 + 2 * 12 + 4
    exif = struct.pack("<HHHIH2xI", 1, 0x8827, 3, 1, 200, 0)
    pointed = block(
        (0x0110, 129, len(text), struct.pack("<I", main + len(exif))),
        (0x8769, 13, 1, struct.pack("<I", main)),
        data=exif + text,
    )
    camera = parse(pointed).camera
    assert (camera.model, camera.iso) == ("Ünix", 200)


def test_nul_and_control_characters_are_removed_from_texts_and_latin_1_is_decoded() -> None:
    data = block((0x0110, 2, 4, b"A\x07\xe9\0"), (0x010F, 2, 4, b"\0\0\0\0"))
    camera = parse(data).camera
    assert (camera.model, camera.make) == ("Aé", None)


def test_an_unset_clock_has_no_time() -> None:
    for wrong in ("0000:00:00 00:00:00", "    :  :     :  :  ", "2024:13:45 99:99:99", "yesterday"):
        made = piexif.dump({"Exif": {piexif.ExifIFD.DateTimeOriginal: wrong}})[6:]
        assert parse(made).camera.taken_at is None, wrong


def test_coordinates_of_zero_are_not_a_place() -> None:
    zero = ((0, 1), (0, 1), (0, 1))
    made = piexif.dump({"GPS": {1: "N", 2: zero, 3: "E", 4: zero}})[6:]
    assert not parse(made).gps.has_gps


def test_a_huge_maker_note_is_not_read(tmp_path) -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.total += len(data)
            return data

    large = encoded("jpeg", picture(4000, 3000), exif=b"Exif\0\0" + ORDINARY, quality=100)
    stream = Counting(large + b"\0" * 10 * 2**20)
    assert read_exif(stream).camera.model == "D70"
    assert stream.total < 64 * 1024, f"{stream.total} bytes were read"


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_fail(noise: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        for reader in ("ifd", "piexif"):
            parse(head + noise, reader=reader).to_json()  # type: ignore[arg-type]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_mutations_of_a_file_never_fail(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FILES)))
    mutated = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        mutated[data.draw(st.integers(0, min(len(mutated), 700) - 1))] = data.draw(st.integers(0, 255))
    result = read_exif(io.BytesIO(bytes(mutated)))
    assert "\0" not in str(result.to_json())


FILES = {kind: encoded(kind, exif=b"Exif\0\0" + ORDINARY) for kind in ("jpeg", "webp", "png", "heic", "avif")}
FILES["tiff"] = encoded("tiff")
