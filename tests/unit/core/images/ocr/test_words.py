"""The stored words of a reading are compact and bounded."""

import json

from imago.core.images.ocr.result import RecognizedWord
from imago.core.images.ocr.words import MAX_BYTES, MAX_WORDS, PageWords, encode_words


def word(text: str, *, confidence: float = 0.934) -> RecognizedWord:
    return RecognizedWord(text, confidence, box=(10.4, 20.6, 60.2, 41.0))


def test_a_word_has_its_box_and_its_confidence_in_percent() -> None:
    stored = json.loads(encode_words("e", [PageWords(640, 480, (word("Été"),))]))
    assert stored == {"engine": "e", "pages": [[640, 480, [["Été", 10, 21, 50, 20, 93]]]], "truncated": False}


def test_boxes_end_at_the_picture() -> None:
    outside = RecognizedWord("a", 1, box=(-5, -1, 700, 500))
    assert json.loads(encode_words("e", [PageWords(640, 480, (outside,))]))["pages"][0][2] == [
        ["a", 0, 0, 640, 480, 100]
    ]


def test_words_beyond_the_number_are_left_out() -> None:
    stored = json.loads(encode_words("e", [PageWords(640, 480, (word("a"),) * (MAX_WORDS + 1))]))
    assert (len(stored["pages"][0][2]), stored["truncated"]) == (MAX_WORDS, True)


def test_words_beyond_the_bytes_are_left_out() -> None:
    long = encode_words("e", [PageWords(640, 480, (word("é" * 1000),) * 400)])
    assert len(long.encode()) < MAX_BYTES + 200
    assert json.loads(long)["truncated"]


def test_control_characters_and_words_without_a_box_are_left_out() -> None:
    stored = json.loads(encode_words("e", [PageWords(9, 9, (word("a\0b"), word("\0"), RecognizedWord("c", 1.0)))]))
    assert [row[0] for row in stored["pages"][0][2]] == ["ab"]
