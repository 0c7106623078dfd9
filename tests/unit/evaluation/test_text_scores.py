"""Scores of read text."""

from hypothesis import given
from hypothesis import strategies as st

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels
from imago.evaluation.text_scores import (
    Calibration,
    character_error_rate,
    comparable,
    edit_distance,
    score_texts,
    word_f1,
)


def textbook_distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        next_row = [i]
        for j, b in enumerate(right, start=1):
            next_row.append(min(row[j] + 1, next_row[-1] + 1, row[j - 1] + (a != b)))
        row = next_row
    return row[-1]


@given(st.text("abcé ", max_size=80), st.text("abcé ", max_size=80))
def test_the_edit_distance_is_that_of_the_textbook(left, right):
    assert edit_distance(left, right) == textbook_distance(left, right)


def test_the_error_is_a_share_of_the_truth_and_at_most_1():
    assert character_error_rate("abcd", "abxd") == 0.25
    assert character_error_rate("abcd", "") == 1
    assert character_error_rate("ab", "something else entirely") == 1
    assert character_error_rate("", "") == 0
    assert character_error_rate("", "x") == 1


def test_words_count_as_often_as_they_occur_and_in_any_order():
    assert word_f1("a b b", "b a b") == 1
    assert word_f1("a b b c", "b") == 0.4
    assert word_f1("a", "") == 0
    assert word_f1("", "") == 1


def test_spaces_lines_and_kinds_of_quotes_are_no_errors():
    assert comparable("L’été\n  dernier – « ici »") == comparable("L'e\u0301te\u0301 dernier - « ici »")
    assert comparable("TOTAL", ignore_case=True) == "total"
    assert comparable("TOTAL") == "TOTAL"


def test_the_scores_are_means_by_kind_by_language_and_of_all():
    images = {
        "a": ImageLabels(kind="clean", text="abcd", language="fr"),
        "b": ImageLabels(kind="turned", text="abcd", language="en"),
        "no text is judged": ImageLabels(kind="photo"),
    }
    answers = {
        "a": ImageAnswer("abcd", 0.95),
        "b": ImageAnswer("ab", 0.92),
        "no text is judged": ImageAnswer("x", 1),
    }
    scores, calibration = score_texts(images, answers)
    assert [(score.kind, score.images, score.error) for score in scores] == [
        ("clean", 1, 0),
        ("turned", 1, 0.5),
        ("all", 2, 0.25),
        ("language fr", 1, 0),
        ("language en", 1, 0.5),
    ]
    assert calibration == Calibration(confident=2, right=0.5)


def test_without_texts_in_the_labels_there_are_no_scores():
    assert score_texts({"a": ImageLabels()}, {"a": ImageAnswer("x", 1)}) is None


def test_without_confident_readings_the_calibration_is_unknown():
    _, calibration = score_texts({"a": ImageLabels(text="x")}, {"a": ImageAnswer("x", 0.5)})
    assert calibration == Calibration(confident=0, right=None)
