"""The labels of a folder."""

import json
import re
from pathlib import Path

import pytest

from imago.evaluation.labels import BadLabels, parse_labels

DOCS = Path(__file__).resolve().parents[3] / "docs" / "accuracy.md"


def test_every_field_of_an_image_may_be_left_out():
    labels = parse_labels('{"images": {"a.jpg": {}}, "queries": [{"q": "x"}]}')
    assert labels.images["a.jpg"].text is None
    assert labels.images["a.jpg"].objects is None


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({}, "images"),
        ({"images": {}}, "images"),
        ({"images": {"a.jpg": {"kind": "photo"}}}, "nothing to judge"),
        ({"images": {"a.jpg": {"txt": "x"}}}, "images.a.jpg.txt"),
        ({"images": {"a.jpg": {"objects": [{"name": "dog", "share": 2}]}}}, "images.a.jpg.objects.0.share"),
        ({"images": {"a.jpg": {"place": {"names": ["Paris"], "country_code": "France"}}}}, "place.country_code"),
        ({"images": {"a.jpg": {"same_as": "b.jpg"}}}, "'b.jpg'"),
        ({"images": {"a.jpg": {}}, "queries": [{"q": "dog", "images": ["c.jpg"]}]}, "'c.jpg'"),
    ],
)
def test_wrong_labels_are_one_line_that_names_the_field(labels, named):
    with pytest.raises(BadLabels) as refused:
        parse_labels(json.dumps(labels))
    assert str(refused.value).startswith("labels.json: ")
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_file_that_is_no_json_object_is_refused(text):
    with pytest.raises(BadLabels, match=r"labels\.json: "):
        parse_labels(text)


def test_the_example_of_the_documentation_is_valid():
    (example,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(parse_labels(example).images) == 5
