"""Languages as people write them: codes of ISO 639, tags such as `fr-CA`, and names such as `French` or `français`.

`language_names.txt` has the codes and names (`devtools/language_table.py`). It takes 15 ms and 0.7 MB at first use,
where Babel's locales of the same names take 10 MB and more.
"""

import importlib.resources
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

EXAMPLES = "fr, fra, fr-CA, French or français"
OCR_EXAMPLES = "fra, fr, French or eng+fra"

# A language, a script, a region and variants (BCP 47), also as locales write them: `fr_CA.UTF-8`, `sr_RS@latin`.
_TAG = re.compile(
    r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}|[0-9]{3}))?(?:[-_](?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
    r"(?:\.[A-Za-z0-9-]+)?(?:@([a-z]+))?"
)
_QUALIFIED = re.compile(r"([^()]+?) *\(([^()]*)\)")
_SEPARATORS = re.compile(r"[+,;/]")
_MAX_LENGTH = 64

# The names of scripts that a language's name may be qualified by, folded.
_SCRIPTS = {
    "Hant": ("traditional", "traditionnel", "traditionell", "tradicional", "tradizionale", "繁體", "繁体"),
    "Hans": ("simplified", "simplifie", "vereinfacht", "simplificado", "semplificato", "简体"),
    "Latn": ("latin", "latn", "lateinisch", "latino"),
    "Cyrl": ("cyrillic", "cyrillique", "cyrl", "kyrillisch", "cirilico", "cirillico"),
}
_TRADITIONAL_REGIONS = frozenset({"TW", "HK", "MO"})


@dataclass(frozen=True)
class Language:
    """A language by its ISO 639-1 code, and the script if one was named (ISO 15924)."""

    code: str
    script: str | None = None


# Tesseract names a language by its code of ISO 639-2 (T), with these exceptions.
_TESSERACT_NAMES = {"nb": "nor", "nn": "nor", "no": "nor", "zh": "chi_sim", "ku": "kmr", "tl": "fil"}
_TESSERACT_SCRIPTS = {
    Language("zh", "Hant"): "chi_tra",
    Language("sr", "Latn"): "srp_latn",
    Language("az", "Cyrl"): "aze_cyrl",
    Language("uz", "Cyrl"): "uzb_cyrl",
}

# The trained data of the Tesseract project, versions 4 and 5.
_TESSERACT_DATA = """
    afr amh ara asm aze aze_cyrl bel ben bod bos bre bul cat ceb ces chi_sim chi_sim_vert chi_tra chi_tra_vert chr
    cos cym dan dan_frak deu deu_frak deu_latf div dzo ell eng enm epo est eus fao fas fil fin fra frk frm fry gla
    gle glg grc guj hat heb hin hrv hun hye iku ind isl ita ita_old jav jpn jpn_vert kan kat kat_old kaz khm kir kmr
    kor kor_vert kur kur_ara lao lat lav lit ltz mal mar mkd mlt mon mri msa mya nep nld nor oci ori pan pol por pus
    que ron rus san sin slk slk_frak slv snd spa spa_old sqi srp srp_latn sun swa swe syr tam tat tel tgk tgl tha
    tir ton tur uig ukr urd uzb uzb_cyrl vie yid yor
"""
_TESSERACT = frozenset(_TESSERACT_DATA.split())


class UnknownLanguage(ValueError):
    """A language that isn't known; the text gives examples."""


@dataclass(frozen=True)
class _Row:
    english: str
    codes: tuple[str, ...]
    names: tuple[str, ...]


def resolve_language(text: str) -> str:
    """Return the ISO 639-1 code of a language; raise UnknownLanguage."""
    language = find_language(text)
    if language is None:
        raise UnknownLanguage(f"Unknown language; write for example {EXAMPLES}.")
    return language.code


@lru_cache(maxsize=1024)
def find_language(text: str) -> Language | None:
    """Return the language that a text names, or None."""
    text = unicodedata.normalize("NFKC", text).strip()
    if not text or len(text) > _MAX_LENGTH:
        return None
    tag = _TAG.fullmatch(text)
    if tag and (code := _by_code().get(tag[1].lower())):
        return Language(code, _script_of_tag(tag))
    if code := _by_name().get(_fold(text)):
        return Language(code, _script_named(text))
    qualified = _QUALIFIED.fullmatch(text)
    if qualified and (code := _by_name().get(_fold(qualified[1])) or _by_code().get(qualified[1].lower())):
        return Language(code, _script_named(qualified[2]))
    return None


def english_name(code: str) -> str | None:
    """Return the English name of an ISO 639-1 code."""
    row = _rows().get(code)
    return None if row is None else row.english


def resolve_ocr_languages(texts: Iterable[str], *, installed: Collection[str] = ()) -> tuple[str, ...]:
    """Return Tesseract's names of languages, without duplicates; an item may have several, as `eng+fra`.

    A name in `installed` is taken as it is. Raises UnknownLanguage.
    """
    names = [part.strip() for text in texts for part in _SEPARATORS.split(text)]
    return tuple(dict.fromkeys(_ocr_language(name, installed) for name in names if name))


def _ocr_language(text: str, installed: Collection[str]) -> str:
    if text in installed:
        return text
    if text.lower() in _TESSERACT:
        return text.lower()
    language = find_language(text)
    names = () if language is None else _tesseract_names(language)
    for known in (installed, _TESSERACT):
        for name in names:
            if name in known:
                return name
    raise UnknownLanguage(f"Tesseract has no language {_quoted(text)}; write for example {OCR_EXAMPLES}.")


def _tesseract_names(language: Language) -> tuple[str, ...]:
    of_script, exception = _TESSERACT_SCRIPTS.get(language), _TESSERACT_NAMES.get(language.code)
    return tuple(name for name in (of_script, exception, *_rows()[language.code].codes) if name)


def _script_of_tag(tag: re.Match[str]) -> str | None:
    if tag[2]:
        return tag[2].title()
    if (tag[3] or "").upper() in _TRADITIONAL_REGIONS:
        return "Hant"
    return _script_named(tag[4] or "")


def _script_named(text: str) -> str | None:
    folded = _fold(text)
    return next((script for script, names in _SCRIPTS.items() if any(name in folded for name in names)), None)


def _fold(text: str) -> str:
    """Return a name without case and accents, and with single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(char for char in decomposed if unicodedata.category(char)[0] != "M")
    return " ".join(letters.split())


def _quoted(text: str) -> str:
    shown = "".join(char for char in text[:_MAX_LENGTH] if char.isprintable())
    return f"`{shown}`"


@lru_cache(maxsize=1)
def _rows() -> Mapping[str, _Row]:
    table = importlib.resources.files("imago.core.text").joinpath("language_names.txt").read_text("utf-8")
    lines = [line.split("|") for line in table.splitlines()]
    return {code: _Row(english, _split(codes), _split(names)) for code, english, codes, names in lines}


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(";"))


@lru_cache(maxsize=1)
def _by_code() -> Mapping[str, str]:
    return {other: code for code, row in _rows().items() for other in (code, *row.codes)}


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, str]:
    # A name may mean another language elsewhere; the English one counts.
    found = {_fold(name): code for code, row in _rows().items() for name in row.names}
    return found | {_fold(row.english): code for code, row in _rows().items()}
