"""What the offline recognition finds for search and comparison."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from devtools.photos import ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET
from imago.ai.offline.vision.recognizer import OfflineRecognizer
from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.recognition.model import MAX_CONCEPTS, Features, Recognition

# The cosine that copies of a picture have and other pictures don't.
SIMILAR = 0.85


@pytest.fixture(scope="module")
def recognizer() -> OfflineRecognizer:
    return OfflineRecognizer(model_dir=None, min_confidence=0.35)


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def photo(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


async def recognize(recognizer: OfflineRecognizer, image: Image.Image, quality: int = 85) -> Recognition:
    found = await recognizer.recognize(jpeg(image, quality))
    assert found is not None
    return found


def cosine(one: Features, other: Features) -> float:
    assert one.model == other.model
    first, second = (np.frombuffer(each.vector, np.int8).astype(float) for each in (one, other))
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


async def test_the_concepts_are_the_likeliest_of_the_vocabulary(recognizer: OfflineRecognizer) -> None:
    concepts = (await recognize(recognizer, photo(CAT))).concepts
    scores = [each.score for each in concepts]
    assert 5 < len(concepts) <= MAX_CONCEPTS
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    assert {"cat", "animal"} <= {vocabulary()[each.concept].english for each in concepts if each.score > 0.5}


async def test_a_plain_picture_has_no_concepts_that_a_search_would_find(recognizer: OfflineRecognizer) -> None:
    for image in (Image.new("RGB", (300, 200), (30, 60, 200)), Image.linear_gradient("L").convert("RGB")):
        assert (await recognize(recognizer, image)).concepts == ()


async def test_copies_of_a_picture_have_similar_features(recognizer: OfflineRecognizer) -> None:
    image = photo(CHINA)
    width, height = image.size
    original = (await recognize(recognizer, image)).features
    assert len(original.vector) == 128
    copies = [
        image.resize((width // 2, height // 2)),
        image.crop((width // 10, height // 10, width * 9 // 10, height * 9 // 10)),
        ImageOps.mirror(image),
    ]
    for copy in copies:
        assert cosine(original, (await recognize(recognizer, copy, 40)).features) >= SIMILAR


async def test_different_pictures_have_different_features(recognizer: OfflineRecognizer) -> None:
    paths = (ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET)
    features = [(await recognize(recognizer, photo(path))).features for path in paths]
    for index, one in enumerate(features):
        assert all(cosine(one, other) < SIMILAR for other in features[:index])


async def test_without_the_model_nothing_is_recognized(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    recognizer = OfflineRecognizer(model_dir=blocked, min_confidence=0.35)
    assert await recognizer.recognize(jpeg(photo(CAT))) is None


async def test_images_are_scored_only_where_that_is_asked_for(recognizer: OfflineRecognizer) -> None:
    assert (await recognize(recognizer, photo(COFFEE))).moderation_score is None
    moderating = OfflineRecognizer(model_dir=None, min_confidence=0.35, moderation=True)
    score = (await recognize(moderating, photo(COFFEE))).moderation_score
    assert score is not None
    assert 0 <= score < 0.2
