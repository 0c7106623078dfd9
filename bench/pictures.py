"""Images for measurements: variations of photos from packages and the corpus, and pages of text."""

import io
import os
import random
from functools import lru_cache
from pathlib import Path

import piexif
from PIL import Image, ImageDraw, ImageFont

from devtools.photos import CHINA, COFFEE, FLOWER, ROOT

_FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"

# Public domain: La Fontaine and Lincoln, with accents and digits that are hard for OCR.
TEXT_FR = (
    "Maître Corbeau, sur un arbre perché, tenait en son bec un fromage. Maître Renard, par l'odeur alléché, lui tint à "
    "peu près ce langage : « Hé ! bonjour, Monsieur du Corbeau. Que vous êtes joli ! que vous me semblez beau ! Sans "
    "mentir, si votre ramage se rapporte à votre plumage, vous êtes le Phénix des hôtes de ces bois. » À ces mots le "
    "Corbeau ne se sent pas de joie ; et pour montrer sa belle voix, il ouvre un large bec, laisse tomber sa proie."
)
TEXT_EN = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing "
    "whether that nation, or any nation so conceived and so dedicated, can long endure. Invoice 2048-17, total due "
    "1,563.40 EUR before 19 November 1863."
)


@lru_cache(maxsize=2)
def photo_900k(width: int = 2048) -> bytes:
    """Return a JPEG of about 3 megapixels and 900 KB: an enlarged real photo with sensor noise."""
    with Image.open(CHINA) as opened:
        photo = opened.convert("RGB").resize((width, width * 3 // 4), Image.Resampling.LANCZOS)
    noise = Image.effect_noise(photo.size, 20).convert("RGB")
    return _near(Image.blend(photo, noise, 0.10), 900_000)


@lru_cache(maxsize=1)
def photo_128k() -> bytes:
    """Return a JPEG of half a megapixel and about 128 KB."""
    with Image.open(FLOWER) as opened:
        photo = opened.convert("RGB").resize((800, 600), Image.Resampling.LANCZOS)
    return _near(Image.blend(photo, Image.effect_noise(photo.size, 20).convert("RGB"), 0.10), 128_000)


def page(text: str, *, width: int = 800, height: int = 600, size: int = 22) -> Image.Image:
    """Return a page of black text on white."""
    image = Image.new("L", (width, height), 255)
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, size)
    margin, lines, line = size * 2, [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if draw.textlength(longer, font=font) > width - 2 * margin:
            lines.append(line)
            longer = word
        line = longer
    draw.multiline_text((margin, margin), "\n".join([*lines, line]), font=font, fill=20, spacing=size // 2)
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of an encoded image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corpus() -> list[Path]:
    """Return the camera files of the corpus that every reader opens; empty without a corpus."""
    folder = Path(os.environ.get("IMAGO_TEST_CORPUS") or ROOT.parent / "shared" / "corpus") / "exif-samples"
    unusual = {"invalid", "tests", "tiff"}
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg")
        and not unusual & set(path.relative_to(folder).parts)
        and path.name != "corrupted.jpg"
    )


def mixed(count: int, *, seed: int = 7) -> list[tuple[str, bytes]]:
    """Return names and bytes of different images: camera files, photos in several sizes and formats, pages of text."""
    chance, images = random.Random(seed), []
    originals = [path.read_bytes() for path in corpus()]
    photos = [Image.open(path).convert("RGB") for path in (CHINA, COFFEE, FLOWER)]
    for number in range(count):
        kind = number % 10
        if kind < 4 and originals:
            images.append((f"camera-{number}.jpg", originals[number % len(originals)]))
        elif kind < 9:
            images.append(_photo(number, photos[number % len(photos)], chance))
        else:
            text = (TEXT_FR if number % 20 == 9 else TEXT_EN).split()
            start = chance.randrange(len(text) // 2)
            written = page(" ".join(text[start:]), width=1000, height=700, size=chance.randrange(18, 30))
            images.append((f"page-{number}.png", encoded(written, "PNG")))
    return images


def _photo(number: int, photo: Image.Image, chance: random.Random) -> tuple[str, bytes]:
    width = chance.choice((640, 1024, 1600, 2400))
    sized = photo.resize((width, width * photo.height // photo.width), Image.Resampling.BICUBIC)
    match chance.choice(("JPEG", "JPEG", "JPEG", "PNG", "WEBP")):
        case "JPEG":
            exif = piexif.dump(
                {"0th": {piexif.ImageIFD.Make: b"Bench", piexif.ImageIFD.Model: f"No {number}".encode()}}
            )
            return f"photo-{number}.jpg", encoded(sized, "JPEG", quality=chance.randrange(70, 95), exif=exif)
        case "PNG":
            return f"photo-{number}.png", encoded(sized.resize((640, 480)), "PNG")
        case _:
            return f"photo-{number}.webp", encoded(sized, "WEBP", quality=80, method=0)


def _near(image: Image.Image, size: int) -> bytes:
    """Return a JPEG with the quality that comes closest to a size."""
    return min(
        (encoded(image, "JPEG", quality=quality) for quality in range(60, 98, 3)),
        key=lambda data: abs(len(data) - size),
    )
