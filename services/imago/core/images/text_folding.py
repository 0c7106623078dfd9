"""Words as they are searched: folded the same way in documents and in queries, so that the two agree."""

import unicodedata

# A PostgreSQL tsvector holds one megabyte; this many folded characters stay below it in any script.
MAX_DOCUMENT = 200_000
MAX_QUERY_WORDS = 16


def fold(text: str) -> str:
    """Return lower-case words without accents, separated by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(
        char if char.isalnum() else " " for char in decomposed if not unicodedata.category(char).startswith("M")
    )
    return " ".join(kept.split())


def folded_document(text: str) -> str:
    """Return the text as it is indexed."""
    return fold(text[:MAX_DOCUMENT])[:MAX_DOCUMENT]


def query_words(text: str) -> tuple[str, ...]:
    """Return the folded words of a query; an image must have all of them, the last one as a beginning."""
    return tuple(fold(text[:1000]).split()[:MAX_QUERY_WORDS])
