"""EXIF, XMP and IPTC are found in every format, and nothing that is broken keeps the rest from being read."""

import io
import struct
import zlib

import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.imaging.metadata.metadata_parts import MAX_BLOCK, MAX_XMP, MetadataParts, read_metadata
from tests.support.hostile_headers import chunk, segment
from tests.support.images import encoded, picture

EXIF = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0Kam\0\0\0\0\0"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF/></x:xmpmeta>"
IPTC = b"\x1c\x02\x19\0\5river\x1c\x02\x19\0\4lake"
RESOURCES = b"8BIM\x03\xed\0\0\0\0\0\3abc\0" + b"8BIM\x04\x04\4name\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"

EXIF_SEGMENT = segment(0xE1, b"Exif\0\0" + EXIF)
XMP_SEGMENT = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
IPTC_SEGMENT = segment(0xED, b"Photoshop 3.0\0" + RESOURCES)


def jpeg(*segments: bytes) -> bytes:
    """Return a JPEG with segments before its own."""
    whole = encoded("jpeg")
    return whole[:2] + b"".join(segments) + whole[2:]


def png(*chunks: bytes) -> bytes:
    """Return a PNG with chunks before its pixels."""
    whole = encoded("png")
    return whole[:33] + b"".join(chunks) + whole[33:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP with chunks after its pixels."""
    body = encoded("webp", exif=b"Exif\0\0" + b"II*\0")[12:].partition(b"EXIF")[0]
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def gif(packet: bytes) -> bytes:
    """Return a GIF with XMP as Adobe writes it, before its image."""
    whole = encoded("gif")
    start = 13 + (3 << (whole[10] & 7) + 1)
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return whole[:start] + b"!\xff\x0bXMP DataXMP" + packet + trailer + whole[start:]


def heif(kind: str) -> bytes:
    """Return a HEIC or AVIF with EXIF and XMP."""
    if kind == "avif":
        return encoded("avif", exif=EXIF, xmp=XMP)
    target = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(target, exif=b"Exif\0\0" + EXIF, xmp=XMP)
    return target.getvalue()


def tiff(tag: int, data: bytes, *, kind: int = 1) -> bytes:
    """Return a TIFF of one directory with a size and another tag."""
    count = len(data) // 4 if kind == 4 else len(data)
    entries = ((256, 4, 1, 64), (257, 4, 1, 64), (tag, kind, count, 8 + 2 + 3 * 12 + 4))
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0) + data


def raw_profile(name: bytes, data: bytes, *, kind: bytes = b"zTXt") -> bytes:
    """Return a text chunk with a profile as ImageMagick writes it."""
    text = b"\n" + name + b"\n" + str(len(data)).rjust(8).encode() + b"\n" + data.hex().encode() + b"\n"
    rest = b"\0" + zlib.compress(text) if kind == b"zTXt" else text
    return chunk(kind, b"Raw profile type " + name + b"\0" + rest)


WITH_EXIF = {
    "jpeg": jpeg(EXIF_SEGMENT),
    "jpeg, after others": jpeg(segment(0xE0, b"JFIF\0"), XMP_SEGMENT, EXIF_SEGMENT),
    "jpeg, after bytes between the segments": jpeg(segment(0xE0, b"JFIF\0"), b"\0\1\2\3", EXIF_SEGMENT),
    "jpeg, in two segments": jpeg(segment(0xE1, b"Exif\0\0" + EXIF[:12]), segment(0xE1, b"Exif\0\0" + EXIF[12:])),
    "png": png(chunk(b"eXIf", EXIF)),
    "png, after the pixels": encoded("png")[:-12] + chunk(b"eXIf", EXIF) + encoded("png")[-12:],
    "png, as a raw profile": png(raw_profile(b"exif", b"Exif\0\0" + EXIF)),
    "png, as an uncompressed raw profile": png(raw_profile(b"APP1", b"Exif\0\0" + EXIF, kind=b"tEXt")),
    "webp": webp((b"EXIF", EXIF)),
    "webp, with a mark": webp((b"XMP ", XMP), (b"EXIF", b"Exif\0\0" + EXIF)),
    "heic": heif("heic"),
    "avif": heif("avif"),
}

WITH_XMP = {
    "jpeg": jpeg(EXIF_SEGMENT, XMP_SEGMENT),
    "png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "png, compressed": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0XMP\0" + zlib.compress(XMP))),
    "png, as a raw profile": png(raw_profile(b"xmp", XMP)),
    "png, as a raw profile of a segment": png(raw_profile(b"APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "webp": webp((b"EXIF", EXIF), (b"XMP ", XMP)),
    "gif": gif(XMP),
    "tiff": tiff(700, XMP),
    "heic": heif("heic"),
    "avif": heif("avif"),
}

WITH_IPTC = {
    "jpeg": jpeg(IPTC_SEGMENT),
    "jpeg, in two segments": jpeg(
        segment(0xED, b"Photoshop 3.0\0" + RESOURCES[:20]), segment(0xED, b"Photoshop 3.0\0" + RESOURCES[20:])
    ),
    "png, as resources": png(raw_profile(b"8bim", RESOURCES)),
    "png, as records": png(raw_profile(b"iptc", IPTC)),
    "tiff": tiff(33723, IPTC, kind=7),
    "tiff, in resources": tiff(34377, RESOURCES),
}


@pytest.mark.parametrize("name", WITH_EXIF)
def test_exif_is_found(name: str) -> None:
    assert (read_metadata(io.BytesIO(WITH_EXIF[name])).exif or b"")[: len(EXIF)] == EXIF


@pytest.mark.parametrize("name", WITH_XMP)
def test_xmp_is_found(name: str) -> None:
    assert read_metadata(io.BytesIO(WITH_XMP[name])).xmp == (XMP,)


@pytest.mark.parametrize("name", WITH_IPTC)
def test_iptc_is_found(name: str) -> None:
    assert read_metadata(io.BytesIO(WITH_IPTC[name])).iptc == IPTC


def test_records_of_iptc_stored_as_numbers_are_put_in_order() -> None:
    records = IPTC + bytes(-len(IPTC) % 4)
    swapped = b"".join(records[at : at + 4][::-1] for at in range(0, len(records), 4))
    assert read_metadata(io.BytesIO(tiff(33723, swapped, kind=4))).iptc == records


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "tiff", "bmp", "heic", "avif"])
def test_a_file_without_metadata_has_none(kind: str) -> None:
    parts = read_metadata(io.BytesIO(encoded(kind)))
    assert (parts.xmp, parts.iptc) == ((), None)


def extended(data: bytes, *, digest: bytes = b"D" * 32, length: int | None = None, step: int = 60_000) -> list[bytes]:
    """Return the segments of an extended XMP, the last one first."""
    return [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + digest
            + struct.pack(">II", len(data) if length is None else length, at)
            + data[at : at + step],
        )
        for at in reversed(range(0, len(data), step))
    ]


def test_extended_xmp_is_put_together_from_its_segments_in_any_order() -> None:
    data = b"<x>" + b"y" * 150_000 + b"</x>"
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"D" * 32)
    assert read_metadata(io.BytesIO(jpeg(main, *extended(data)))).xmp == (b"D" * 32, data)
    assert read_metadata(io.BytesIO(jpeg(*extended(data), main))).xmp == (b"D" * 32, data)


def test_extended_xmp_that_the_main_packet_does_not_name_is_left_out() -> None:
    assert read_metadata(io.BytesIO(jpeg(XMP_SEGMENT, *extended(b"other")))).xmp == (XMP,)


def test_extended_xmp_of_megabytes_is_left_out_and_iptc_after_it_is_found() -> None:
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"D" * 32)
    parts = read_metadata(io.BytesIO(jpeg(main, *extended(b"p" * 12_000_000), IPTC_SEGMENT)))
    assert (parts.xmp, parts.iptc) == ((b"D" * 32,), IPTC)
    claimed = read_metadata(io.BytesIO(jpeg(main, *extended(b"p", length=2**32 - 1))))
    assert claimed.xmp == (b"D" * 32,)


def test_a_broken_part_does_not_affect_the_parts_before_it() -> None:
    for data in (jpeg(EXIF_SEGMENT, b"\xff\xe1\xff"), png(chunk(b"eXIf", EXIF), b"\0\0\0\1\0\0\0\0")):
        assert (read_metadata(io.BytesIO(data)).exif or b"")[: len(EXIF)] == EXIF
    broken = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0 not zlib"), chunk(b"eXIf", EXIF))
    assert read_metadata(io.BytesIO(broken)).exif == EXIF


def test_parts_have_a_maximum_size() -> None:
    packet = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(5 * MAX_XMP))
    large = png(chunk(b"eXIf", EXIF + bytes(3 * MAX_BLOCK)), packet)
    parts = read_metadata(io.BytesIO(large))
    assert (len(parts.exif or b""), [len(packet) for packet in parts.xmp]) == (MAX_BLOCK, [MAX_XMP])
    bomb = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(100 * 2**20))))
    assert [len(packet) for packet in read_metadata(io.BytesIO(bomb)).xmp] == [MAX_XMP]


SAMPLES = [sample for samples in (WITH_EXIF, WITH_XMP, WITH_IPTC) for sample in samples.values()]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_mutations_never_fail(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 10))):
        mutated[data.draw(st.integers(0, min(len(mutated), 900) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)))
    for body in (bytes(mutated), bytes(mutated[:cut])):
        assert isinstance(read_metadata(io.BytesIO(body)), MetadataParts)
