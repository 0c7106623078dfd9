"""What search finds an image by besides its texts: the names of its tags in both languages, its camera and its date."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.results import Camera

# The names of each colour: its French tag, and what else search finds, as in "une voiture verte".
_COLOURS = {
    "black": ("noir", "noire"),
    "white": ("blanc", "blanche"),
    "gray": ("gris", "grise", "grey"),
    "red": ("rouge",),
    "orange": ("orange",),
    "brown": ("marron", "brun", "brune"),
    "beige": ("beige",),
    "yellow": ("jaune",),
    "green": ("vert", "verte"),
    "turquoise": ("turquoise",),
    "blue": ("bleu", "bleue"),
    "purple": ("violet", "violette"),
    "pink": ("rose",),
    "black and white": ("noir et blanc",),
}
FRENCH_COLOURS = {english: names[0] for english, names in _COLOURS.items()}
"""The tag of each colour in French, by its English tag."""

ENGLISH_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
FRENCH_MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin"),
    *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
)


def names_of_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags, and the names of the same things in the other language."""
    known = _names()
    return tuple(dict.fromkeys(name for tag in tags for name in (tag, *known.get(tag.lower(), ()))))


def words_of_camera(camera: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a camera, and the date of a picture with its month in both languages."""
    shown = Camera(**camera)
    names = tuple(name for name in (shown.make, shown.model) if name)
    if not shown.taken_at:
        return names
    taken = datetime.fromisoformat(shown.taken_at)
    month = taken.month - 1
    return (*names, f"{taken.day} {ENGLISH_MONTHS[month]} {FRENCH_MONTHS[month]} {taken.year}")


@lru_cache(maxsize=1)
def _names() -> dict[str, tuple[str, ...]]:
    """Return the names of what each name means; a name with two meanings has those of both."""
    same = [(english, *names) for english, names in _COLOURS.items()]
    for concept in vocabulary().values():
        plurals = (concept.english_plural, concept.french_plural)
        same.append((concept.english, concept.french, *(name for name in plurals if name)))
    found: dict[str, dict[str, None]] = {}
    for names in same:
        for name in names:
            found.setdefault(name.lower(), {}).update(dict.fromkeys(names))
    return {name: tuple(others) for name, others in found.items()}
