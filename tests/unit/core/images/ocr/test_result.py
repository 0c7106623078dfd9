"""When recognized words count as a text, and which reading is chosen."""

from imago.core.images.ocr.result import (
    RecognizedWord,
    build_reading,
    choose_reading,
    is_text,
    join_words,
    mean_confidence,
)
from imago.core.images.results import OcrReading


def words(*pairs: tuple[str, float]) -> list[RecognizedWord]:
    return [RecognizedWord(text, confidence) for text, confidence in pairs]


def test_a_texture_is_not_text() -> None:
    assert not is_text(words(("~", 0.3), ("il", 0.9), ("|i", 0.4), ("ee", 0.6)))
    assert not is_text([])
    assert not is_text(words(("xv", 0.95)))
    assert not is_text(words(("fence", 0.75))), "a single word needs more confidence than one of several"


def test_a_sign_is_text() -> None:
    assert is_text(words(("BOULANGERIE", 0.93)))
    assert is_text(words(("No", 0.9), ("entry", 0.8), ("12", 0.9)))


def test_many_guesses_outweigh_a_few_confident_words() -> None:
    assert not is_text(words(("the", 0.9), ("cat", 0.9), ("sat", 0.9), ("xkqwzvbnmlkjhgfdsapoiuytrewq", 0.2)))


def test_a_reading_without_text_keeps_the_confidence_of_its_words() -> None:
    reading = build_reading(words(("~~", 0.3), ("il", 0.5)), engine="e")
    assert (reading.has_text, reading.text, reading.language) == (False, "", None)
    assert 0 < reading.confidence < 0.5


def test_a_reading_has_the_language_of_its_text() -> None:
    sign = words(("Sortie", 0.9), ("de", 0.9), ("secours", 0.9))
    assert build_reading(sign, engine="e", expected_languages=("fra", "eng")).language == "fr"


def test_long_words_weigh_more() -> None:
    assert mean_confidence(words(("abcdefghi", 1.0), ("a", 0.0))) == 0.9
    assert mean_confidence([]) == 0.0


def test_lines_and_paragraphs_are_kept() -> None:
    text = join_words(
        [
            RecognizedWord("a", 1, True, True),
            RecognizedWord("b", 1),
            RecognizedWord("c", 1, True),
            RecognizedWord("d\0", 1, True, True),
        ]
    )
    assert text == "a b\nc\n\nd"


def test_the_likeliest_reading_is_chosen_and_all_are_kept() -> None:
    short = OcrReading(True, "ab", None, 0.8, "one")
    long = OcrReading(True, "abcdefgh", None, 0.95, "two")
    empty = OcrReading(False, "", None, 0.99, "three")
    result = choose_reading([short, long, empty])
    assert (result.chosen.engine, len(result.readings)) == ("two", 3)
    assert choose_reading([empty, short]).chosen.engine == "one"
    assert choose_reading([empty]).chosen.engine == "three"


def test_many_unlikely_letters_are_not_better_than_few_likely_ones() -> None:
    noise = OcrReading(True, "x" * 60, None, 0.6, "one")
    sign = OcrReading(True, "STOP", None, 0.99, "two")
    assert choose_reading([noise, sign]).chosen is sign


def test_lines_that_were_left_out_lower_the_confidence() -> None:
    text = words(("Sortie", 0.9), ("de", 0.9), ("secours", 0.9))
    assert build_reading(text, engine="e", unread=0.25).confidence == 0.675
