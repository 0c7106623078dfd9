"""The peer's analysis of an image: header, thumbnail, EXIF, text and tags."""

import warnings
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import piexif
import pillow_heif
import pytesseract
from PIL import Image, ImageOps

from bench.peer import settings

pillow_heif.register_heif_opener()
warnings.simplefilter("error", Image.DecompressionBombWarning)
Image.MAX_IMAGE_PIXELS = settings.MAX_PIXELS

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "AVIF")
_NAMES = {"MPO": "jpeg", "HEIF": "heic"}

# The input of the offline classifier: the same model and preprocessing as in Imago.
_CROP, _SIDE = 0.875, 224


class Refused(Exception):
    """The file is not an accepted image; `status` is the HTTP status of the response."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def probe(path: Path) -> tuple[str, int, int, int]:
    """Return format, width, height and frames, without decoding; raise Refused."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > settings.MAX_PIXELS:
                raise Refused(413, "too-many-pixels")
            kind = _NAMES.get(image.format or "", (image.format or "").lower())
            return kind, image.width, image.height, getattr(image, "n_frames", 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(413, "too-many-pixels") from None
    except Refused:
        raise
    except Exception as error:
        raise Refused(415, "unsupported-media-type") from error


def thumbnail(source: Path, target: Path) -> int:
    """Write an upright thumbnail without metadata and return its size in bytes; raise Refused."""
    try:
        with Image.open(source, formats=FORMATS) as image:
            # Scales a JPEG while decoding; the PSNR to a full decode with Lanczos is 52 dB.
            image.thumbnail((settings.THUMBNAIL_SIDE, settings.THUMBNAIL_SIDE))
            small = ImageOps.exif_transpose(image)
            if small.mode not in ("RGB", "RGBA"):
                small = small.convert("RGBA" if "transparency" in small.info else "RGB")
            if settings.THUMBNAIL_FORMAT == "jpeg" and small.mode == "RGBA":
                small = small.convert("RGB")
            small.info = {}
            options = {"method": 2} if settings.THUMBNAIL_FORMAT == "webp" else {"optimize": True}
            small.save(target, settings.THUMBNAIL_FORMAT.upper(), quality=settings.THUMBNAIL_QUALITY, **options)
    except Exception as error:
        raise Refused(422, "unreadable-image") from error
    return target.stat().st_size


def read_exif(path: Path) -> dict[str, Any]:
    """Return camera and place by piexif; empty if there is no readable EXIF."""
    try:
        tags = piexif.load(str(path))
    except Exception:
        tags = {"0th": {}, "Exif": {}, "GPS": {}}
    main, exif, gps = tags["0th"], tags["Exif"], tags["GPS"]
    latitude, longitude = _degrees(gps, 1, 2, b"S"), _degrees(gps, 3, 4, b"W")
    return {
        "camera": {
            "make": _text(main.get(piexif.ImageIFD.Make)),
            "model": _text(main.get(piexif.ImageIFD.Model)),
            "lens": _text(exif.get(piexif.ExifIFD.LensModel)),
            "iso": exif.get(piexif.ExifIFD.ISOSpeedRatings),
            "aperture": _number(exif.get(piexif.ExifIFD.FNumber)),
            "shutter_speed": _number(exif.get(piexif.ExifIFD.ExposureTime)),
            "focal_length": _number(exif.get(piexif.ExifIFD.FocalLength)),
            "taken_at": _text(exif.get(piexif.ExifIFD.DateTimeOriginal)),
        },
        "gps": {"latitude": latitude, "longitude": longitude, "has_gps": None not in (latitude, longitude)},
    }


def read_text(path: Path) -> dict[str, Any]:
    """Return the text by pytesseract, in one single-threaded call for words and confidences."""
    with Image.open(path, formats=FORMATS) as image:
        # Tesseract reads only the formats of Leptonica, and ignores the EXIF orientation.
        turned = image.getexif().get(0x0112, 1) != 1
        if turned or image.format not in ("JPEG", "PNG", "BMP"):
            page = path.with_suffix(".ocr.pgm")
            ImageOps.exif_transpose(image).convert("L").save(page, "PPM")
        else:
            page = path
    try:
        config = f'--tessdata-dir "{settings.TESSDATA}" --dpi 300' if settings.TESSDATA else "--dpi 300"
        table = pytesseract.image_to_data(
            str(page), lang=settings.OCR_LANGUAGES, config=config, output_type=pytesseract.Output.DICT
        )
    finally:
        if page != path:
            page.unlink(missing_ok=True)
    words = [(text, float(conf)) for text, conf in zip(table["text"], table["conf"], strict=True) if text.strip()]
    text = " ".join(word for word, _ in words)
    confidence = sum(conf for _, conf in words) / (100 * len(words)) if words else 0.0
    return {"has_text": bool(words), "text": text, "confidence": round(confidence, 4), "engine": "pytesseract"}


def describe(path: Path) -> dict[str, Any]:
    """Return the most probable classes of the offline model."""
    session, labels = _model()
    with Image.open(path, formats=FORMATS) as opened:
        opened.thumbnail((1024, 1024))
        image = ImageOps.exif_transpose(opened).convert("RGB")
    side = max(1, int(min(image.size) * _CROP))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    answers = []
    for view in (image.crop((left, top, left + side, top + side)), image):
        pixels = (np.asarray(view.resize((_SIDE, _SIDE)), dtype=np.float32) - 127.0) / 128.0
        answers.append(session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[0][0])
    probabilities = np.mean(answers, axis=0)
    best = [int(index) for index in probabilities.argsort()[::-1][:3]]
    tags = [labels[index] for index in best if probabilities[index] > 0.1]
    return {
        "description": f"Likely shows: {', '.join(tags)}." if tags else "A photo.",
        "tags": tags,
        "confidence": round(float(probabilities[best[0]]), 4),
        "model_used": "offline/efficientnet-lite0",
    }


@lru_cache(maxsize=1)
def _model() -> tuple[Any, list[str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(settings.MODEL, options, providers=["CPUExecutionProvider"])
    names_file = Path(__file__).parents[2] / "services/imago/core/images/recognition/concept_names.txt"
    names = names_file.read_text("utf-8").splitlines()
    return session, [name.split("\t")[1] for name in names[:1000]]


def _text(value: Any) -> str | None:
    return value.decode(errors="replace").strip("\0 ") or None if isinstance(value, bytes) else None


def _number(value: Any) -> float | None:
    if not (isinstance(value, tuple) and len(value) == 2 and value[1]):
        return None
    return round(float(Fraction(*value)), 6)


def _degrees(gps: dict[int, Any], ref: int, value: int, negative: bytes) -> float | None:
    parts = gps.get(value)
    if not (isinstance(parts, tuple) and len(parts) == 3):
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    degrees = sum(number / 60**power for power, number in enumerate(numbers))
    return round(-degrees if gps.get(ref) == negative else degrees, 7)
