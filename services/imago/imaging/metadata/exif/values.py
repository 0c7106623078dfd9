"""Values of EXIF tags as texts and numbers, whatever type a writer chose for them."""

import math
import re
import unicodedata
from typing import Any

from imago.core.text.cleaning import clean_text

MAX_TEXT = 256

# The bytes 0x80 to 0x9F are control characters in Latin-1. In Shift-JIS most of them begin a character.
_JAPANESE = re.compile(rb"[\x81-\x9f]")
_NUMBER = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?)(?:/([0-9]{1,20}))?")


def text(value: Any) -> str | None:
    """Return a text in NFC without control characters, at most `MAX_TEXT` characters; None if nothing is left."""
    raw = raw_bytes(value)
    if raw is None:
        return None
    return clean_text(decoded(raw.split(b"\0", 1)[0]), limit=MAX_TEXT, lines=False) or None


def raw_bytes(value: Any) -> bytes | None:
    """Return the bytes of a text, which some writers store as a list of BYTE; None for other values."""
    if isinstance(value, tuple) and all(isinstance(part, int) and 0 <= part < 256 for part in value):
        return bytes(value)
    return value if isinstance(value, bytes) else None


def decoded(raw: bytes) -> str:
    """Decode a text. EXIF specifies ASCII, and UTF-8 since version 3; cameras also wrote Shift-JIS and Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # A text cut at the end of its field ends within a character.
        if error.reason == "unexpected end of data" and not raw[: error.start].isascii():
            return raw[: error.start].decode("utf-8")
    for encoding in ("cp932",) if _JAPANESE.search(raw) else ():
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            pass
    return raw.decode("cp1252", errors="replace").replace("\ufffd", "")


def ascii_text(value: Any) -> str:
    """Return a text for parsing: digits of every script as 0-9, and full-width characters as ASCII; '' if none.

    Phones write dates and numbers in the digits of their language. A NUL counts as a space, as between the date and
    the time of some cameras.
    """
    raw = raw_bytes(value) or b""
    normal = unicodedata.normalize("NFKC", decoded(raw[:MAX_TEXT].replace(b"\0", b" ")))
    return "".join(map(_ascii_character, normal)).replace("\u2212", "-").strip()


def _ascii_character(character: str) -> str:
    number = unicodedata.decimal(character, None)
    if number is None:
        # Marks of writing direction surround the numbers of some languages.
        return "" if unicodedata.category(character) == "Cf" else character
    return str(number)


def numbers(value: Any) -> list[float]:
    """Return the finite numbers of a value of any type; a rational with a zero denominator is left out."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return [value[0] / value[1]] if value[1] else []
    if isinstance(value, tuple):
        return [number for part in value for number in numbers(part)]
    if isinstance(value, (int, float)) and math.isfinite(value):
        return [float(value)]
    if isinstance(value, bytes):
        return _written_number(ascii_text(value).replace(",", "."))
    return []


def _written_number(written: str) -> list[float]:
    match = _NUMBER.search(written)
    denominator = int(match[2] or 1) if match else 0
    return [float(match[1]) / denominator] if match and denominator else []


def positive(value: Any, *, limit: float = 1e9) -> float | None:
    """Return the first number of a value if it is above zero and below the limit."""
    found = numbers(value)
    return found[0] if found and 0 < found[0] < limit else None
