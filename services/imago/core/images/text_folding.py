"""Text folding for search, the same for documents and queries."""

import unicodedata

# The maximum size of a PostgreSQL tsvector is 1 MB; this many folded characters stay below it in any script.
MAX_DOCUMENT = 200_000
MAX_QUERY_WORDS = 16


def fold(text: str) -> str:
    """Return the text's words in lower case without accents, separated by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(
        char if char.isalnum() else " " for char in decomposed if not unicodedata.category(char).startswith("M")
    )
    return " ".join(kept.split())


def folded_document(text: str) -> str:
    """Return the folded text of a search document, cut to `MAX_DOCUMENT`."""
    return fold(text[:MAX_DOCUMENT])[:MAX_DOCUMENT]


def query_words(text: str) -> tuple[str, ...]:
    """Return the folded words of a query; an image matches if it has all of them, the last one as a prefix."""
    return tuple(fold(text[:1000]).split()[:MAX_QUERY_WORDS])
