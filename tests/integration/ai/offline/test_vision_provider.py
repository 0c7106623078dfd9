"""The offline vision provider on real photographs."""

import multiprocessing
from pathlib import Path

import pytest

from devtools.photos import ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET
from imago.ai.offline.onnx_model import ensure_model, is_valid
from imago.ai.offline.vision_provider import OfflineVisionProvider
from imago.core.images.results import Camera, ExifResult, Gps, VisionResult
from imago.core.images.vision import VisionInput
from imago.imaging.preparation import prepare_for_vision


@pytest.fixture(scope="module")
def provider() -> OfflineVisionProvider:
    return OfflineVisionProvider(model_dir=None, min_confidence=0.35)


async def describe(
    provider: OfflineVisionProvider, photo: Path, folder: Path, language: str = "en", exif=None
) -> VisionResult:
    target = folder / "small.jpg"
    prepared = prepare_for_vision(photo, target, max_side=1024, max_pixels=50_000_000)
    image = VisionInput(target.read_bytes(), prepared.width, prepared.height, prepared.colours, exif, language)
    return await provider.describe(image)


@pytest.mark.parametrize(
    ("photo", "tags"),
    [(CAT, {"cat", "animal"}), (COFFEE, {"coffee", "cup"}), (ROCKET, {"rocket"}), (CHINA, {"building"})],
    ids=lambda value: value.stem if isinstance(value, Path) else None,
)
async def test_a_photo_gets_the_tags_a_person_would_give(
    provider: OfflineVisionProvider, tmp_path: Path, photo: Path, tags: set[str]
) -> None:
    result = await describe(provider, photo, tmp_path)
    assert tags <= set(result.tags), result
    assert result.confidence >= 0.35
    assert result.model_used == "offline/efficientnet-lite0"


@pytest.mark.parametrize("photo", [ASTRONAUT, FLOWER], ids=lambda path: path.stem)
async def test_unlikely_subjects_are_not_named(provider: OfflineVisionProvider, tmp_path: Path, photo: Path) -> None:
    result = await describe(provider, photo, tmp_path)
    assert result.confidence < 0.35
    assert "Likely" not in result.description


async def test_a_french_description_is_entirely_in_french(provider: OfflineVisionProvider, tmp_path: Path) -> None:
    exif = ExifResult(Camera("Canon", "Canon EOS 40D", taken_at="2008-05-01T15:56:01"), Gps(-33.85, -151.2, None, True))
    result = await describe(provider, CAT, tmp_path, "fr", exif)
    assert result.description == (
        "Photo au format paysage, surtout en marron. Sujet probable : mau égyptien, chat, animal. "
        "Prise le 1er mai 2008 à 15:56 avec Canon EOS 40D près de 33,8500° S 151,2000° O."
    )
    assert "chat" in result.tags


def test_other_users_can_read_the_model(tmp_path: Path) -> None:
    folder = ensure_model(tmp_path)
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert files
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)


def test_a_damaged_model_is_built_again(tmp_path: Path) -> None:
    folder = ensure_model(tmp_path)
    (folder / "model.onnx").write_bytes(b"damaged")
    assert not is_valid(folder)
    assert is_valid(ensure_model(tmp_path))


def test_two_processes_can_build_the_model_concurrently(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(ensure_model, [tmp_path, tmp_path])
    assert is_valid(folders[0])
    assert folders[0] == folders[1]
