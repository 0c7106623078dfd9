"""Read EXIF into the camera, the exposure, the time and the place.

The tolerant reader of `imaging.ifd` is the default, and piexif is an option (`EXIF_READER`): piexif drops the last
letter of a text without a final NUL (the date of a Kodak CX7530 is lost), and fails on a whole block if one entry is
broken. Each field is read separately, so that a broken one doesn't affect the others. Invalid bytes never raise.
"""

import io
import math
import re
import unicodedata
from datetime import datetime
from typing import Any, BinaryIO, Literal

import piexif

from imago.core.images.model import ImageFormat
from imago.core.images.results import Camera, ExifResult, Gps
from imago.imaging.header import PARSER_ERRORS, sniff
from imago.imaging.ifd import Directories, NotTiff, Tags
from imago.imaging.metadata_parts import read_metadata

ExifReader = Literal["ifd", "piexif"]

MAX_TEXT = 256

# Tags of EXIF 2.32 (CIPA DC-008), by directory.
_MAKE, _MODEL, _DATE_TIME = 0x010F, 0x0110, 0x0132
_EXPOSURE_TIME, _F_NUMBER, _ISO, _ISO_SPEED = 0x829A, 0x829D, 0x8827, 0x8833
_TAKEN, _DIGITIZED = 0x9003, 0x9004
_OFFSET, _OFFSET_TAKEN, _OFFSET_DIGITIZED = 0x9010, 0x9011, 0x9012
_SUBSEC, _SUBSEC_TAKEN, _SUBSEC_DIGITIZED = 0x9290, 0x9291, 0x9292
_SHUTTER_APEX, _APERTURE_APEX, _FOCAL_LENGTH = 0x9201, 0x9202, 0x920A
_LENS_SPECIFICATION, _LENS_MODEL = 0xA432, 0xA434
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)

_TIME = re.compile(r"(\d{4})[:\-/](\d{2})[:\-/](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_OFFSET_TEXT = re.compile(r"([+-])(\d{2}):?(\d{2})")

# Cameras write exposures shorter than this as a fraction.
_LONGEST_FRACTION = 0.3


def read_exif(stream: BinaryIO, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the EXIF of a file; an empty result if it has none or it is unreadable.

    The stream must be seekable, and only the bytes of the tags are read. This is pure Python, so it may run outside
    the sandbox.
    """
    stream.seek(0)
    if sniff(stream.read(256)) is ImageFormat.TIFF:
        return _result(*_tolerant(stream))
    block = read_metadata(stream).exif
    return parse(block, reader=reader) if block else ExifResult()


def parse(block: bytes, *, reader: ExifReader = "ifd") -> ExifResult:
    """Return the result of an EXIF block, which begins with its byte order (`II` or `MM`)."""
    if reader == "piexif":
        try:
            # piexif trusts counts, and allocates whatever a crafted one requests.
            if Directories(io.BytesIO(block)).plausible():
                loaded = piexif.load(block)
                return _result(loaded["0th"], loaded["Exif"], loaded["GPS"])
        except (NotTiff, *PARSER_ERRORS):
            return _result(*_tolerant(io.BytesIO(block)))
    return _result(*_tolerant(io.BytesIO(block)))


def _tolerant(stream: BinaryIO) -> tuple[Tags, Tags, Tags]:
    try:
        return Directories(stream).read()
    except (NotTiff, *PARSER_ERRORS):
        return {}, {}, {}


def _result(main: Tags, exif: Tags, gps: Tags) -> ExifResult:
    camera = Camera(
        make=_text(main.get(_MAKE)),
        model=_text(main.get(_MODEL)),
        lens=_lens(exif),
        iso=_iso(exif),
        aperture=_aperture(exif),
        shutter_speed=_shutter(exif),
        focal_length=_focal_length(exif),
        taken_at=_taken_at(main, exif),
    )
    return ExifResult(camera, _gps(gps))


def _text(value: Any) -> str | None:
    if not isinstance(value, bytes):
        return None
    raw = value.split(b"\0", 1)[0]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        # EXIF specifies ASCII. A text that isn't UTF-8 either is mostly Latin-1.
        text = raw.decode("latin-1")
    clean = "".join(char for char in text if unicodedata.category(char)[0] != "C")
    return unicodedata.normalize("NFC", clean).strip()[:MAX_TEXT].strip() or None


def _numbers(value: Any) -> list[float]:
    """Return the finite numbers of a value of any type; a rational with a zero denominator is left out."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return [value[0] / value[1]] if value[1] else []
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    if isinstance(value, (int, float)) and math.isfinite(value):
        return [float(value)]
    return []


def _positive(value: Any) -> float | None:
    numbers = _numbers(value)
    return numbers[0] if numbers and 0 < numbers[0] < 1e9 else None


def _iso(exif: Tags) -> int | None:
    for tag in (_ISO, _ISO_SPEED):
        value = exif.get(tag)
        # Two SHORTs have the type of a rational here. The first one is the speed.
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, int) and 0 < first < 10_000_000:
            return first
    return None


def _aperture(exif: Tags) -> str | None:
    number = _positive(exif.get(_F_NUMBER))
    if number is None:
        # APEX (EXIF 2.32, annex C): Av = 2 log2(N).
        apex = _numbers(exif.get(_APERTURE_APEX))
        number = 2 ** (apex[0] / 2) if apex and 0 < apex[0] < 20 else None
    return f"f/{round(number, 1):g}" if number and number < 1000 else None


def _shutter(exif: Tags) -> str | None:
    seconds = _positive(exif.get(_EXPOSURE_TIME))
    if seconds is None:
        # APEX: Tv = -log2(t).
        apex = _numbers(exif.get(_SHUTTER_APEX))
        seconds = 2 ** -apex[0] if apex and -20 < apex[0] < 30 else None
    if not seconds or seconds > 1e6:
        return None
    if seconds < _LONGEST_FRACTION:
        return f"1/{round(1 / seconds)}"
    return f"{round(seconds, 1):g}s"


def _focal_length(exif: Tags) -> str | None:
    millimetres = _positive(exif.get(_FOCAL_LENGTH))
    return f"{round(millimetres, 1):g}mm" if millimetres and millimetres < 100_000 else None


def _lens(exif: Tags) -> str | None:
    model = _text(exif.get(_LENS_MODEL))
    if model:
        return model
    specification = exif.get(_LENS_SPECIFICATION)
    if not isinstance(specification, tuple) or len(specification) != 4:
        return None
    shortest, longest, widest, _ = (_positive(part) for part in specification)
    if not shortest or not longest:
        return None
    focal_length = f"{shortest:g}mm" if shortest == longest else f"{shortest:g}-{longest:g}mm"
    return f"{focal_length} f/{widest:g}" if widest else focal_length


def _taken_at(main: Tags, exif: Tags) -> str | None:
    sources = (
        (exif.get(_TAKEN), exif.get(_SUBSEC_TAKEN), exif.get(_OFFSET_TAKEN)),
        (exif.get(_DIGITIZED), exif.get(_SUBSEC_DIGITIZED), exif.get(_OFFSET_DIGITIZED)),
        (main.get(_DATE_TIME), exif.get(_SUBSEC), exif.get(_OFFSET)),
    )
    for moment, fraction, offset in sources:
        match = _TIME.match(_text(moment) or "")
        if match is None:
            continue
        try:
            local = datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*match.groups()))
        except ValueError:
            # Such as 0000:00:00, if the clock was never set.
            continue
        digits = re.match(r"\d{1,6}", _text(fraction) or "")
        return local.isoformat() + (f".{digits[0]}" if digits and int(digits[0]) else "") + _offset(offset)
    return None


def _offset(value: Any) -> str:
    match = _OFFSET_TEXT.fullmatch(_text(value) or "")
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return ""
    return f"{match[1]}{match[2]}:{match[3]}"


def _gps(gps: Tags) -> Gps:
    latitude = _degrees(gps.get(_LATITUDE), _text(gps.get(_LATITUDE_REF)), signs="NS", limit=90)
    longitude = _degrees(gps.get(_LONGITUDE), _text(gps.get(_LONGITUDE_REF)), signs="EW", limit=180)
    altitude = _altitude(gps)
    # Cameras without a GPS fix write zeros, and 0° N 0° E is in the open sea.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return Gps(altitude=altitude)
    url = (
        f"https://www.openstreetmap.org/?mlat={latitude:.6f}&mlon={longitude:.6f}#map=15/{latitude:.6f}/{longitude:.6f}"
    )
    return Gps(latitude, longitude, altitude, has_gps=True, maps_url=url)


def _degrees(value: Any, reference: str | None, *, signs: str, limit: int) -> float | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    parts = [_numbers(part) for part in value]
    # Minutes and seconds are often 0/0 if the degrees have a fraction.
    if not parts[0] or any(part and part[0] < 0 for part in parts):
        return None
    degrees = parts[0][0] + sum(part[0] / unit for part, unit in zip(parts[1:], (60, 3600), strict=True) if part)
    sign = (reference or signs[0])[0].upper()
    if sign not in signs or degrees > limit:
        return None
    return round(-degrees if sign == signs[1] else degrees, 7)


def _altitude(gps: Tags) -> float | None:
    metres = _numbers(gps.get(_ALTITUDE))
    if not metres or not 0 <= abs(metres[0]) < 100_000:
        return None
    reference = gps.get(_ALTITUDE_REF)
    below = reference in (1, b"\x01", (1,))
    return round(-metres[0] if below else metres[0], 3)
