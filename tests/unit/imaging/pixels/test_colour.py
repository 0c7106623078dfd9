"""Colours that an ICC profile or code points (CICP) describe are shown in sRGB, computed here independently."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from imago.imaging.pixels.decode import decode_image
from tests.support.quadrants import Colour, furthest, middles, quadrants

COLOURS = ((200, 100, 50), (80, 160, 120), (60, 70, 180), (180, 170, 90))
DARKER = ((120, 60, 30), (40, 90, 60), (30, 35, 110), (110, 100, 45))
GRAYS = (20, 220, 90, 160)
ALPHAS = (255, 128, 255, 60)

D65, D50 = np.array([0.95046, 1, 1.08906]), np.array([0.9642, 1, 0.8249])
PRIMARIES = {
    "sRGB": ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06)),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "Display P3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "BT.2020": ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    "SMPTE 170M": ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
}
CODES = {"sRGB": 1, "Display P3": 12, "BT.2020": 9, "SMPTE 170M": 6}
BT709, GAMMA_22, LINEAR, SRGB, PQ, HLG = 1, 4, 8, 13, 16, 18

Curve = Callable[[np.ndarray], np.ndarray]


def to_xyz(name: str) -> np.ndarray:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    return columns * np.linalg.solve(columns, D65)


def light(signal: np.ndarray) -> np.ndarray:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def signal(of: np.ndarray) -> np.ndarray:
    of = np.clip(of, 0, 1)
    return np.where(of <= 0.0031308, 12.92 * of, 1.055 * of ** (1 / 2.4) - 0.055)


def in_srgb(colours: Sequence[Colour], primaries: str, curve: Curve) -> list[Colour]:
    matrix = np.linalg.inv(to_xyz("sRGB")) @ to_xyz(primaries)
    return [tuple(np.round(255 * signal(matrix @ curve(np.array(colour) / 255))).astype(int)) for colour in colours]


def in_hdr(colour: Colour, primaries: str, transfer: int) -> Colour:
    """Return the code values of an sRGB colour whose white is diffuse white, 203 cd/m²."""
    shown = np.clip(np.linalg.inv(to_xyz(primaries)) @ to_xyz("sRGB") @ light(np.array(colour) / 255), 0, None) * 203
    if transfer == PQ:
        power = (shown / 10_000) ** 0.1593017578125
        coded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        luminance = to_xyz(primaries)[1] @ (shown / 1000)
        scene = shown / 1000 * luminance ** (1 / 1.2 - 1)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    return tuple(np.round(255 * np.clip(coded, 0, 1)).astype(int))


def assert_shows(data: bytes, colours: Sequence[Colour], *, within: int) -> None:
    found = middles(decode_image(io.BytesIO(data), max_side=512, max_pixels=10**6).image)
    assert furthest(found, colours) <= within, found


def picture(colours: Sequence[Colour]) -> Image.Image:
    return Image.fromarray(quadrants(colours).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_code_points(kind: str, colours: Sequence[Colour], primaries: int, transfer: int) -> bytes:
    """Return a file whose only statement about its colours are code points."""
    if kind == "PNG":
        data = saved(picture(colours), "PNG")
        body = b"cICP" + bytes((primaries, transfer, 0, 1))
        return data[:33] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
    sampling = {"subsampling": "4:4:4"} if kind == "AVIF" else {"chroma": 444}
    data = saved(picture(colours), kind, quality=100, **sampling)
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "HEIF"])
@pytest.mark.parametrize("primaries", CODES)
@pytest.mark.parametrize("transfer", [SRGB, BT709, GAMMA_22, LINEAR])
def test_code_points_of_standard_pictures(kind: str, primaries: str, transfer: int) -> None:
    # The curve of BT.709 is read as that of sRGB, as browsers do.
    curve: Curve = {GAMMA_22: lambda value: value**2.2, LINEAR: lambda value: value}.get(transfer, light)
    data = with_code_points(kind, COLOURS, CODES[primaries], transfer)
    assert_shows(data, in_srgb(COLOURS, primaries, curve), within=8)


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "HEIF"])
@pytest.mark.parametrize("primaries", CODES)
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_pictures_keep_the_brightness_of_what_is_darker_than_white(
    kind: str, primaries: str, transfer: int
) -> None:
    coded = [in_hdr(colour, primaries, transfer) for colour in DARKER]
    assert_shows(with_code_points(kind, coded, CODES[primaries], transfer), DARKER, within=16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_of_hdr_pictures_are_distinguished_from_white(transfer: int) -> None:
    levels = [(round(share * 255),) * 3 for share in (0.4, 0.55, 0.65, 0.75)]
    data = with_code_points("PNG", levels, 9, transfer)
    image = decode_image(io.BytesIO(data), max_side=512, max_pixels=10**6).image
    shown = [colour[0] for colour in middles(image)]
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("code", [(2, 2), (1, 13), (3, 3), (250, 250)])
def test_unknown_and_unspecified_code_points_change_nothing(code: tuple[int, int]) -> None:
    assert_shows(with_code_points("PNG", COLOURS, *code), COLOURS, within=3)


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    written = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:33] + written + data[33:]


def gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / exponent))


def chrm(primaries: str) -> tuple[bytes, bytes]:
    points = ((0.3127, 0.3290), *PRIMARIES[primaries])
    return b"cHRM", b"".join(struct.pack(">II", round(x * 100_000), round(y * 100_000)) for x, y in points)


@pytest.mark.parametrize("primaries", ["sRGB", "Adobe RGB", "Display P3"])
@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.6])
def test_the_gamma_and_primaries_of_a_png(primaries: str, exponent: float) -> None:
    data = with_chunks(saved(picture(COLOURS), "PNG"), gama(exponent), chrm(primaries))
    assert_shows(data, in_srgb(COLOURS, primaries, lambda value: value**exponent), within=14)


def test_the_gamma_of_a_gray_png() -> None:
    data = saved(Image.fromarray(np.squeeze(quadrants([(gray,) for gray in GRAYS])).astype(np.uint8)), "PNG")
    expected = [(round(255 * float(signal(np.array(gray / 255)))),) * 3 for gray in GRAYS]
    assert_shows(with_chunks(data, gama(1.0)), expected, within=2)


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(2.2), chrm("sRGB")),
        (gama(1.0), chrm("Adobe RGB"), (b"sRGB", b"\0")),
        ((b"gAMA", bytes(4)), (b"cHRM", bytes(32))),
        ((b"gAMA", b"\xff" * 4), (b"cHRM", b"\xff" * 32)),
        ((b"gAMA", b""), (b"cHRM", b"\1")),
        ((b"cHRM", struct.pack(">8I", 31270, 32900, 30000, 30000, 30000, 30000, 30000, 30000)),),
    ],
    ids=["of sRGB", "beside sRGB", "zeros", "too large", "cut", "without an area"],
)
def test_a_gamma_and_primaries_that_say_nothing_new_are_ignored(chunks: Sequence[tuple[bytes, bytes]]) -> None:
    assert_shows(with_chunks(saved(picture(COLOURS), "PNG"), *chunks), COLOURS, within=2)


def profile(space: bytes, curve: bytes, primaries: str | None = None) -> bytes:
    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    tags = {b"wtpt": xyz(D50)}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        adapted = np.linalg.inv(bradford) @ np.diag((bradford @ D50) / (bradford @ D65)) @ bradford @ to_xyz(primaries)
        for index, letter in enumerate((b"r", b"g", b"b")):
            tags |= {letter + b"XYZ": xyz(adapted[:, index]), letter + b"TRC": curve}
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (head + b"".join(map(number, D50))).ljust(128, b"\0") + table + body


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"


FILES = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 98, "subsampling": "4:4:4"},
    "HEIF": {"quality": 98, "chroma": 444},
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(("primaries", "exponent"), [("Adobe RGB", 2.2), ("Display P3", 1.8), ("sRGB", 1.0)])
def test_an_rgb_profile(kind: str, primaries: str, exponent: float) -> None:
    icc = profile(b"RGB ", gamma(exponent), primaries)
    expected = in_srgb(COLOURS, primaries, lambda value: value**exponent)
    assert_shows(saved(picture(COLOURS), kind, icc_profile=icc, **FILES[kind]), expected, within=14)
    if kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        image = picture([(*colour, alpha) for colour, alpha in zip(COLOURS, ALPHAS, strict=True)])
        expected = [(*colour, alpha) for colour, alpha in zip(expected, ALPHAS, strict=True)]
        assert_shows(saved(image, kind, icc_profile=icc, **FILES[kind]), expected, within=14)


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.2])
@pytest.mark.parametrize(
    ("kind", "alpha"),
    [
        *((kind, alpha) for kind in ("PNG", "TIFF", "16-bit TIFF") for alpha in (False, True)),
        ("16-bit MinIsWhite", False),
    ],
)
def test_a_gray_profile(kind: str, alpha: bool, exponent: float) -> None:
    icc = profile(b"GRAY", gamma(exponent))
    expected = [tuple(np.round(255 * signal(np.full(3, gray / 255) ** exponent)).astype(int)) for gray in GRAYS]
    pixels = quadrants([(gray, a) if alpha else (gray,) for gray, a in zip(GRAYS, ALPHAS, strict=True)])
    if alpha:
        expected = [(*colour, a) for colour, a in zip(expected, ALPHAS, strict=True)]
    if kind.startswith("16-bit"):
        inverted = "White" in kind
        buffer = io.BytesIO()
        deep = (255 - pixels if inverted else pixels).astype(np.uint16) * 257
        photometric = "miniswhite" if inverted else "minisblack"
        extra = ["unassalpha"] if alpha else None
        tifffile.imwrite(
            buffer, deep if alpha else deep[..., 0], photometric=photometric, iccprofile=icc, extrasamples=extra
        )
        data = buffer.getvalue()
    else:
        data = saved(Image.fromarray(np.squeeze(pixels).astype(np.uint8)), kind, icc_profile=icc)
    assert_shows(data, expected, within=4)


def test_a_profile_of_another_kind_than_the_pixels_is_ignored() -> None:
    assert_shows(saved(picture(COLOURS), "PNG", icc_profile=profile(b"GRAY", gamma(1.0))), COLOURS, within=3)


def test_cielab() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(picture(COLOURS), srgb, lab, outputMode="LAB")
    assert image is not None
    assert_shows(saved(image, "TIFF"), COLOURS, within=4)
