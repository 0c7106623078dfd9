"""Scores of place names."""

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels, PlaceLabel
from imago.evaluation.place_scores import score_places


def test_one_of_the_right_names_is_enough_whatever_its_case_accents_and_hyphens():
    paris = ImageLabels(place=PlaceLabel(names=("Saint-Étienne", "Paris"), country_code="FR"))
    answers = {
        "a": ImageAnswer(place="saint etienne", country_code="FR"),
        "b": ImageAnswer(place="Lyon", country_code="FR"),
        "c": ImageAnswer(),
        "d": ImageAnswer(place="Paris", country_code="US"),
    }
    score = score_places(dict.fromkeys(answers, paris), answers)
    assert (score.images, score.named, score.right, score.country_right) == (4, 0.75, 0.5, 0.5)


def test_without_places_in_the_labels_there_are_no_scores():
    assert score_places({"a": ImageLabels()}, {"a": ImageAnswer(place="Paris")}) is None
