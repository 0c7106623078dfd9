"""Untrusted texts, cleaned for storage and display: normalized, without control characters, of limited length."""

import re
import unicodedata

_BREAKS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_MANY_BREAKS = re.compile(r"\n{3,}")

# Joiners of letters (Persian, Hindi and others) and of emoji; other format characters can hide or reverse text.
_JOINERS = frozenset("\u200c\u200d")


def clean_text(text: str, *, limit: int, lines: bool = True) -> str:
    """Return a text in NFC without control, format or private-use characters, at most `limit` characters long.

    Line breaks are kept if `lines` is true, and replaced by spaces otherwise.
    """
    broken = _BREAKS.sub("\n", text[: 4 * limit])
    parts = [_clean_line(line) for line in broken.split("\n")]
    joined = _MANY_BREAKS.sub("\n\n", "\n".join(parts)) if lines else " ".join(" ".join(parts).split())
    return unicodedata.normalize("NFC", joined)[:limit].strip()


def _clean_line(line: str) -> str:
    if line.isprintable():
        return line.rstrip()
    return "".join(map(_clean_character, line)).rstrip()


def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "Z" or character == "\t":
        return " "
    return character if category[0] != "C" or character in _JOINERS else ""
