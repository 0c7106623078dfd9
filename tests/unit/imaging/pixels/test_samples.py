"""Samples of every depth, layout and transparency that Pillow doesn't read as the file means them."""

import io
import struct
import zlib
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image

from imago.core.errors import UnreadableImage
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.formats.header import probe
from imago.imaging.pixels.decode import decode_image
from tests.support.quadrants import COLOURS, SIZE, Colour, furthest, middles, quadrants

GRAYS = (20, 220, 90, 160)
ALPHAS = (255, 128, 0, 200)
GRAY, RGB = 0, 2


def shown(data: bytes, *, max_side: int = 512) -> Image.Image:
    return decode_image(io.BytesIO(data), max_side=max_side, max_pixels=10**7).image


def assert_shows(data: bytes, colours: Sequence[Colour], *, within: int = 3) -> None:
    found = middles(shown(data))
    if len(colours[0]) == 4:
        # The colour of a transparent pixel doesn't matter.
        found = [(0, 0, 0, 0) if colour[3:] == (0,) else colour for colour in found]
        colours = [(0, 0, 0, 0) if colour[3] == 0 else colour for colour in colours]
    assert furthest(found, colours) <= within, found


def png(pixels: np.ndarray, *, depth: int, colour_type: int, key: Sequence[int] | None = None) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def row(samples: np.ndarray) -> bytes:
        bits = samples.reshape(-1)[:, None] >> np.arange(depth - 1, -1, -1) & 1
        return b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(map(row, pixels))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent + data + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", range(4))
def test_a_gray_of_a_png_is_transparent(depth: int, transparent: int) -> None:
    white = 2**depth - 1
    samples = [0, white, white // 3, white * 2 // 3]
    expected = [
        (*[round(sample * 255 / white)] * 3, 0 if sample == samples[transparent] else 255) for sample in samples
    ]
    pixels = quadrants([(sample,) for sample in samples])
    assert_shows(png(pixels, depth=depth, colour_type=GRAY, key=[samples[transparent]]), expected)


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("transparent", range(4))
def test_a_colour_of_a_png_is_transparent(scale: int, transparent: int) -> None:
    colours = [tuple(value * scale for value in colour) for colour in COLOURS]
    expected = [(*colour, 0 if index == transparent else 255) for index, colour in enumerate(COLOURS)]
    data = png(quadrants(colours), depth=8 if scale == 1 else 16, colour_type=RGB, key=colours[transparent])
    assert_shows(data, expected)


def test_a_colour_that_differs_in_one_of_16_bits_is_not_transparent() -> None:
    colours = [(30000, 20000, 10000), (30000, 20000, 10001), (30001, 20000, 10000), (30000, 20001, 10000)]
    image = shown(png(quadrants(colours), depth=16, colour_type=RGB, key=colours[0]))
    assert [colour[3] for colour in middles(image)] == [0, 255, 255, 255]


def test_a_transparent_colour_counts_after_thousands_of_other_chunks() -> None:
    data = png(quadrants(COLOURS), depth=8, colour_type=RGB, key=COLOURS[0])
    chunks = (struct.pack(">I", 1) + b"teSt" + b"x" + struct.pack(">I", zlib.crc32(b"teStx"))) * 1100
    image = shown(data[:33] + chunks + data[33:])
    assert [colour[3] for colour in middles(image)] == [0, 255, 255, 255]


@pytest.mark.parametrize(("depth", "colour_type"), [(8, GRAY), (16, GRAY), (8, RGB), (16, RGB)])
def test_the_transparent_colour_leaves_no_fringe(depth: int, colour_type: int) -> None:
    at_y, at_x = np.mgrid[:600, :600]
    disc = (at_x - 300) ** 2 + (at_y - 300) ** 2 < 200**2
    scale, channels = (257 if depth == 16 else 1), (1 if colour_type == GRAY else 3)
    pixels = np.repeat(np.where(disc, 200 * scale, 0)[..., None], channels, axis=2)
    image = np.array(shown(png(pixels, depth=depth, colour_type=colour_type, key=[0] * channels), max_side=150))
    assert image[..., 3].min() == 0
    assert image[..., :3][image[..., 3] > 16].min() > 180


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["BMP", "GIF"])
def test_bmp_and_gif(kind: str, mode: str) -> None:
    image = Image.fromarray(quadrants(COLOURS).astype(np.uint8))
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    assert_shows(buffer.getvalue(), middles(image.convert("RGB")))


@pytest.mark.parametrize("transparent", range(4))
def test_a_colour_of_a_gif_is_transparent(transparent: int) -> None:
    image = Image.fromarray(quadrants([(0,), (1,), (2,), (3,)])[..., 0].astype(np.uint8), "P")
    image.putpalette([channel for colour in COLOURS for channel in colour])
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=transparent)
    assert_shows(buffer.getvalue(), [(*c, 0 if index == transparent else 255) for index, c in enumerate(COLOURS)])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_gray_tiff(order: str, compression: str | None, photometric: str, kind: str) -> None:
    values = [value if photometric == "minisblack" else 255 - value for value in GRAYS]
    pixels = quadrants([(value,) for value in values])[..., 0] * {"u1": 1, "u2": 257, "f4": 1 / 255}[kind]
    data = tiff(pixels.astype(order + kind), photometric=photometric, byteorder=order, compression=compression)
    assert_shows(data, [(gray,) * 3 for gray in GRAYS])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_gray_tiff_with_alpha(order: str, compression: str | None, extra: str, kind: str) -> None:
    pairs = [(g if extra == "unassalpha" else g * a // 255, a) for g, a in zip(GRAYS, ALPHAS, strict=True)]
    pixels = (quadrants(pairs) * (257 if kind == "u2" else 1)).astype(order + kind)
    data = tiff(pixels, photometric="minisblack", extrasamples=[extra], byteorder=order, compression=compression)
    assert_shows(data, [(g, g, g, a) for g, a in zip(GRAYS, ALPHAS, strict=True)])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_rgb_tiff(order: str, compression: str | None, tile: tuple[int, int] | None, planes: str, kind: str) -> None:
    pixels = (quadrants() * (257 if kind == "u2" else 1)).astype(order + kind)
    options = {"planarconfig": planes, "tile": tile, "byteorder": order, "compression": compression}
    assert_shows(tiff(pixels, photometric="rgb", **options), COLOURS)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_cmyk_tiff(planes: str, kind: str) -> None:
    inks = [(0, 235, 235, 35), (235, 55, 235, 0), (235, 235, 35, 0), (25, 45, 225, 0)]
    expected = [tuple(round((255 - ink) * (255 - c[3]) / 255) for ink in c[:3]) for c in inks]
    pixels = (quadrants(inks) * (257 if kind == "u2" else 1)).astype(kind)
    assert_shows(tiff(pixels, photometric="separated", planarconfig=planes), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scale", [1, 256, 257])
def test_a_colour_map_of_8_or_16_bits(order: str, scale: int) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, :4] = np.array(COLOURS).T * scale
    pixels = quadrants([(index,) for index in range(4)])[..., 0].astype(np.uint8)
    assert_shows(tiff(pixels, photometric="palette", colormap=colours, byteorder=order), COLOURS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_gray_tiff_of_12_bits(order: str, photometric: int) -> None:
    values = [value if photometric else 255 - value for value in GRAYS]
    samples = quadrants([(round(value * 4095 / 255),) for value in values])[..., 0]
    bits = samples.reshape(SIZE[1], -1)[..., None] >> np.arange(11, -1, -1) & 1
    data = np.packbits(bits.reshape(SIZE[1], -1).astype(np.uint8), axis=1).tobytes()
    tags = {256: SIZE[0], 257: SIZE[1], 258: 12, 259: 1, 262: photometric, 273: 0, 277: 1, 278: SIZE[1], 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    assert_shows(head + entries + bytes(4) + data, [(gray,) * 3 for gray in GRAYS])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_unsigned_gray_of_32_bits(order: str, compression: str | None) -> None:
    grays = (0, 255, 90, 160)
    pixels = (quadrants([(gray,) for gray in grays])[..., 0] * (2**32 - 1) // 255).astype(np.uint32)
    data = tiff(pixels, photometric="minisblack", byteorder=order, compression=compression)
    assert_shows(data, [(gray,) * 3 for gray in grays])


@pytest.mark.parametrize("declared", [False, True])
def test_12_bits_in_16_are_not_black(declared: bool) -> None:
    grays = (0, 255, 90, 160)
    pixels = quadrants([(round(gray * 4095 / 255),) for gray in grays])[..., 0].astype(np.uint16)
    tags = [(281, 3, 1, 4095, True)] if declared else []
    assert_shows(tiff(pixels, photometric="minisblack", extratags=tags), [(gray,) * 3 for gray in grays])


def test_colours_of_10_and_12_bits_in_16_are_not_black() -> None:
    colours = [*COLOURS[:3], (255, 255, 255)]
    for bits, order, compression, tile in product((10, 12, 16), "<>", (None, "zlib"), (None, (32, 32))):
        pixels = np.round(quadrants(colours) * ((2**bits - 1) / 255)).astype(np.uint16)
        data = tiff(pixels, photometric="rgb", byteorder=order, compression=compression, tile=tile)
        assert_shows(data, colours)


def test_dark_colours_of_16_bits_stay_dark() -> None:
    colours = [(10, 10, 10), (11, 10, 10), (10, 12, 10), (10, 10, 13)]
    assert_shows(tiff((quadrants(colours) * 257).astype(np.uint16), photometric="rgb"), colours)


def test_a_dark_picture_of_16_bits_stays_dark() -> None:
    pixels = quadrants([(2570,), (2570,), (3000,), (2570,)])[..., 0].astype(np.uint16)
    assert_shows(tiff(pixels, photometric="minisblack"), [(10,) * 3, (10,) * 3, (12,) * 3, (10,) * 3])


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.zeros((8, 8, 3), np.float32), {"photometric": "rgb"}, "3 floating-point samples of 32 bits"),
        (np.zeros((8, 8, 3), np.uint32), {"photometric": "rgb"}, "3 integer samples of 32 bits"),
        (np.zeros((8, 8), np.float64), {"photometric": "minisblack"}, "1 floating-point samples of 64 bits"),
        (
            np.zeros((8, 8, 2), np.uint8),
            {"photometric": "minisblack", "planarconfig": "separate", "extrasamples": ["unassalpha"]},
            "2 integer samples of 8 bits per pixel, in separate planes",
        ),
    ],
)
def test_a_layout_that_cannot_be_decoded_is_named(pixels: np.ndarray, options: dict[str, object], reason: str) -> None:
    data = tiff(pixels, **options)
    with pytest.raises(UnreadableImage) as refusal:
        probe(io.BytesIO(data))
    # Files that were stored before uploads had this check.
    with pytest.raises(PermanentFailure) as failure:
        shown(data)
    assert failure.value.code == "unsupported-image"
    for text in (refusal.value.detail, failure.value.text):
        assert reason in text
        assert "integers of 8 or 16 bits" in text
