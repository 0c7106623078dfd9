"""Folded texts."""

import unicodedata

import pytest

from imago.core.images.search.text_folding import fold


def test_accents_case_and_punctuation_are_folded() -> None:
    assert fold("L'Été à Noël — Œuvre_1.JPG") == "l ete a noel oeuvre 1 jpg"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("cœur", "coeur"),
        ("Łódź", "lodz"),
        ("Øresund", "oresund"),
        ("ǾRESUND", "oresund"),
        ("Straße STRAẞE", "strasse strasse"),
        ("Æbleskiver ǽ", "aebleskiver ae"),
        ("Đà Nẵng", "da nang"),
        ("Ħamrun", "hamrun"),
        ("ırmak IRMAK İZMİR", "irmak irmak izmir"),
        ("Þórður", "thordur"),
        ("Eŋŋ ŧ ɓaɗa ƴ", "enn t bada y"),
        ("Bakı Gəncə", "baki gence"),
        ("Hawaiʻi", "hawaii"),
        ("ﬁancé ﬀ", "fiance ff"),
        ("ℌello ①②", "hello 12"),
        ("Ёлка йод ґанок", "елка иод ганок"),
        ("Άνθρωπος ΟΔΟΣ", "ανθρωποσ οδοσ"),
        ("שָׁלוֹם", "שלום"),
        ("كِتَابـــ علي", "کتاب علی"),
        ("می\u200cخواهم", "می خواهم"),
        ("co\u00adoperate \u200fa", "cooperate a"),
        ("ガギ がき", "ガギ がき"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("葛\U000e0100城", "葛城"),
        ("한국어", "한국어"),
        ("हिन्दी", "हिन्दी"),
        ("ที่นี่", "ที่นี่"),
    ],
)
def test_letters_are_found_as_people_type_them(text: str, folded: str) -> None:
    assert fold(text) == unicodedata.normalize("NFC", folded)


def test_every_letter_of_european_alphabets_becomes_plain() -> None:
    # Latin-1, Latin Extended-A, and the Vietnamese and other letters of Latin Extended Additional.
    letters = [chr(code) for code in (*range(0xC0, 0x180), *range(0x1EA0, 0x1EFA)) if chr(code).isalpha()]
    assert [letter for letter in letters if not fold(letter).isascii()] == []


def test_folding_a_folded_text_changes_nothing() -> None:
    every = "".join(chr(code) + " " for code in range(0x80, 0x3000) if chr(code).isprintable())
    assert fold(fold(every)) == fold(every)
