"""Scores of search."""

import pytest

from imago.evaluation.labels import QueryLabel
from imago.evaluation.search_scores import average_precision, score_searches


def test_average_precision_counts_files_that_were_not_found_as_0():
    assert average_precision(["a", "b"], ["a", "x", "b"]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(["a", "b"], ["x", "a"]) == 0.25
    assert average_precision(["a"], []) == 0


def test_each_kind_and_language_of_query_has_its_scores():
    queries = [
        QueryLabel(q="dog", language="en", images=("a",)),
        QueryLabel(q="chien", language="fr", images=("a",)),
        QueryLabel(q="xqzv", kind="nonsense"),
    ]
    scores = score_searches(queries, {"dog": ("a", "b"), "chien": (), "xqzv": ()})
    assert [(score.kind, score.queries, score.empty, score.first_right) for score in scores] == [
        ("natural", 2, 0.5, 0.5),
        ("natural en", 1, 0, 1),
        ("natural fr", 1, 1, 0),
        ("nonsense", 1, 1, None),
    ]


def test_without_queries_there_are_no_scores():
    assert score_searches([], {}) is None
