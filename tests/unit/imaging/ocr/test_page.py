"""Two readings of a page confirm each other, or make it doubtful."""

from imago.core.images.ocr.result import RecognizedWord
from imago.imaging.ocr.page import agreement


def words(text: str) -> list[RecognizedWord]:
    return [RecognizedWord(word, 0.9) for word in text.split()]


def test_equal_readings_agree_without_regard_to_case_and_order() -> None:
    assert agreement(words("TOTAL 12,50 Merci"), words("merci Total 12,50")) == 1


def test_readings_with_other_words_disagree() -> None:
    assert agreement(words("a b c d"), words("a b x y")) == 0.5
    assert agreement(words("STOP"), []) == 0
    assert agreement([], []) == 0
