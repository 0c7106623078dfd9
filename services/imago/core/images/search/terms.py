"""The terms of search: which ones an image is found by, and which ones a query looks for.

Terms are folded words. Chinese, Japanese, Korean, Thai and other scripts don't write a space between all words, so
every position of a text in them is a separate term: the character there and the two after it. A query of one or two
characters is then a prefix of a term, and a longer one is a set of whole terms.

Articles, prepositions and the like of a query are ignored, and a noun is found in its singular and its plural.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imago.core.images.search.text_folding import fold
from imago.core.images.search.word_forms import number_forms, without_stop_words

MAX_DOCUMENT = 200_000
"""The number of an image's characters that are searched."""

# The maximum size of the texts of a PostgreSQL tsvector is 1 MB.
_MAX_TERMS_BYTES = 1_000_000
# A lexeme of PostgreSQL has at most 2046 bytes.
_MAX_WORD = 255
_MAX_QUERY = 1000
_MAX_QUERY_TERMS = 64

_GRAM = 3

# Han, kana and Bopomofo.
_EAST_ASIAN = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
# Hangul; Yi; Thai, Lao, Tibetan; Myanmar; Khmer; Tai Le, New Tai Lue, Tai Tham; Balinese; Javanese, Cham, Tai Viet.
_UNSPACED = (
    _EAST_ASIAN + "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff\ua000-\ua4cf\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\uaadf"
)
_PIECES = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
# OCR engines put spaces between Chinese and Japanese characters, and lines break inside words.
_GAPS = re.compile(rf"(?<=[{_EAST_ASIAN}])\s+(?=[{_EAST_ASIAN}])")
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")


@dataclass(frozen=True)
class SearchTerm:
    """A term of a query. An image has it by one of its `forms` or, with `prefix`, by a term that begins with `text`."""

    text: str
    prefix: bool = False
    forms: tuple[str, ...] = ()
    """The other forms of the word: its plural, its singular."""


def document_terms(text: str) -> str:
    """Return the terms that an image with this text is found by, each once, separated by spaces."""
    folded = fold(_GAPS.sub("", text[:MAX_DOCUMENT]))[:MAX_DOCUMENT]
    return " ".join(_within(dict.fromkeys(_document_terms(folded)), limit=_MAX_TERMS_BYTES))


def query_terms(text: str, *, prefixes: bool = True) -> tuple[SearchTerm, ...]:
    """Return the terms of a query; an image matches if it has all of them.

    With `prefixes`, the last word may be the beginning of one of the image's words.
    """
    pieces = [piece for word in fold(without_stop_words(text[:_MAX_QUERY])).split() for piece in _PIECES.findall(word)]
    terms = dict.fromkeys(
        term
        for number, piece in enumerate(pieces, 1)
        for term in _query_terms(piece, prefix=prefixes and number == len(pieces))
    )
    return tuple(terms)[:_MAX_QUERY_TERMS]


def _document_terms(folded: str) -> Iterator[str]:
    for word in folded.split():
        for piece in _PIECES.findall(word):
            if _UNSPACED_START.match(piece):
                yield from (piece[start : start + _GRAM] for start in range(len(piece)))
            else:
                yield piece[:_MAX_WORD]


def _query_terms(piece: str, *, prefix: bool) -> Iterator[SearchTerm]:
    if not _UNSPACED_START.match(piece):
        yield SearchTerm(piece[:_MAX_WORD], prefix, number_forms(piece))
    elif len(piece) < _GRAM:
        yield SearchTerm(piece, prefix=True)
    else:
        yield from (SearchTerm(piece[start : start + _GRAM]) for start in range(len(piece) - _GRAM + 1))


def _within(terms: Iterable[str], *, limit: int) -> Iterator[str]:
    size = 0
    for term in terms:
        size += len(term.encode())
        if size > limit:
            return
        yield term
