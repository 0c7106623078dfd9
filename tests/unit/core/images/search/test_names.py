"""Names of tags in both languages, cameras and dates."""

import pytest

from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.search.names import FRENCH_COLOURS, names_of_tags, words_of_camera


@pytest.mark.parametrize(
    ("tag", "name"),
    [("dog", "chien"), ("chien", "dog"), ("vert", "green"), ("green", "verte"), ("Noir et blanc", "black and white")],
)
def test_a_tag_in_one_language_is_found_in_the_other(tag: str, name: str) -> None:
    assert name in names_of_tags([tag])
    assert names_of_tags([tag])[0] == tag


def test_every_concept_and_colour_is_found_in_both_languages() -> None:
    for concept in vocabulary().values():
        assert {concept.english, concept.french} <= {*names_of_tags([concept.french])}
    table = FRENCH_COLOURS
    for english, french in table.items():
        assert {english, french} <= {*names_of_tags([english])}


def test_other_tags_are_kept() -> None:
    assert names_of_tags(["holiday 2024", "dog"]) == ("holiday 2024", *names_of_tags(["dog"]))


def test_a_camera_and_its_date_are_found() -> None:
    camera = {"make": "Canon", "model": "EOS R6", "taken_at": "2024-07-02T10:11:12"}
    assert words_of_camera(camera) == ("Canon", "EOS R6", "2 July juillet 2024")
    assert words_of_camera({}) == ()
