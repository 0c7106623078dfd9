"""The language of a text is detected by its stop words."""

import pytest

from imago.core.text.languages import detect_language

HARBOUR = {
    "en": "The old harbour wakes before sunrise, and the fishermen come home with their nets.",
    "fr": "Le vieux port s'éveille avant l'aube et les pêcheurs rentrent chez eux avec leurs filets.",
    "de": "Der alte Hafen erwacht vor der Dämmerung, und die Fischer kommen mit ihren Netzen nach Hause.",
    "es": "El viejo puerto se despierta antes del amanecer y los pescadores vuelven a casa con sus redes.",
    "it": "Il vecchio porto si sveglia prima dell'alba e i pescatori tornano a casa con le loro reti.",
    "pt": "O velho porto acorda antes do amanhecer e os pescadores voltam para casa com as suas redes.",
    "nl": "De oude haven wordt wakker voor de dageraad en de vissers komen met hun netten naar huis.",
}


@pytest.mark.parametrize(("language", "text"), HARBOUR.items())
def test_a_sentence_has_its_language_whatever_languages_are_expected(language: str, text: str) -> None:
    assert detect_language(text) == language
    assert detect_language(text, expected=("fra", "eng")) == language


@pytest.mark.parametrize(
    "text",
    [
        "Стара гавань прокидається до світанку, і рибалки повертаються додому з сітками.",
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor",
        "short",
        "",
    ],
)
def test_a_text_in_another_language_or_of_few_words_has_no_language(text: str) -> None:
    assert detect_language(text) is None
    assert detect_language(text, expected=("fra", "eng")) is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Sortie de secours", "fr"),
        ("Ouvert du lundi au vendredi", "fr"),
        ("Merci de votre visite", "fr"),
        ("No parking any time", "en"),
        ("DO NOT ENTER", "en"),
        ("Thank you for shopping with us", "en"),
        ("BOULANGERIE", None),
        ("A 123 XY 45 Z", None),
    ],
)
def test_a_short_sign_has_a_language_only_if_few_languages_are_expected(text: str, language: str | None) -> None:
    assert detect_language(text, expected=("fra", "eng")) == language
    assert detect_language(text) is None


def test_expected_languages_without_a_word_list_are_ignored() -> None:
    assert detect_language(HARBOUR["en"], expected=("rus",)) == "en"
