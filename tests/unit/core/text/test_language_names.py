"""Languages are recognized as people write them."""

import re

import pytest
from babel import Locale

from devtools import language_table
from imago.core.text.language_names import (
    UnknownLanguage,
    english_name,
    resolve_language,
    resolve_ocr_languages,
)

# The two-letter codes of ISO 639-1.
ISO_639_1 = [row.split("|")[0] for row in language_table.TARGET.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "fr") for text in ("fr", "FR", "fra", "fre", "fr-FR", "fr_CA", "fr_CA.UTF-8", "fr-Latn-CA", "FR-fr")),
        *((text, "fr") for text in ("French", "french", " FRENCH ", "français", "Français", "francais", "Französisch")),
        *(
            (text, "fr")
            for text in ("Français (Canada)", "français canadien", "Canadian French", "fr (Canada)", "francés")
        ),
        *((text, "en") for text in ("English", "en-GB", "English (US)", "British English", "anglais", "eng", "inglês")),
        *((text, "de") for text in ("Deutsch", "ger", "deu", "de-CH-1996", "allemand", "Swiss High German")),
        *(
            (text, "zh")
            for text in ("中文", "zh-Hant-TW", "cmn", "chi", "Chinese (Traditional)", "chinois", "Mandarin")
        ),
        *((text, "es") for text in ("español", "Castilian", "es-419", "spa", "Spanisch")),
        ("日本語", "ja"),
        ("한국어", "ko"),
        ("العربية", "ar"),
        ("हिन्दी", "hi"),
        ("tiếng Việt", "vi"),
        ("Ελληνικά", "el"),
        ("Farsi", "fa"),
        ("iw", "he"),
        ("fil", "tl"),
        ("nb-NO", "nb"),
        ("norsk", "no"),
        ("sr_RS@latin", "sr"),
        ("ｆｒ", "fr"),
    ],
)
def test_a_language_is_recognized(text: str, code: str) -> None:
    assert resolve_language(text) == code


def test_every_language_is_recognized_by_its_codes_and_names() -> None:
    for code in ISO_639_1:
        names = {Locale(other).languages[code] for other in ("en", "fr", "de") if code in Locale(other).languages}
        for text in (code, code.upper(), f"{code}-ZZ", english_name(code), *language_table.other_codes(code), *names):
            # As a code it is Yiddish.
            assert text == "Yi" or resolve_language(text or "") == code, (text, code)


@pytest.mark.parametrize(
    "text",
    ["", " ", "xx", "klingon", "tlh", "i-klingon", "fr-", "-fr", "fr foo", "en,fr", "f", "1", "C", "x" * 999, "\0"],
)
def test_an_unknown_language_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UnknownLanguage, match="write for example fr, fra, fr-CA, French or français"):
        resolve_language(text)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["fra"], ("fra",)),
        (["FRA", "fr", "French", "français"], ("fra",)),
        (["eng+fra"], ("eng", "fra")),
        (["French, English", "German;Italian"], ("fra", "eng", "deu", "ita")),
        (["chi_sim_vert", "deu_latf", "grc"], ("chi_sim_vert", "deu_latf", "grc")),
        (["zh", "zh-TW"], ("chi_sim", "chi_tra")),
        (["Traditional Chinese", "Chinese (Simplified)", "zh-Hans"], ("chi_tra", "chi_sim")),
        (["nb", "nn", "Norwegian"], ("nor",)),
        (["sr", "sr-Latn"], ("srp", "srp_latn")),
        (["az-Cyrl", "Uzbek (Cyrillic)"], ("aze_cyrl", "uzb_cyrl")),
        (["Tagalog", "Kurdish"], ("fil", "kmr")),
        ([], ()),
    ],
)
def test_ocr_languages_become_names_of_tesseract(texts: list[str], names: tuple[str, ...]) -> None:
    assert resolve_ocr_languages(texts) == names


def test_an_installed_language_is_taken_as_it_is_and_preferred() -> None:
    assert resolve_ocr_languages(["our_own", "ku"], installed=["our_own", "kur"]) == ("our_own", "kur")


@pytest.mark.parametrize("text", ["tlh", "osd", "klingon", "eng+klingon", "Volapük", "x" * 99])
def test_a_language_that_tesseract_has_not_is_named(text: str) -> None:
    with pytest.raises(
        UnknownLanguage, match=r"Tesseract has no language `.+`; write for example fra, fr, French or eng"
    ):
        resolve_ocr_languages([text])


def test_the_table_has_one_line_per_language() -> None:
    assert len(ISO_639_1) == len(set(ISO_639_1)) > 180
    assert all(re.fullmatch("[a-z]{2}", code) for code in ISO_639_1)
