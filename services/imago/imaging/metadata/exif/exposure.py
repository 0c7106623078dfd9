"""The exposure: sensitivity, aperture, shutter speed and focal length."""

from collections.abc import Callable
from typing import Any

from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.exif.values import ascii_text, numbers, positive

# Photographic sensitivity is a SHORT. This value says that the number is too large for it (EXIF 3.0, 4.6.6.7).
_FULL = 65535
_HIGHEST_ISO = 10_000_000

# The measures that each SensitivityType says the photographic sensitivity is one of.
_STANDARD, _RECOMMENDED, _SPEED = Tag.STANDARD_OUTPUT_SENSITIVITY, Tag.RECOMMENDED_EXPOSURE_INDEX, Tag.ISO_SPEED
_BY_TYPE = {
    1: (_STANDARD,),
    2: (_RECOMMENDED,),
    3: (_SPEED,),
    4: (_STANDARD, _RECOMMENDED),
    5: (_STANDARD, _SPEED),
    6: (_RECOMMENDED, _SPEED),
    7: (_RECOMMENDED, _STANDARD, _SPEED),
}

# Cameras write exposures shorter than this as a fraction.
_LONGEST_FRACTION = 0.3


def iso(tables: TagTables) -> int | None:
    """Return the sensitivity: 65535 means more, which is in one of the tags for larger numbers."""
    written = tables.first(sensitivity, Tag.SENSITIVITY)
    if written is not None and written < _FULL:
        return written
    kind = tables.first(sensitivity, Tag.SENSITIVITY_TYPE) or 0
    larger = tables.first(sensitivity, *_BY_TYPE.get(kind, ()), _RECOMMENDED, _STANDARD, _SPEED)
    return max(larger or 0, written or 0) or None


def sensitivity(value: Any) -> int | None:
    """Return the first number of a value that can be a sensitivity; two SHORTs look like a rational here."""
    if isinstance(value, bytes):
        digits = ascii_text(value).upper().removeprefix("ISO").strip()
        value = int(digits[:9]) if digits[:9].isdecimal() else None
    for part in value if isinstance(value, tuple) else (value,):
        # A fraction is the value of a rational.
        whole = part[0] // part[1] if isinstance(part, tuple) and len(part) == 2 and part[1] else part
        if isinstance(whole, (int, float)) and 0 < whole < _HIGHEST_ISO:
            return int(whole) or None
    return None


def aperture(tables: TagTables) -> str | None:
    """Return the f-number, such as `f/2.8`."""
    # APEX (EXIF 2.32, annex C): Av = 2 log2(N).
    number = tables.first(positive, Tag.F_NUMBER) or tables.first(
        _from_apex(lambda apex: 2.0 ** (apex / 2), lowest=-2, highest=20), Tag.APERTURE_APEX
    )
    return f"f/{round(number, 1 if number >= 1 else 2):g}" if number and 0.05 <= number < 1000 else None


def shutter_speed(tables: TagTables) -> str | None:
    """Return the exposure time in seconds, such as `1/250` or `2.5s`."""
    # APEX: Tv = -log2(t).
    seconds = tables.first(positive, Tag.EXPOSURE_TIME) or tables.first(
        _from_apex(lambda apex: 2.0**-apex, lowest=-20, highest=30), Tag.SHUTTER_APEX
    )
    if not seconds or seconds > 1e6:
        return None
    if seconds < _LONGEST_FRACTION:
        return f"1/{round(1 / seconds)}"
    return f"{round(seconds, 1):g}s"


def focal_length(tables: TagTables) -> str | None:
    """Return the focal length, such as `50mm`."""
    millimetres = tables.first(lambda value: positive(value, limit=100_000), Tag.FOCAL_LENGTH)
    return f"{round(millimetres, 1):g}mm" if millimetres and millimetres >= 0.05 else None


def _from_apex(convert: Callable[[float], float], *, lowest: float, highest: float) -> Callable[[Any], float | None]:
    def read(value: Any) -> float | None:
        found = numbers(value)
        # Cameras without the value write zero.
        return convert(found[0]) if found and found[0] and lowest < found[0] < highest else None

    return read
