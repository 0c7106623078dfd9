"""Tags as they are stored and compared: NFC, lower case, single spaces."""

import unicodedata
from collections.abc import Iterable

MAX_TAG_LENGTH = 64
MAX_TAGS = 64


def normalize_tag(text: str) -> str:
    """Return the tag in the form it is stored in; '' where nothing printable is left."""
    composed = unicodedata.normalize("NFC", text)
    printable = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in composed)
    return unicodedata.normalize("NFC", " ".join(printable.lower().split()))[:MAX_TAG_LENGTH].strip()


def normalize_tags(texts: Iterable[str]) -> tuple[str, ...]:
    """Normalize tags, dropping empty ones and repetitions and keeping their order; at most `MAX_TAGS` of them."""
    tags = dict.fromkeys(tag for tag in map(normalize_tag, texts) if tag)
    return tuple(tags)[:MAX_TAGS]
