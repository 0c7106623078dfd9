"""What was recognized becomes a sentence of correct English or French."""

import itertools

import pytest

from imago.ai.offline.vision.descriptions import describe
from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.recognition.model import Features, Recognition, Subject
from imago.core.images.results import Camera, ExifResult, Gps
from imago.core.images.vision import VisionInput

IDS = {concept.english: concept.id for concept in reversed(vocabulary().values())}


def found(*subjects: str | Subject, colours: tuple[str, ...] = ()) -> Recognition:
    named = tuple(each if isinstance(each, Subject) else Subject(IDS[each]) for each in subjects)
    return Recognition("offline/test", named, colours, 0.9, (), Features("test", bytes(128)))


def sentences(
    recognition: Recognition, exif: ExifResult | None = None, *, french: bool, size: tuple[int, int] = (300, 200)
) -> str:
    return describe(recognition, VisionInput(b"", *size, exif, "fr" if french else "en"))


def several(name: str) -> Subject:
    concept = next(each for each in vocabulary().values() if each.english == name and each.english_plural)
    return Subject(concept.id, several=True)


@pytest.mark.parametrize(
    ("subjects", "english", "french"),
    [
        (["person"], "A landscape image of a person.", "Image au format paysage d'une personne."),
        (
            [several("person")],
            "A landscape image of several people.",
            "Image au format paysage de plusieurs personnes.",
        ),
        (
            ["person", several("dog"), "umbrella"],
            "A landscape image of a person, several dogs and an umbrella.",
            "Image au format paysage d'une personne, de plusieurs chiens et d'un parapluie.",
        ),
        (["unicycle"], "A landscape image of a unicycle.", "Image au format paysage d'un monocycle."),
        (["hourglass"], "A landscape image of an hourglass.", "Image au format paysage d'un sablier."),
        (["sunglasses"], "A landscape image of sunglasses.", "Image au format paysage de lunettes de soleil."),
        (["wool"], "A landscape image of wool.", "Image au format paysage de laine."),
        (["bread"], "A landscape image of bread.", "Image au format paysage de pain."),
        (["jeans"], "A landscape image of jeans.", "Image au format paysage d'un jean."),
        (
            ["hot-air balloon", "church"],
            "A landscape image of a hot-air balloon and a church.",
            "Image au format paysage d'une montgolfière et d'une église.",
        ),
        ([], "A landscape image.", "Image au format paysage."),
    ],
    ids=str,
)
def test_subjects_are_counted_and_joined(subjects: list[str | Subject], english: str, french: str) -> None:
    assert sentences(found(*subjects), french=False) == english
    assert sentences(found(*subjects), french=True) == french


def test_what_is_said_more_precisely_is_only_a_tag() -> None:
    recognition = found("person", Subject(IDS["animal"], described=False))
    assert sentences(recognition, french=False) == "A landscape image of a person."


def test_colours_time_and_place_follow() -> None:
    exif = ExifResult(Camera("Canon", "Canon EOS 40D", taken_at="2008-05-01T15:56:01"), Gps(-33.85, -151.2, None, True))
    recognition = found("cat", colours=("brown", "white"))
    assert sentences(recognition, exif, french=False) == (
        "A landscape photo of a cat, mostly brown and white. "
        "Taken on 1 May 2008 at 15:56 with Canon EOS 40D near 33.8500° S 151.2000° W."
    )
    assert sentences(recognition, exif, french=True) == (
        "Photo au format paysage d'un chat, surtout en marron et blanc. "
        "Prise le 1er mai 2008 à 15:56 avec Canon EOS 40D près de 33,8500° S 151,2000° O."
    )
    assert sentences(found(colours=("blue",)), french=True) == "Image au format paysage, surtout en bleu."
    assert sentences(found(colours=("blue",)), french=False) == "A landscape image, mostly blue."


def test_every_concept_makes_a_sentence_in_both_languages() -> None:
    for concept, counted, french in itertools.product(vocabulary().values(), (False, True), (False, True)):
        text = sentences(found(Subject(concept.id, several=counted)), french=french)
        assert (concept.french if french else concept.english) in text or counted, concept
        assert not any(wrong in text for wrong in (" a a ", " an an ", "de le ", "de les ", "None")), concept


@pytest.mark.parametrize(
    ("size", "english", "french"),
    [
        ((900, 400), "A landscape image.", "Image au format paysage."),
        ((400, 900), "A portrait image.", "Image au format portrait."),
        ((400, 410), "A square image.", "Image au format carré."),
    ],
)
def test_the_shape_is_that_of_the_upright_image(size: tuple[int, int], english: str, french: str) -> None:
    assert sentences(found(), french=False, size=size) == english
    assert sentences(found(), french=True, size=size) == french
