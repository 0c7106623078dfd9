"""Descriptions of images in French or English, from the subjects, colours and EXIF that are known."""

from collections.abc import Sequence
from datetime import datetime

from imago.ai.offline.vision import colours
from imago.core.images.concepts import Concept, vocabulary
from imago.core.images.recognition import Recognition, Subject
from imago.core.images.results import Camera, ExifResult, Gps

_FRENCH_MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin"),
    *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
)
_ENGLISH_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_VOWELS = "aeiouàâéèêëîïôöùûüœ"
# Names that begin with a vowel but not with its sound ("a unicycle"), and with a silent letter ("an hourglass").
_LIKE_CONSONANTS = ("uni", "euro", "one")
_SILENT = ("hour",)


def describe(found: Recognition, exif: ExifResult | None, *, french: bool) -> str:
    """Return a description in French or English: subjects, colours, and when, where and with what it was taken."""
    sentences = [_shown(found, photographed=_is_photograph(exif), french=french)]
    circumstances = _circumstances(exif, french=french) if exif else ""
    if circumstances:
        sentences.append(circumstances)
    return " ".join(sentences)


def colour_tags(found: Recognition, *, french: bool) -> tuple[str, ...]:
    """Return the main colours as tags."""
    return tuple(colours.FRENCH[name] if french else name for name in found.colours)


def _is_photograph(exif: ExifResult | None) -> bool:
    return exif is not None and bool(exif.camera.make or exif.camera.model)


def _shown(found: Recognition, *, photographed: bool, french: bool) -> str:
    named = [subject for subject in found.subjects if subject.described]
    tones = colour_tags(found, french=french)
    if french:
        kind = "Photo" if photographed else "Image"
        subject = f" {_listed([_french(subject) for subject in named], 'et')}" if named else ""
        mostly = f"{', surtout' if named else ' surtout'} en {' et '.join(tones)}" if tones else ""
        return f"{kind}{subject}{mostly}."
    kind = "A photo" if photographed else "An image"
    subject = f" of {_listed([_english(subject) for subject in named], 'and')}" if named else ""
    mostly = f", mostly {' and '.join(tones)}" if tones else ""
    return f"{kind}{subject}{mostly}."


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
        return f"le {day} {_FRENCH_MONTHS[taken.month - 1]} {taken.year} à {clock}"
    return f"on {taken.day} {_ENGLISH_MONTHS[taken.month - 1]} {taken.year} at {clock}"


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
