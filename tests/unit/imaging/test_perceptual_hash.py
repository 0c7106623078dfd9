"""The perceptual hash on drawn pictures and their edited copies."""

import io
import random

from PIL import Image, ImageDraw, ImageEnhance

from imago.imaging.perceptual_hash import perceptual_hash


def picture(seed: int) -> Image.Image:
    """Return a picture of large shapes in many tones."""
    chance = random.Random(seed)
    image = Image.new("RGB", (480, 360), tuple(chance.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = chance.randrange(440), chance.randrange(320)
        box = (left, top, left + chance.randrange(60, 260), top + chance.randrange(60, 220))
        draw.ellipse(box, fill=tuple(chance.randrange(256) for _ in range(3)))
    return image


def different_bits(one: Image.Image, other: Image.Image) -> int:
    hashes = perceptual_hash(one), perceptual_hash(other)
    assert hashes[0] is not None
    assert hashes[1] is not None
    return ((hashes[0] ^ hashes[1]) & (2**64 - 1)).bit_count()


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality)
    return Image.open(encoded)


def test_edited_copies_are_the_same_picture() -> None:
    for seed in range(5):
        image = picture(seed)
        for copy in (
            as_jpeg(image, 30),
            image.resize((240, 180)),
            ImageEnhance.Brightness(image).enhance(1.2),
            image.convert("L"),
            image.convert("RGBA"),
        ):
            assert different_bits(image, copy) <= 8


def test_other_pictures_differ() -> None:
    pictures = [picture(seed) for seed in range(12)]
    pairs = [(one, other) for number, one in enumerate(pictures) for other in pictures[:number]]
    assert min(different_bits(*pair) for pair in pairs) > 8


def test_the_hash_is_a_signed_integer_of_64_bits() -> None:
    hashes = [perceptual_hash(picture(seed)) for seed in range(20)]
    assert all(value is not None and -(2**63) <= value < 2**63 for value in hashes)


def test_blank_and_nearly_uniform_pictures_have_no_hash() -> None:
    white = Image.new("RGB", (800, 600), "white")
    noisy = Image.effect_noise((800, 600), 12).convert("RGB")
    page = white.copy()
    draw = ImageDraw.Draw(page)
    for line in range(40, 560, 30):
        draw.text((50, line), "A page of text has much the same frequencies as any other. " * 2, fill="black")
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    for image in (white, Image.new("L", (10, 10), 0), noisy, page, clear, Image.new("RGB", (1, 1), "red")):
        assert perceptual_hash(image) is None
