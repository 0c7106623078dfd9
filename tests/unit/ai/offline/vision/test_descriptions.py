"""What was recognized becomes a sentence of correct English or French."""

import pytest

from imago.ai.offline.vision.descriptions import describe
from imago.core.images.concepts import vocabulary
from imago.core.images.recognition import Features, Recognition, Subject
from imago.core.images.results import Camera, ExifResult, Gps

IDS = {concept.english: concept.id for concept in reversed(vocabulary().values())}


def found(*subjects: str | Subject, colours: tuple[str, ...] = ()) -> Recognition:
    named = tuple(each if isinstance(each, Subject) else Subject(IDS[each]) for each in subjects)
    return Recognition("offline/test", named, colours, 0.9, (), Features("test", bytes(128)))


def several(name: str) -> Subject:
    concept = next(each for each in vocabulary().values() if each.english == name and each.english_plural)
    return Subject(concept.id, several=True)


@pytest.mark.parametrize(
    ("subjects", "english", "french"),
    [
        (["person"], "An image of a person.", "Image d'une personne."),
        ([several("person")], "An image of several people.", "Image de plusieurs personnes."),
        (
            ["person", several("dog"), "umbrella"],
            "An image of a person, several dogs and an umbrella.",
            "Image d'une personne, de plusieurs chiens et d'un parapluie.",
        ),
        (["unicycle"], "An image of a unicycle.", "Image d'un monocycle."),
        (["hourglass"], "An image of an hourglass.", "Image d'un sablier."),
        (["sunglasses"], "An image of sunglasses.", "Image de lunettes de soleil."),
        (["wool"], "An image of wool.", "Image de laine."),
        (["bread"], "An image of bread.", "Image de pain."),
        (["jeans"], "An image of jeans.", "Image d'un jean."),
        (
            ["hot-air balloon", "church"],
            "An image of a hot-air balloon and a church.",
            "Image d'une montgolfière et d'une église.",
        ),
        ([], "An image.", "Image."),
    ],
    ids=str,
)
def test_subjects_are_counted_and_joined(subjects: list[str | Subject], english: str, french: str) -> None:
    assert describe(found(*subjects), None, french=False) == english
    assert describe(found(*subjects), None, french=True) == french


def test_what_is_said_more_precisely_is_only_a_tag() -> None:
    recognition = found("person", Subject(IDS["animal"], described=False))
    assert describe(recognition, None, french=False) == "An image of a person."


def test_colours_time_and_place_follow() -> None:
    exif = ExifResult(Camera("Canon", "Canon EOS 40D", taken_at="2008-05-01T15:56:01"), Gps(-33.85, -151.2, None, True))
    recognition = found("cat", colours=("brown", "white"))
    assert describe(recognition, exif, french=False) == (
        "A photo of a cat, mostly brown and white. "
        "Taken on 1 May 2008 at 15:56 with Canon EOS 40D near 33.8500° S 151.2000° W."
    )
    assert describe(recognition, exif, french=True) == (
        "Photo d'un chat, surtout en marron et blanc. "
        "Prise le 1er mai 2008 à 15:56 avec Canon EOS 40D près de 33,8500° S 151,2000° O."
    )
    assert describe(found(colours=("blue",)), None, french=True) == "Image surtout en bleu."
    assert describe(found(colours=("blue",)), None, french=False) == "An image, mostly blue."


@pytest.mark.parametrize("concept", vocabulary().values(), ids=lambda concept: str(concept.id))
def test_every_concept_makes_a_sentence_in_both_languages(concept) -> None:
    for counted in (False, True):
        recognition = found(Subject(concept.id, several=counted))
        for french in (False, True):
            text = describe(recognition, None, french=french)
            assert (concept.french if french else concept.english) in text or counted
            assert not any(wrong in text for wrong in (" a a ", " an an ", "de le ", "de les ", "None"))
