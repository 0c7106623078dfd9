"""Write `services/imago/core/text/language_names.txt` from CLDR's data in Babel: codes and names of languages.

Run it as `python -m devtools.language_table` after Babel has newer data.
"""

import re
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.core import get_global

TARGET = Path(__file__).parents[1] / "services/imago/core/text/language_names.txt"

# The languages whose speakers' names for all languages are in the table, besides each language's own name.
NAMED_IN = ("en", "fr", "de", "es", "it", "pt", "nl")

# Names that people use and CLDR lacks, and codes of ISO 639-3 that are part of a language of ISO 639-1.
MORE_NAMES = {
    "cs": ["Czech Republic"],
    "el": ["Modern Greek"],
    "es": ["Castilian", "Castellano", "castillan"],
    "fa": ["Farsi"],
    "nb": ["Norwegian Bokmal"],
    "no": ["Norwegian"],
    "pa": ["Panjabi"],
    "ps": ["Pushto"],
    "si": ["Sinhalese"],
    "tl": ["Tagalog"],
    "ug": ["Uighur"],
    "zh": ["Mandarin", "mandarin", "普通话", "汉语", "中国语", "Cantonese", "cantonais"],
}
MORE_CODES = {"tl": ["fil"], "zh": ["yue"]}


def main() -> None:
    """Write the table: per line the ISO 639-1 code, its English name, other codes, and other names."""
    english = Locale("en").languages
    codes = sorted(code for code in english if re.fullmatch("[a-z]{2}", code) and get_alias(code) in (None, "fil"))
    lines = []
    for code in codes:
        names = [name for other in NAMED_IN for name in names_in(other, code)]
        names += [*own_names(code), *MORE_NAMES.get(code, [])]
        unique = sorted({name for name in names if name != english[code] and not set(name) & set("|;")})
        lines.append("|".join((code, english[code], ";".join(other_codes(code)), ";".join(unique))))
    TARGET.write_text("\n".join(lines) + "\n")


def get_alias(code: str) -> str | None:
    """Return the code that replaces another one."""
    return get_global("language_aliases").get(code)


def other_codes(code: str) -> list[str]:
    """Return the codes of ISO 639-2, ISO 639-3 and former ones that mean a language."""
    aliases = [alias for alias, target in get_global("language_aliases").items() if target == code]
    return sorted([alias for alias in aliases if re.fullmatch("[a-z]{2,3}", alias)] + MORE_CODES.get(code, []))


def names_in(language: str, code: str) -> list[str]:
    """Return a language's name and those of its variants, such as Canadian French."""
    return [name for key, name in Locale(language).languages.items() if key.split("_")[0] == code]


def own_names(code: str) -> list[str]:
    """Return what a language's speakers call it and its variants."""
    try:
        return names_in(code, code)
    except UnknownLocaleError:
        return []


if __name__ == "__main__":
    main()
