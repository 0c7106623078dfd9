"""Names of countries in English and French, from the Unicode CLDR as Babel has it."""

from functools import lru_cache

from babel import Locale
from babel.core import get_global

from imago.core.images.search.text_folding import fold

LANGUAGES = ("en", "fr")

# What people call countries beside CLDR's names.
_OTHER_NAMES = {
    "Birmanie": "MM",
    "Burma": "MM",
    "Cape Verde": "CV",
    "Czech Republic": "CZ",
    "East Timor": "TL",
    "Grande-Bretagne": "GB",
    "Great Britain": "GB",
    "Holland": "NL",
    "Hollande": "NL",
    "Hong Kong": "HK",
    "Ivory Coast": "CI",
    "Macao": "MO",
    "Macau": "MO",
    "Macedonia": "MK",
    "Macédoine": "MK",
    "Palestine": "PS",
    "République tchèque": "CZ",
    "Swaziland": "SZ",
    "Turkey": "TR",
    "USA": "US",
    "Vatican": "VA",
}
# CLDR's codes of groups of countries, and of no country.
_NO_COUNTRIES = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})


def country_name(code: str, language: str) -> str:
    """Return the name of the country with an ISO 3166-1 code, in English unless the language is French."""
    return _names("fr" if language == "fr" else "en").get(code, code)


def country_names(code: str) -> tuple[str, ...]:
    """Return the names of a country in all languages of search."""
    return tuple(country_name(code, language) for language in LANGUAGES)


def find_country(text: str) -> str | None:
    """Return the code of two letters of a country's name or code of two or three letters; None if there is none."""
    return _codes_by_text().get(fold(text))


def load_countries() -> None:
    """Load the names, which takes up to 0.3 s at first use; called at startup by what must not pause later."""
    _codes_by_text()


@lru_cache
def _names(language: str) -> dict[str, str]:
    # Codes of three digits are continents and the like.
    territories = Locale(language).territories.items()
    return {code: name for code, name in territories if code.isalpha() and code not in _NO_COUNTRIES}


@lru_cache
def _codes_by_text() -> dict[str, str]:
    aliases = get_global("territory_aliases")
    found = {fold(old): codes[0] for old, codes in aliases.items() if len(codes) == 1 and old.isalpha()}
    found |= {fold(name): code for name, code in _OTHER_NAMES.items()}
    for language in LANGUAGES:
        found |= {fold(name): code for code, name in _names(language).items()}
    return found | {fold(code): code for code in _names("en")}
