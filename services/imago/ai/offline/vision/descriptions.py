"""Descriptions of images in French or English, from the subjects, colours and EXIF that are known."""

from collections.abc import Sequence
from datetime import datetime

from imago.ai.offline.vision.colours import is_black_and_white, main_colour_names
from imago.core.images.results import Camera, ExifResult, Gps
from imago.core.images.vision import VisionInput

_FRENCH_MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin"),
    *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
)
_ENGLISH_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# An image whose sides differ by a smaller factor is called square.
_SQUARE = 1.05


def describe(image: VisionInput, subjects: Sequence[str]) -> str:
    """Return a description of an image with its recognized subjects, in French if requested, else in English."""
    french = image.language == "fr"
    sentences = [_format_and_colours(image, french=french)]
    if subjects:
        sentences.append(f"{'Sujet probable :' if french else 'Likely shows:'} {', '.join(subjects)}.")
    circumstances = _circumstances(image.exif, french=french) if image.exif else ""
    if circumstances:
        sentences.append(circumstances)
    return " ".join(sentences)


def colour_tags(image: VisionInput) -> tuple[str, ...]:
    """Return the image's main colours as tags, or only 'black and white'."""
    language = "fr" if image.language == "fr" else "en"
    if is_black_and_white(image.colours):
        return ("noir et blanc",) if language == "fr" else ("black and white",)
    return main_colour_names(image.colours, language)


def _format_and_colours(image: VisionInput, *, french: bool) -> str:
    photographed = image.exif is not None and (image.exif.camera.make or image.exif.camera.model)
    ratio = image.width / image.height
    shape = "square" if 1 / _SQUARE <= ratio <= _SQUARE else "landscape" if ratio > 1 else "portrait"
    colours = colour_tags(image)
    if french:
        kind = "Photo" if photographed else "Image"
        form = {"square": "carré", "landscape": "paysage", "portrait": "portrait"}[shape]
        tones = f", surtout en {' et '.join(colours)}" if colours else ""
        return f"{kind} au format {form}{tones}."
    kind = "photo" if photographed else "image"
    tones = f", mostly {' and '.join(colours)}" if colours else ""
    return f"{shape.capitalize()} {kind}{tones}."


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
