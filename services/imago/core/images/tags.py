"""Tags, normalized to NFC, lower case and single spaces."""

import unicodedata
from collections.abc import Iterable

from imago.core.text.cleaning import cut, replace_hidden

MAX_TAG_LENGTH = 64
MAX_TAGS = 64


def normalize_tag(text: str) -> str:
    """Return the normalized tag, or '' if nothing printable is left."""
    words = replace_hidden(text, " ").lower().split()
    return cut(unicodedata.normalize("NFC", " ".join(words)), MAX_TAG_LENGTH).strip()


def normalize_tags(texts: Iterable[str]) -> tuple[str, ...]:
    """Return at most `MAX_TAGS` normalized tags in their order, without empty ones and duplicates."""
    tags = dict.fromkeys(tag for tag in map(normalize_tag, texts) if tag)
    return tuple(tags)[:MAX_TAGS]
