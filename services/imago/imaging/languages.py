"""The language of a text, among those that the OCR engine was told to expect."""

from functools import lru_cache

from lingua import Language, LanguageDetector, LanguageDetectorBuilder

# Shorter texts (a sign, a number plate) say nothing about their language.
MIN_LETTERS = 12

# The best language must be this likely; below, none is better than a wrong one.
MIN_CONFIDENCE = 0.7

# Tesseract's names that aren't ISO 639-3.
_ALIASES = {"chi_sim": "zho", "chi_tra": "zho", "deu_frak": "deu", "ell": "ell", "msa": "msa", "nor": "nob"}

# A page in a language that wasn't expected should not be called by the one that was.
_ALWAYS = ("eng", "fra", "deu", "spa", "ita")


def language_of(text: str, expected: tuple[str, ...]) -> str | None:
    """Return the ISO 639-1 code of the text's language, or None where it is too short to tell.

    `expected` are Tesseract's names of the languages that were read with.
    """
    if sum(char.isalpha() for char in text) < MIN_LETTERS:
        return None
    values = _detector(expected).compute_language_confidence_values(text[:2000])
    if not values or values[0].value < MIN_CONFIDENCE:
        return None
    return values[0].language.iso_code_639_1.name.lower()


@lru_cache(maxsize=8)
def _detector(expected: tuple[str, ...]) -> LanguageDetector:
    known = {language.iso_code_639_3.name.lower(): language for language in Language.all()}
    wanted = {known[code] for name in (*expected, *_ALWAYS) if (code := _ALIASES.get(name, name)) in known}
    return LanguageDetectorBuilder.from_languages(*wanted).build()
