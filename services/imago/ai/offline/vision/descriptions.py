"""Descriptions of images in French or English, from the subjects, colours and EXIF that are known."""

from collections.abc import Sequence
from datetime import datetime

from imago.core.images.recognition.concepts import Concept, vocabulary
from imago.core.images.recognition.model import Recognition, Subject
from imago.core.images.results import Camera, ExifResult, Gps
from imago.core.images.search.names import ENGLISH_MONTHS, FRENCH_COLOURS, FRENCH_MONTHS
from imago.core.images.vision import VisionInput

# An image whose sides differ by a smaller factor is called square.
_SQUARE = 1.05
_FRENCH_SHAPES = {"square": "carré", "landscape": "paysage", "portrait": "portrait"}

_VOWELS = "aeiouàâéèêëîïôöùûüœ"
# Names that begin with a vowel but not with its sound ("a unicycle"), and with a silent letter ("an hourglass").
_LIKE_CONSONANTS = ("uni", "euro", "one")
_SILENT = ("hour",)


def describe(found: Recognition, image: VisionInput) -> str:
    """Return a description in French if requested, else in English.

    It says the shape, subjects and colours, and when, where and with what the image was taken.
    """
    french = image.language == "fr"
    sentences = [_french_sentence(found, image) if french else _english_sentence(found, image)]
    circumstances = _circumstances(image.exif, french=french) if image.exif else ""
    if circumstances:
        sentences.append(circumstances)
    return " ".join(sentences)


def colour_tags(found: Recognition, *, french: bool) -> tuple[str, ...]:
    """Return the main colours as tags."""
    return tuple(FRENCH_COLOURS[name] if french else name for name in found.colours)


def _is_photograph(exif: ExifResult | None) -> bool:
    return exif is not None and bool(exif.camera.make or exif.camera.model)


def _english_sentence(found: Recognition, image: VisionInput) -> str:
    kind = "photo" if _is_photograph(image.exif) else "image"
    named = [_english(subject) for subject in found.subjects if subject.described]
    subject = f" of {_listed(named, 'and')}" if named else ""
    tones = colour_tags(found, french=False)
    mostly = f", mostly {' and '.join(tones)}" if tones else ""
    return f"A {_shape(image)} {kind}{subject}{mostly}."


def _french_sentence(found: Recognition, image: VisionInput) -> str:
    kind = "Photo" if _is_photograph(image.exif) else "Image"
    named = [_french(subject) for subject in found.subjects if subject.described]
    subject = f" {_listed(named, 'et')}" if named else ""
    tones = colour_tags(found, french=True)
    mostly = f", surtout en {' et '.join(tones)}" if tones else ""
    return f"{kind} au format {_FRENCH_SHAPES[_shape(image)]}{subject}{mostly}."


def _shape(image: VisionInput) -> str:
    ratio = image.width / image.height
    return "square" if 1 / _SQUARE <= ratio <= _SQUARE else "landscape" if ratio > 1 else "portrait"


def _listed(parts: Sequence[str], conjunction: str) -> str:
    """Join parts: 'a', 'a and b', 'a, b and c'."""
    *others, last = parts
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _english(subject: Subject) -> str:
    concept = vocabulary()[subject.concept]
    if subject.several and concept.english_plural:
        return f"several {concept.english_plural}"
    return f"{_article(concept.english)} {concept.english}" if concept.english_number == "c" else concept.english


def _article(name: str) -> str:
    lower = name.lower()
    vowel = lower[0] in "aeiou" and not lower.startswith(_LIKE_CONSONANTS)
    return "an" if vowel or lower.startswith(_SILENT) else "a"


def _french(subject: Subject) -> str:
    """Return the complement of 'photo': 'd'un chien', 'de plusieurs chiens', 'de laine', 'd'eau'."""
    concept = vocabulary()[subject.concept]
    if subject.several and concept.french_plural:
        return f"de plusieurs {concept.french_plural}"
    if len(concept.french_form) > 1:
        return f"d'{concept.french}" if concept.french[0] in _VOWELS else f"de {concept.french}"
    return f"d'{_indefinite(concept)} {concept.french}"


def _indefinite(concept: Concept) -> str:
    return "une" if concept.french_form == "f" else "un"


def _circumstances(exif: ExifResult, *, french: bool) -> str:
    parts = [
        part
        for part in (
            _moment(exif.camera, french=french),
            _camera(exif.camera, french=french),
            _place(exif.gps, french=french),
        )
        if part
    ]
    return f"{'Prise' if french else 'Taken'} {' '.join(parts)}." if parts else ""


def _moment(camera: Camera, *, french: bool) -> str:
    if not camera.taken_at:
        return ""
    taken = datetime.fromisoformat(camera.taken_at)
    clock = f"{taken:%H:%M}"
    if french:
        day = "1er" if taken.day == 1 else str(taken.day)
        return f"le {day} {FRENCH_MONTHS[taken.month - 1]} {taken.year} à {clock}"
    return f"on {taken.day} {ENGLISH_MONTHS[taken.month - 1]} {taken.year} at {clock}"


def _camera(camera: Camera, *, french: bool) -> str:
    make, model = (camera.make or "").strip(), (camera.model or "").strip()
    if not model:
        name = make
    elif make and model.lower().startswith(make.split()[0].lower()):
        name = model
    else:
        name = f"{make} {model}".strip()
    return f"{'avec' if french else 'with'} {name}" if name else ""


def _place(gps: Gps, *, french: bool) -> str:
    if gps.latitude is None or gps.longitude is None:
        return ""
    latitude = f"{abs(gps.latitude):.4f}° {'N' if gps.latitude >= 0 else 'S'}"
    west = "O" if french else "W"
    longitude = f"{abs(gps.longitude):.4f}° {'E' if gps.longitude >= 0 else west}"
    if french:
        return f"près de {latitude.replace('.', ',')} {longitude.replace('.', ',')}"
    return f"near {latitude} {longitude}"
