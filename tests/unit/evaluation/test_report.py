"""The report."""

import json

from imago.evaluation.answers import Answers, ImageAnswer
from imago.evaluation.labels import parse_labels
from imago.evaluation.report import make_report, table

LABELS = parse_labels(
    json.dumps(
        {
            "images": {
                "page.png": {"kind": "clean", "text": "Bonjour"},
                "dog.jpg": {"objects": [{"name": "dog"}], "place": {"names": ["Paris"], "country_code": "FR"}},
                "copy.jpg": {"kind": "gray", "same_as": "dog.jpg"},
                "failed.jpg": {"text": "was not processed"},
            },
            "names": {"dog": {"same": ["chien"]}},
            "queries": [{"q": "chien", "images": ["dog.jpg"]}],
        }
    )
)
ANSWERS = Answers(
    {
        "page.png": ImageAnswer("Bonjour", 0.97),
        "dog.jpg": ImageAnswer(tags={"en": ("dog",), "fr": ("chien",)}, place="Paris", country_code="FR"),
        "copy.jpg": ImageAnswer(),
    },
    searches={"chien": ("dog.jpg",)},
    similar={"dog.jpg": ("copy.jpg",), "copy.jpg": ("dog.jpg",)},
    cpu_ms={"ocr": 120.4},
)


def test_the_tables_have_a_part_for_everything_that_the_labels_judge():
    text = make_report(LABELS, ANSWERS).to_text()
    for title in ("TEXT", "TAGS", "SEARCH", "PLACES", "LOOK-ALIKES", "CPU"):
        assert f"{title}\n" in text
    assert "of which 100.0% have at most 5% wrong characters" in text


def test_the_json_has_the_same_scores():
    report = json.loads(json.dumps(make_report(LABELS, ANSWERS).to_json()))
    assert report["images"] == 3
    assert report["text"][0] == {"kind": "clean", "images": 1, "error": 0, "word_f1": 1, "confidence": 0.97}
    assert report["calibration"] == {"confident": 1, "right": 1}
    assert [score["language"] for score in report["tags"]] == ["en", "fr"]
    assert report["search"][0]["first_right"] == 1
    assert report["places"]["right"] == 1
    assert report["lookalikes"][-1]["found"] == 1
    assert report["cpu_ms"] == {"ocr": 120.4}
    assert report["details"]["page.png"]["error"] == 0
    assert report["details"]["dog.jpg"]["tags"] == {"en": ["dog"], "fr": ["chien"]}
    assert report["hits"] == {"chien": ["dog.jpg"]}


def test_what_the_labels_do_not_judge_is_left_out():
    labels = parse_labels('{"images": {"a.jpg": {}, "failed.jpg": {"text": "x"}}}')
    report = make_report(labels, Answers({"a.jpg": ImageAnswer()}))
    assert report.to_text() == ""
    judged = {key for key, value in report.to_json().items() if value}
    assert judged == {"images", "details"}


def test_a_table_aligns_names_to_the_left_and_numbers_to_the_right():
    assert (
        table("T", ("kind", "n"), [("a", 10), ("long name", None)]) == "T\nkind        n\na          10\nlong name   –"
    )
