"""The time at which a picture was taken."""

import re
from datetime import date, datetime, time
from typing import Any

from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.exif.values import ascii_text

# The year comes first in every form that can't be misread. An hour is missing or blank where only the day is known.
_MOMENT = re.compile(
    r"""
    (?P<year>[0-9]{4}) \s*[:\-/.]\s* (?P<month>[0-9]{1,2}) \s*[:\-/.]\s* (?P<day>[0-9]{1,2})
    (?: [T\s,]+ (?P<hour>[0-9]{1,2}) \s*[:.\-]\s* (?P<minute>[0-9]{1,2})
        (?: \s*[:.\-]\s* (?P<second>[0-9]{1,2}) )?
        (?: [.,] (?P<fraction>[0-9]+) )?
        \s* (?P<half>[AaPp]\.?[Mm]\.?)?
        (?P<rest> (?![0-9]) .* )
    | [T\s:.\-]* )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPACT = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:[T ]?([0-9]{2})([0-9]{2})([0-9]{2})(.*))?", re.DOTALL)
_OFFSET = re.compile(r"\s*(?:UTC|GMT)?\s*([+-])\s*([0-9]{1,2}):?([0-9]{2})?\s*")
_UTC = re.compile(r"\s*(?:Z|UTC|GMT)\s*", re.IGNORECASE)
_BLANK = re.compile(r"[\s:.\-/0T]*")

# The time zones of the world reach from -12 to +14 hours.
_LARGEST_OFFSET = 14

_TAKEN = (Tag.TAKEN, Tag.SUBSECONDS_TAKEN, Tag.OFFSET_TAKEN)
_DIGITIZED = (Tag.DIGITIZED, Tag.SUBSECONDS_DIGITIZED, Tag.OFFSET_DIGITIZED)
_MODIFIED = (Tag.MODIFIED, Tag.SUBSECONDS_MODIFIED, Tag.OFFSET_MODIFIED)


def taken_at(tables: TagTables) -> str | None:
    """Return the local time at which the picture was taken, in ISO 8601, with an offset only if EXIF has one.

    The time of the last change is used only if the file has no other date. A date that can't be read is unknown:
    the next one may be that of a scan or of an edit, years later.
    """
    found = False
    for tag, fraction, offset in (_TAKEN, _DIGITIZED):
        for value in tables.all(tag):
            found = True
            written = ascii_text(value)
            if _BLANK.fullmatch(written):
                # The clock was not set, or the writer did not know.
                continue
            return _moment(written, tables, fraction, offset)
    if found:
        return None
    tag, fraction, offset = _MODIFIED
    return tables.first(lambda value: _moment(ascii_text(value), tables, fraction, offset), tag)


def _moment(written: str, tables: TagTables, fraction: Tag, offset: Tag) -> str | None:
    parsed = parse_moment(written)
    if parsed is None:
        return None
    local, own_fraction, own_offset = parsed
    if own_fraction is None:
        return local.isoformat() + own_offset
    digits = own_fraction or tables.first(_digits, fraction) or ""
    shown = f".{digits[:6]}" if digits[:6].strip("0") else ""
    return local.isoformat() + shown + (own_offset or tables.first(_offset_of, offset) or "")


def parse_moment(written: str) -> tuple[datetime, str | None, str] | None:
    """Return the local time, the digits of its fraction ('' if it has none) and its offset ('' if it has none).

    The fraction is None if only the day is written; the time is then midnight. Returns None if the text is no date.
    """
    match = _MOMENT.fullmatch(written)
    if match is None:
        return _compact(written)
    day = match["year"], match["month"], match["day"]
    if match["hour"] is None:
        local = local_time(*day)
        return (local, None, "") if local else None
    local = local_time(*day, _hour(match["hour"], match["half"]), match["minute"], match["second"] or "0")
    return (local, match["fraction"] or "", utc_offset(match["rest"])) if local else None


def _compact(written: str) -> tuple[datetime, str | None, str] | None:
    match = _COMPACT.fullmatch(written)
    if match is None:
        return None
    *clock, rest = match.groups()[3:]
    local = local_time(*match.groups()[:3], *(part or "0" for part in clock))
    if local is None:
        return None
    return (local, "", utc_offset(rest)) if rest is not None else (local, None, "")


def _hour(hour: str, half: str | None) -> str:
    if half is None or not 1 <= int(hour) <= 12:
        return hour
    return str(int(hour) % 12 + (12 if half[0] in "Pp" else 0))


def local_time(
    year: str, month: str, day: str, hour: str = "0", minute: str = "0", second: str = "0"
) -> datetime | None:
    """Return the time of its written parts; None if there is no such time."""
    # Phones that count the hours from 1 to 24 write 24 just after midnight. A leap second has the number 60.
    clock = 0 if int(hour) == 24 else int(hour), int(minute), 59 if int(second) == 60 else int(second)
    try:
        return datetime.combine(date(int(year), int(month), int(day)), time(*clock))
    except ValueError:
        return None


def _digits(value: Any) -> str | None:
    match = re.match(r"[0-9]+", ascii_text(value))
    return match[0] if match else None


def _offset_of(value: Any) -> str | None:
    return utc_offset(ascii_text(value)) or None


def utc_offset(written: str) -> str:
    """Return an offset from UTC as `+02:00`; '' if the text is none that a time zone has."""
    if _UTC.fullmatch(written):
        return "+00:00"
    match = _OFFSET.fullmatch(written)
    if match is None:
        return ""
    hours, minutes = int(match[2]), int(match[3] or 0)
    if hours * 60 + minutes > _LARGEST_OFFSET * 60 or minutes > 59:
        return ""
    return f"{match[1]}{hours:02}:{minutes:02}"
