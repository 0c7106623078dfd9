"""The place."""

import re
from typing import Any

from imago.core.images.results import Gps
from imago.imaging.containers.ifd import Tags
from imago.imaging.metadata.exif.values import ascii_text, numbers, raw_bytes

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)

# 1 and 3 are below the ellipsoid and below sea level (EXIF 3.0, 4.6.7.1.6).
BELOW = (1, 3)
_HIGHEST = 100_000
# No camera was deeper. Writers without signed rationals wrap a negative altitude around.
_DEEPEST = -12_000

_UNSIGNED_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def place(gps: Tags) -> Gps:
    """Return the place of a GPS directory; an altitude counts without a place."""
    latitude = _degrees(gps.get(_LATITUDE), _reference(gps.get(_LATITUDE_REF)), signs="NS", limit=90)
    longitude = _degrees(gps.get(_LONGITUDE), _reference(gps.get(_LONGITUDE_REF)), signs="EW", limit=180)
    return Gps.at(latitude, longitude, _altitude(gps.get(_ALTITUDE), gps.get(_ALTITUDE_REF)))


def _reference(value: Any) -> str:
    return ascii_text(value)[:1].upper()


def _degrees(value: Any, reference: str, *, signs: str, limit: int) -> float | None:
    written = ascii_text(value).upper() if isinstance(value, bytes) else ""
    if written:
        # A text has the form of XMP, `51,30.5N`, or any other of degrees, minutes and seconds.
        reference = next((end for end in (written[-1], written[0]) if end in "NSEW"), reference)
        parts, negative = _written_parts(written, signs), written.startswith("-")
    else:
        parts, negative = _parts(value)
    if not parts or parts[0] is None or (reference and reference not in signs):
        return None
    degrees = sum((part or 0) / unit for part, unit in zip(parts, (1, 60, 3600), strict=False))
    if degrees > limit:
        return None
    return round(-degrees if negative or reference == signs[1] else degrees, 7) + 0.0


def _parts(value: Any) -> tuple[list[float | None], bool]:
    """Return degrees, minutes and seconds without their sign, as far as they are there, and whether they have one."""
    single = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value)
    values = value if isinstance(value, tuple) and not single else (value,)
    if len(values) > 3:
        return [], False
    # Minutes and seconds are often 0/0 if the degrees have a fraction.
    found = [next(iter(numbers(part)), None) for part in values]
    return [None if part is None else abs(part) for part in found], any(part is not None and part < 0 for part in found)


def _written_parts(written: str, signs: str) -> list[float | None]:
    # A comma separates in XMP's form `51,30.5N` and in `51,30,30`. A single one is a decimal point.
    # In `51,0,30,0,30,5` every other comma is a decimal point.
    if written.count(",") == 5 and "." not in written:
        written = re.sub(r"([0-9]+),([0-9]+)", r"\1.\2", written)
    is_decimal_comma = written.count(",") == 1 and "." not in written and written[-1] not in signs
    plain = written.replace(",", "." if is_decimal_comma else " ")
    found: list[float | None] = [float(part[:20]) for part in _UNSIGNED_NUMBER.findall(plain)]
    return found if len(found) <= 3 else []


def _altitude(value: Any, reference: Any) -> float | None:
    metres = next(iter(numbers(_unwrapped(value))), None)
    return signed_altitude(metres, below=_altitude_reference(reference) in BELOW)


def signed_altitude(metres: float | None, *, below: bool) -> float | None:
    """Return an altitude, negative if the file says that it is `below` zero or has a sign; None if it can't be."""
    if metres is None or abs(metres) >= _HIGHEST:
        return None
    return round(-abs(metres) if below else metres, 3) + 0.0


def _unwrapped(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
        numerator, denominator = value
        if numerator >= 2**31 and denominator > 0 and _DEEPEST <= (numerator - 2**32) / denominator < 0:
            return numerator - 2**32, denominator
    return value


def _altitude_reference(value: Any) -> int | None:
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, int):
        return value
    raw = raw_bytes(value) or b""
    if raw[:1] in (b"\0", b"\1", b"\2", b"\3"):
        return raw[0]
    written = ascii_text(raw)[:1]
    return int(written) if written.isdecimal() else None
