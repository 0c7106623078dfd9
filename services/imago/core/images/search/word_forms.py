"""Forms of words in English and French: the other number of a noun, and the words that a query is not about.

Queries are expanded instead of documents, so that the index has only the words that people wrote. Both languages apply
to every word, because neither queries nor texts say which language they are in; a form that no text has finds nothing.
"""

import re
import unicodedata

# A form of fewer letters is more often another word: "as" is no plural of "a".
_MIN_FORM = 3

_LETTERS = re.compile(r"[a-z]+")

# Folded, as search terms are: singular and plural.
_IRREGULAR = (
    *(("man", "men"), ("woman", "women"), ("child", "children"), ("person", "people"), ("foot", "feet")),
    *(("tooth", "teeth"), ("goose", "geese"), ("mouse", "mice"), ("ox", "oxen"), ("leaf", "leaves")),
    *(("knife", "knives"), ("wolf", "wolves"), ("shelf", "shelves"), ("calf", "calves"), ("loaf", "loaves")),
    *(("life", "lives"), ("wife", "wives"), ("scarf", "scarves"), ("half", "halves"), ("thief", "thieves")),
    *(("oeil", "yeux"), ("ciel", "cieux"), ("travail", "travaux"), ("vitrail", "vitraux"), ("monsieur", "messieurs")),
    *(("madame", "mesdames"), ("fireman", "firemen"), ("policeman", "policemen"), ("snowman", "snowmen")),
)
_OTHER = {one: other for pair in _IRREGULAR for one, other in (pair, pair[::-1])}

# Singulars that end like a plural, of which the other word is in many texts.
_NO_PLURALS = frozenset(("bras", "christmas", "lens", "mars", "news", "paris"))

# A plural's end, and the ends of the singulars it may belong to.
_SINGULARS = (
    (re.compile(r"(?<=[a-z]{2})ies$"), ("y", "ie")),
    (re.compile(r"(?<=s|x|z)es$|(?<=ch)es$|(?<=sh)es$"), ("", "e")),
    (re.compile(r"(?<=o)es$"), ("", "e")),
    (re.compile(r"(?<=[^su])s$|(?<=ou)s$|(?<=[^o]u)s$"), ("",)),
    (re.compile(r"(?<=[aeo]u)x$"), ("",)),
    (re.compile(r"aux$"), ("al",)),
)
# A singular's end, and those of its plurals. Words that end in s, x or z don't change in French.
_PLURALS = (
    (re.compile(r"(?<=[^aeou])y$"), ("ies",)),
    (re.compile(r"(?<=s|x|z)$|(?<=ch)$|(?<=sh)$|(?<=o)$"), ("es",)),
    (re.compile(r"(?<=[aeo]u)$"), ("x",)),
    (re.compile(r"al$"), ("aux",)),
    (re.compile(r"(?<=[^sxz])$"), ("s",)),
)

_ENGLISH_STOP_WORDS = (
    *("a", "an", "and", "are", "at", "by", "for", "from", "her", "his", "in", "is", "its", "my", "of", "on", "or"),
    *("our", "some", "that", "the", "their", "these", "this", "those", "to", "was", "were", "with", "your", "into"),
)
_FRENCH_STOP_WORDS = (
    *("à", "au", "aux", "avec", "ce", "ces", "cet", "cette", "dans", "de", "des", "du", "en", "est", "et", "la"),
    *("le", "les", "leur", "leurs", "ma", "mes", "mon", "ou", "où", "par", "pour", "qui", "sa", "ses", "son"),
    *("sont", "sur", "ta", "tes", "un", "une", "chez", "sous", "vers", "notre", "nos", "votre", "vos"),
)
# Words with their accents: "thé" is not "the". The short forms of French articles and pronouns end in an apostrophe.
_STOP_WORDS = re.compile(
    rf"\b(?:{'|'.join(sorted({*_ENGLISH_STOP_WORDS, *_FRENCH_STOP_WORDS}))})\b|\b(?:[cdjlmnst]|qu)['’ʼ]|['’ʼ]s\b"
)


def number_forms(word: str) -> tuple[str, ...]:
    """Return the folded word's singulars and plurals in English and French, without the word itself."""
    if not _LETTERS.fullmatch(word):
        return ()
    if word in _OTHER:
        return (_OTHER[word],)
    singulars = [] if word in _NO_PLURALS else [one for one in _changed(word, _SINGULARS) if len(one) >= _MIN_FORM]
    # "virus" may be a plural by its end, but has one, too.
    bases = [*singulars, word] if word.endswith(("us", "is")) or not singulars else singulars
    plurals = [plural for base in bases for plural in _changed(base, _PLURALS)]
    return tuple(form for form in dict.fromkeys([*singulars, *plurals]) if form != word and len(form) >= _MIN_FORM)


def without_stop_words(query: str) -> str:
    """Return the query without articles, prepositions and the like; the whole query if it has nothing else."""
    text = unicodedata.normalize("NFC", query).casefold()
    kept = _STOP_WORDS.sub(" ", text)
    return kept if any(char.isalnum() for char in kept) else query


def _changed(word: str, ends: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]) -> list[str]:
    return [pattern.sub(end, word, count=1) for pattern, new in ends if pattern.search(word) for end in new]
