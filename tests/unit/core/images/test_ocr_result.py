"""When words are a text, and which reading is the better one."""

from imago.core.images.ocr_result import Word, choose, is_text, joined, mean_confidence, reading_of
from imago.core.images.results import OcrReading


def words(*pairs: tuple[str, float]) -> list[Word]:
    return [Word(text, confidence) for text, confidence in pairs]


def test_a_texture_is_no_text() -> None:
    assert not is_text(words(("~", 0.3), ("il", 0.9), ("|i", 0.4), ("ee", 0.6)))
    assert not is_text([])
    assert not is_text(words(("xv", 0.95)))
    assert not is_text(
        words(("fence", 0.75)),
    ), "a lone word must be surer than one among others"


def test_a_sign_is_text() -> None:
    assert is_text(words(("BOULANGERIE", 0.93)))
    assert is_text(words(("No", 0.9), ("entry", 0.8), ("12", 0.9)))


def test_many_guesses_outweigh_a_few_sure_words() -> None:
    assert not is_text(words(("the", 0.9), ("cat", 0.9), ("sat", 0.9), ("xkqwzvbnmlkjhgfdsapoiuytrewq", 0.2)))


def test_without_text_the_confidence_still_tells_of_what_was_there() -> None:
    reading = reading_of(words(("~~", 0.3), ("il", 0.5)), engine="e")
    assert (reading.has_text, reading.text, reading.language) == (False, "", None)
    assert 0 < reading.confidence < 0.5


def test_long_words_weigh_more() -> None:
    assert mean_confidence(words(("abcdefghi", 1.0), ("a", 0.0))) == 0.9
    assert mean_confidence([]) == 0.0


def test_lines_and_paragraphs_are_kept() -> None:
    text = joined([Word("a", 1, True, True), Word("b", 1), Word("c", 1, True), Word("d\0", 1, True, True)])
    assert text == "a b\nc\n\nd"


def test_the_reading_with_more_likely_letters_is_chosen_and_all_are_kept() -> None:
    poor = OcrReading(True, "ab", None, 0.9, "one")
    rich = OcrReading(True, "abcdefgh", None, 0.6, "two")
    none = OcrReading(False, "", None, 0.99, "three")
    result = choose([poor, rich, none])
    assert (result.chosen.engine, len(result.readings)) == ("two", 3)
    assert choose([none, poor]).chosen.engine == "one"
    assert choose([none]).chosen.engine == "three"
