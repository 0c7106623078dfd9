"""Untrusted texts, cleaned for storage and display: normalized, without hidden characters, of limited length."""

import unicodedata

import regex

_BREAKS = regex.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_MANY_BREAKS = regex.compile(r"\n{3,}")
_SPACES = regex.compile(r"[\p{Z}\t]")

# Scripts without joiners. Between their letters a joiner would only make two texts differ that look the same.
_UNJOINED = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Hebrew}\p{Han}\p{Kana}\p{Hira}\p{Hangul}\p{Thai}\p{Zyyy}"

# Format characters that are part of what is written are captured: the tags of a flag such as Scotland's, the joiners
# of emoji and of scripts such as Persian and Bengali, and signs of Arabic and Syriac numbers. Others hide or reverse
# text. The library has newer Unicode data than Python 3.11, to which recent emoji are unassigned.
_HIDDEN = regex.compile(
    r"(\U0001F3F4[\U000E0020-\U000E007E]{1,16}\U000E007F"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})"
    rf"|(?<=[[\p{{L}}\p{{M}}]--[{_UNJOINED}\p{{Zinh}}]]|[\u064b-\u065f\u0670])[\u200c\u200d]"
    r"|\p{Prepended_Concatenation_Mark})"
    r"|\p{C}",
    regex.V1,
)
_CLUSTER = regex.compile(r"\X")

# The end of a long text is found without splitting all of it into what a reader takes for characters.
_WINDOW = 4096


def clean_text(text: str, *, limit: int, lines: bool = True) -> str:
    """Return a text in NFC without hidden characters, at most `limit` characters long.

    Line breaks are kept if `lines` is true, and replaced by spaces otherwise.
    """
    broken = _BREAKS.sub("\n", text[: 4 * limit])
    parts = [_clean_line(line) for line in broken.split("\n")]
    joined = _MANY_BREAKS.sub("\n\n", "\n".join(parts)) if lines else " ".join(" ".join(parts).split())
    return cut(unicodedata.normalize("NFC", joined), limit).strip()


def replace_hidden(text: str, replacement: str) -> str:
    """Replace control, private-use, unassigned and surrogate characters, and format characters that aren't written."""
    if text.isascii() and text.isprintable():
        return text
    return str(_HIDDEN.sub(lambda found: found[1] or replacement, text))


def cut(text: str, limit: int) -> str:
    """Return the first `limit` characters, or a few less, so that no emoji or letter loses a part of it."""
    if len(text) <= limit:
        return text
    begin = max(0, limit - _WINDOW)
    last = [cluster.start() for cluster in _CLUSTER.finditer(text, begin, limit + 1)][-1]
    return text[:last] if last > begin else text[:limit]


def _clean_line(line: str) -> str:
    if line.isprintable():
        return line.rstrip()
    return replace_hidden(_SPACES.sub(" ", line), "").rstrip()
