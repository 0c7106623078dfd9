"""The quality of place names."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels


@dataclass(frozen=True)
class PlaceScores:
    """The shares of images whose place is one of the right names, and whose country is right."""

    images: int
    named: float
    right: float
    country_right: float | None


def score_places(images: Mapping[str, ImageLabels], answers: Mapping[str, ImageAnswer]) -> PlaceScores | None:
    """Return the scores; None without places in the labels."""
    expected = {file: labels.place for file, labels in images.items() if labels.place}
    if not expected:
        return None
    right = [_key(answers[file].place or "") in set(map(_key, place.names)) for file, place in expected.items()]
    countries = [
        answers[file].country_code == place.country_code for file, place in expected.items() if place.country_code
    ]
    return PlaceScores(
        images=len(expected),
        named=fmean(answers[file].place is not None for file in expected),
        right=fmean(right),
        country_right=fmean(countries) if countries else None,
    )


def _key(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(c if c.isalnum() else " " for c in decomposed if not unicodedata.combining(c)).split())
