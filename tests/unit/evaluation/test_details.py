"""What to look at."""

import json

from imago.evaluation.answers import Answers, ImageAnswer
from imago.evaluation.details import frequent_wrong_tags, image_details, worst_readings
from imago.evaluation.labels import parse_labels
from imago.evaluation.report import make_report

LABELS = parse_labels(
    json.dumps(
        {
            "images": {
                "good.png": {"text": "abcd"},
                "bad.png": {"text": "abcd"},
                "worse.png": {"text": "abcd"},
                "dog.jpg": {"objects": [{"name": "dog"}]},
                "wall.jpg": {"objects": []},
            },
            "names": {"dog": {"same": ["chien"]}},
        }
    )
)
ANSWERS = Answers(
    {
        "good.png": ImageAnswer("abcd", 0.9),
        "bad.png": ImageAnswer("abc", 0.8),
        "worse.png": ImageAnswer("", 0.0),
        "dog.jpg": ImageAnswer(tags={"en": ("dog", "cat"), "fr": ("chien", "brun")}),
        "wall.jpg": ImageAnswer(tags={"en": ("cat", "gray"), "fr": ("gris",)}),
    }
)


def test_the_worst_readings_come_first_and_good_ones_not_at_all():
    details = image_details(LABELS, ANSWERS)
    assert worst_readings(details, most=10) == [("worse.png", 1), ("bad.png", 0.25)]
    assert worst_readings(details, most=1) == [("worse.png", 1)]


def test_wrong_tags_are_counted_over_images_and_languages():
    assert frequent_wrong_tags(image_details(LABELS, ANSWERS), most=10) == [("cat", 2), ("brun", 1)]


def test_images_whose_tags_nobody_judges_have_none():
    details = image_details(
        parse_labels('{"images": {"a": {"text": "x"}}}'), Answers({"a": ImageAnswer(tags={"en": ("dog",)})})
    )
    assert (details["a"].tags, details["a"].wrong_tags) == ({}, {})


def test_the_report_ends_with_them():
    text = make_report(LABELS, ANSWERS).to_text()
    assert text.index("TAGS\n") < text.index("WORST READINGS\n") < text.index("WRONG TAGS\n")
