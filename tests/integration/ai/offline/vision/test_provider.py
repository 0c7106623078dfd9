"""The offline vision provider on real photographs."""

import multiprocessing
from pathlib import Path

import pytest
from PIL import Image

from devtools.photos import ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET
from imago.ai.offline.models.store import ensure_classifier, is_valid
from imago.ai.offline.vision.provider import OfflineVisionProvider
from imago.ai.offline.vision.recognizer import OfflineRecognizer
from imago.core.images.results import Camera, ExifResult, Gps, VisionResult
from imago.core.images.vision import VisionInput
from imago.imaging.preparation import prepare_for_vision


@pytest.fixture(scope="module")
def recognizer() -> OfflineRecognizer:
    return OfflineRecognizer(model_dir=None, min_confidence=0.35)


async def describe(
    recognizer: OfflineRecognizer, photo: Path, folder: Path, language: str = "en", exif=None
) -> VisionResult:
    target = folder / "small.jpg"
    prepared = prepare_for_vision(photo, target, max_side=1024, max_pixels=50_000_000)
    jpeg = target.read_bytes()
    found = await recognizer.recognize(jpeg)
    image = VisionInput(jpeg, prepared.width, prepared.height, exif, language, found)
    return await OfflineVisionProvider().describe(image)


@pytest.mark.parametrize(
    ("photo", "tags"),
    [(CAT, {"cat", "animal"}), (COFFEE, {"coffee", "cup"}), (ROCKET, {"rocket"}), (CHINA, {"building"})],
    ids=lambda value: value.stem if isinstance(value, Path) else None,
)
async def test_a_photo_gets_the_tags_a_person_would_give(
    recognizer: OfflineRecognizer, tmp_path: Path, photo: Path, tags: set[str]
) -> None:
    result = await describe(recognizer, photo, tmp_path)
    assert tags <= set(result.tags), result
    assert result.confidence >= 0.35
    assert result.model_used.startswith("offline/efficientnet-lite0")


async def test_a_photo_of_a_person_says_so(recognizer: OfflineRecognizer, tmp_path: Path) -> None:
    result = await describe(recognizer, ASTRONAUT, tmp_path)
    assert "person" in result.tags
    assert result.description.startswith("A square image of a person")


async def test_unlikely_subjects_are_not_named(recognizer: OfflineRecognizer, tmp_path: Path) -> None:
    result = await describe(recognizer, FLOWER, tmp_path)
    assert result.tags == ("turquoise", "black")
    assert result.description == "A landscape image, mostly turquoise and black."


async def test_a_french_description_is_entirely_in_french(recognizer: OfflineRecognizer, tmp_path: Path) -> None:
    exif = ExifResult(Camera("Canon", "Canon EOS 40D", taken_at="2008-05-01T15:56:01"), Gps(-33.85, -151.2, None, True))
    result = await describe(recognizer, CAT, tmp_path, "fr", exif)
    assert result.description == (
        "Photo au format paysage d'un mau égyptien, surtout en marron. "
        "Prise le 1er mai 2008 à 15:56 avec Canon EOS 40D près de 33,8500° S 151,2000° O."
    )
    assert result.tags == ("mau égyptien", "chat", "animal", "marron")


@pytest.mark.parametrize("colour", [(200, 20, 20), (30, 60, 200), (128, 128, 128), (255, 255, 255), (210, 180, 140)])
async def test_a_flat_colour_has_no_other_tag(
    recognizer: OfflineRecognizer, tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    source = tmp_path / "flat.png"
    Image.new("RGB", (300, 200), colour).save(source)
    result = await describe(recognizer, source, tmp_path)
    assert len(result.tags) == 1
    assert result.description == f"A landscape image, mostly {result.tags[0]}."


def test_other_users_can_read_the_model(tmp_path: Path) -> None:
    folder = ensure_classifier(tmp_path).parent
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert files
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)


def test_a_damaged_model_is_built_again(tmp_path: Path) -> None:
    model = ensure_classifier(tmp_path)
    model.write_bytes(b"damaged")
    assert not is_valid(model.parent)
    assert is_valid(ensure_classifier(tmp_path).parent)


def test_two_processes_can_build_the_model_concurrently(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        models = pool.map(ensure_classifier, [tmp_path, tmp_path])
    assert is_valid(models[0].parent)
    assert models[0] == models[1]
