"""Values of all sources, cleaned and cut to their limits."""

import re
from collections.abc import Iterable
from itertools import islice

from imago.core.images.results import IptcPlace
from imago.core.text.cleaning import clean_text
from imago.imaging.metadata.exif import dates

MAX_LINE = 256
MAX_PARAGRAPH = 4_000
MAX_KEYWORD = 100
MAX_KEYWORDS = 200
MAX_NAMES = 10
MAX_PLACES = 20

_MOMENT = re.compile(
    r"(?P<year>[0-9]{4})(?:[-:./]?(?P<month>[0-9]{2})(?:[-:./]?(?P<day>[0-9]{2})"
    r"(?:[T ]\s*(?P<hour>[0-9]{2}):?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"\s*(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?)?)?)?"
)


def line(text: str, limit: int = MAX_LINE) -> str | None:
    """Return a text of one line, or None if nothing is left of it."""
    return clean_text(text, limit=limit, lines=False) or None


def paragraph(text: str) -> str | None:
    """Return a text of several lines, or None if nothing is left of it."""
    return clean_text(text, limit=MAX_PARAGRAPH) or None


def keywords(texts: Iterable[str]) -> tuple[str, ...]:
    """Return keywords in their order, without duplicates."""
    return _distinct(texts, limit=MAX_KEYWORD, count=MAX_KEYWORDS)


def names(texts: Iterable[str]) -> str | None:
    """Return names of people as one text; EXIF's Artist separates them in this way."""
    return "; ".join(_distinct(texts, limit=MAX_LINE, count=MAX_NAMES)) or None


def place_or_none(place: IptcPlace) -> IptcPlace | None:
    """Return a place, or None if it has no name."""
    return None if place == IptcPlace() else place


def stars(percent: float | None) -> int | None:
    """Return the rating of Windows' percentage: 1, 25, 50, 75 and 99 for one to five stars; 0 is no rating."""
    return round(percent / 25) + 1 if percent and 0 < percent <= 100 else None


def moment(text: str) -> str | None:
    """Return a date in ISO 8601, as precise as it is written: a year, a month, a day, or a time; None if it is none."""
    match = _MOMENT.match(text.strip())
    if match is None or match["year"] == "0000":
        return None
    for last in ("hour", "day", "month", "year"):
        if match[last] is not None and (written := _written(match, last)) is not None:
            return written
    return None


def local_time(moment: str | None) -> str | None:
    """Return the time of a `moment`, which is midnight if only the day is known; None if less is known."""
    if moment is None or len(moment) < len("2024-05-06"):
        return None
    return moment if "T" in moment else f"{moment}T00:00:00"


def _written(match: re.Match[str], last: str) -> str | None:
    """Return the date up to a part of it; None if the part can't be, such as a month 00."""
    clock = [match[name] or "0" for name in ("hour", "minute", "second")] if last == "hour" else []
    month = match["month"] if last != "year" else "1"
    day = match["day"] if last in ("hour", "day") else "1"
    exact = dates.local_time(match["year"], month, day, *clock)
    if exact is None:
        return None
    if last != "hour":
        return exact.date().isoformat()[: {"year": 4, "month": 7, "day": 10}[last]]
    fraction = f".{match['fraction'][:6]}" if match["fraction"] and int(match["fraction"]) else ""
    return exact.isoformat() + fraction + dates.utc_offset(match["offset"] or "")


def _distinct(texts: Iterable[str], *, limit: int, count: int) -> tuple[str, ...]:
    kept: dict[str, None] = {}
    for text in islice(texts, 4 * count):
        if (clean := line(text, limit)) is not None:
            kept[clean] = None
        if len(kept) == count:
            break
    return tuple(kept)
