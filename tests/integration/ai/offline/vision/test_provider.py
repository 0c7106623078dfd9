"""The offline vision provider on real photographs."""

import multiprocessing
from pathlib import Path

import pytest

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
    image = VisionInput(jpeg, prepared.width, prepared.height, prepared.colours, exif, language, found)
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
    assert result.model_used == "offline/efficientnet-lite0"


@pytest.mark.parametrize("photo", [ASTRONAUT, FLOWER], ids=lambda path: path.stem)
async def test_unlikely_subjects_are_not_named(recognizer: OfflineRecognizer, tmp_path: Path, photo: Path) -> None:
    result = await describe(recognizer, photo, tmp_path)
    assert result.confidence < 0.35
    assert "Likely" not in result.description


async def test_a_french_description_is_entirely_in_french(recognizer: OfflineRecognizer, tmp_path: Path) -> None:
    exif = ExifResult(Camera("Canon", "Canon EOS 40D", taken_at="2008-05-01T15:56:01"), Gps(-33.85, -151.2, None, True))
    result = await describe(recognizer, CAT, tmp_path, "fr", exif)
    assert result.description == (
        "Photo au format paysage, surtout en marron. Sujet probable : mau égyptien, chat, animal. "
        "Prise le 1er mai 2008 à 15:56 avec Canon EOS 40D près de 33,8500° S 151,2000° O."
    )
    assert "chat" in result.tags


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
