"""Untrusted texts are cleaned and shortened."""

import time

import pytest

from imago.core.text.cleaning import clean_text, cut


def test_hidden_characters_are_removed_and_written_ones_kept() -> None:
    assert clean_text("a\u202eb\u200bc\x07\td 👨‍👩‍👧 می‌خواهم", limit=100) == "abc d 👨‍👩‍👧 می‌خواهم"


def test_line_breaks_are_kept_or_replaced() -> None:
    assert clean_text("a\r\nb\u2028c\n\n\n\nd", limit=100) == "a\nb\nc\n\nd"
    assert clean_text("a\r\nb\u2028c\n\n\n\nd", limit=100, lines=False) == "a b c d"


@pytest.mark.parametrize("length", [1, 10, 5000])
def test_a_text_is_cut_between_letters(length: int) -> None:
    text = "x" * length + "👨‍👩‍👧" * 100
    for limit in range(length, length + 11):
        assert cut(text, limit) in (text[:length], text[: length + 5], text[: length + 10])
        assert limit - len(cut(text, limit)) < 5


def test_a_text_that_fits_is_not_changed() -> None:
    assert cut("e\u0301", 2) == "e\u0301"


def test_a_letter_longer_than_the_limit_is_cut() -> None:
    assert cut("z" + "\u0301" * 10_000, 100) == "z" + "\u0301" * 99


@pytest.mark.parametrize("text", ["\u0301" * 1_000_000, "👨\u200d" * 300_000, "\U0001f3f4\U000e0067" * 300_000])
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    clean_text(text, limit=250_000)
    assert time.process_time() - started < 3
