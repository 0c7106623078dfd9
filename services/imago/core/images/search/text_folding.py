"""Text folding: words in lower case without accents, the same for documents and for queries."""

import unicodedata
from functools import lru_cache

# Letters with no decomposition that people replace by these (Unicode CLDR, transform Latin-ASCII); letters "with" a
# stroke, hook or the like are found by their names. The last ones are variants of one Arabic or Persian letter.
_REPLACED = {
    "æ": "ae",
    "œ": "oe",
    "ß": "ss",
    "ð": "d",
    "þ": "th",
    "ı": "i",
    "ȷ": "j",
    "ŋ": "n",
    "ĸ": "q",
    "ə": "e",
    "ƿ": "w",
    "ǝ": "e",
    "ɑ": "a",
    "ɛ": "e",
    "ɣ": "g",
    "ɩ": "i",
    "ɔ": "o",
    "ʊ": "u",
    "ʒ": "z",
    "ʻ": "",
    "ʼ": "",
    "\u0640": "",
    "\u0643": "\u06a9",
    "\u0649": "\u06cc",
    "\u064a": "\u06cc",
}
# Marks with these names are accents, vowel points or variants. The other marks are letters: vowels and tones of Indic
# scripts and Thai. A mark of kana tells ga from ka.
_ACCENTS = ("COMBINING ", "HEBREW ", "ARABIC ", "SYRIAC ", "VARIATION SELECTOR-", "MONGOLIAN FREE VARIATION")
_KANA_MARKS = "\u3099\u309a"
# The zero-width non-joiner separates the parts of a Persian word, as a space does.
_SEPARATING_FORMAT = "\u200c"


def fold(text: str) -> str:
    """Return the text's words in lower case without accents, separated by single spaces."""
    # Some compatibility characters decompose to capitals.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return " ".join(unicodedata.normalize("NFC", folded.translate(_TABLE)).split())


class _Table:
    """The replacements of characters by code point, as `str.translate` looks them up."""

    def __getitem__(self, code: int) -> str:
        return _folded(code)


_TABLE = _Table()


@lru_cache(maxsize=4096)
def _folded(code: int) -> str:
    char = chr(code)
    if char in _REPLACED:
        return _REPLACED[char]
    if char.isalnum():
        return _without_stroke(char)
    category = unicodedata.category(char)
    if category[0] == "M":
        accent = char not in _KANA_MARKS and unicodedata.name(char, "").startswith(_ACCENTS)
        return "" if accent else char
    if category == "Cf" and char not in _SEPARATING_FORMAT:
        return ""
    return " "


def _without_stroke(char: str) -> str:
    """Return the plain letter of a Latin or Cyrillic one such as LATIN SMALL LETTER L WITH STROKE."""
    name = unicodedata.name(char, "")
    if not name.startswith(("LATIN ", "CYRILLIC ")):
        return char
    plain = name.partition(" WITH ")[0].replace("LATIN LETTER SMALL CAPITAL ", "LATIN SMALL LETTER ")
    if plain == name:
        return char
    try:
        letter = unicodedata.lookup(plain)
    except KeyError:
        return char
    return fold(letter)
