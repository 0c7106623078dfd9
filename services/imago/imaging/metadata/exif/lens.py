"""The lens."""

import re
from typing import Any

from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.exif.values import positive, text

# What cameras write if they don't know the lens: dashes, zeros, and such words.
_UNKNOWN = re.compile(
    r"[\W_0]*|\W*(?:n\.?/?a\.?|none|null|nil|undefined|unknown.*|(?:no|manual) lens|[0.\s-]+mm\W*(?:f\W*[0.]*)?)\W*",
    re.IGNORECASE,
)


def lens(tables: TagTables) -> str | None:
    """Return the name of the lens, or its specification such as `18-55mm f/3.5-5.6`."""
    named = tables.first(lens_name, Tag.LENS_MODEL, Tag.PHOTOSHOP_LENS)
    return named or tables.first(specified, Tag.LENS_SPECIFICATION, Tag.DNG_LENS)


def lens_name(value: Any) -> str | None:
    """Return a text unless it says that the lens is unknown."""
    name = text(value)
    return None if name is None or _UNKNOWN.fullmatch(name) else name


def specified(value: Any) -> str | None:
    """Return the specification of a lens that a tag has as four rationals."""
    if not isinstance(value, tuple) or len(value) != 4:
        return None
    return specification(*(positive(part, limit=100_000) for part in value))


def specification(
    shortest: float | None, longest: float | None, widest: float | None = None, widest_at_longest: float | None = None
) -> str | None:
    """Return focal lengths in millimetres and f-numbers as lenses are named; None means an unknown part."""
    lengths = _range(shortest, longest)
    if not lengths:
        return None
    # The f-number at one end of a zoom lens is the widest only at the short end.
    apertures = _range(widest, widest_at_longest) if widest or "-" not in lengths else ""
    return f"{lengths}mm f/{apertures}" if apertures else f"{lengths}mm"


def _range(first: float | None, last: float | None) -> str:
    shown = dict.fromkeys(f"{round(part, 2):g}" for part in (first, last) if part and round(part, 2))
    return "-".join(shown)
