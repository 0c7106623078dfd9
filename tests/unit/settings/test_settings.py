"""Settings: an invalid value is reported with its variable and the reason, without the value."""

from pathlib import Path

import pytest

from imago.core.jobs.stages import STAGES, Stage
from imago.runtime.startup import StartupError
from imago.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"JWT_SECRET_KEY": "much too short"}, "JWT_SECRET_KEY: must have at least 32 bytes"),
        ({"DISABLED_STAGES": "thumbnail"}, "DISABLED_STAGES: the thumbnail stage can't be disabled"),
        ({"METRICS_CLIENTS": ",".join(f"c{n}" for n in range(51))}, "METRICS_CLIENTS takes at most 50 names"),
        ({"OCR_LANGUAGES": "fra+klingon"}, "OCR_LANGUAGES: Tesseract has no language `klingon`; write for example fra"),
        ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "TRUSTED_PROXIES: "),
        ({"WORKER_MAX_TRIES": "0"}, "WORKER_MAX_TRIES: "),
        ({"AI_PRICES": "not JSON"}, "AI_PRICES: is not valid JSON"),
        ({"STORAGE_BACKEND": "s3"}, "STORAGE_BACKEND=s3 needs S3_BUCKET"),
        ({"INTENT_TTL": "10"}, "INTENT_TTL must be longer than UPLOAD_TOTAL_TIMEOUT"),
        ({"AI_PROVIDER": "gemini", "VISION_TIMEOUT": "5"}, "VISION_TIMEOUT must be longer than twice AI_TIMEOUT"),
    ],
)
def test_an_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], message: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as error:
        load_settings()
    assert message in str(error.value)
    assert "much too short" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "languages"),
    [("", "fra+eng"), ("deu", "deu"), ("French, en", "fra+eng"), ("fr-CA+English (US)+fra", "fra+eng"), ("our", "our")],
)
def test_ocr_languages_are_understood_as_people_write_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, languages: str
) -> None:
    (tmp_path / "our.traineddata").touch()
    monkeypatch.setenv("TESSDATA_DIR", str(tmp_path))
    monkeypatch.setenv("OCR_LANGUAGES", value)
    assert load_settings().ocr_languages == languages


def test_every_stage_has_a_time_limit() -> None:
    limits = {Stage.THUMBNAIL: 60, Stage.EXIF: 30, Stage.OCR: 120, Stage.VISION: 180}
    assert {stage: Settings().stage_timeout(stage) for stage in STAGES} == limits


def test_the_ocr_stage_waits_for_a_provider_that_reads_the_page_again() -> None:
    settings = Settings(ocr_fallback="ai", ocr_timeout=100, ai_timeout=20)
    assert settings.stage_timeout(Stage.OCR) == 140


@pytest.mark.parametrize(
    ("values", "side"),
    [
        ({}, 640),
        ({"AI_IMAGE_SIDE": "320"}, 320),
        ({"AI_PROVIDER": "gemini", "GEMINI_API_KEY": "key"}, 1024),
        ({"AI_PROVIDER": "gemini", "GEMINI_API_KEY": "key", "AI_FALLBACK": "offline"}, 1024),
    ],
)
def test_only_what_a_provider_describes_is_larger_than_the_offline_models_need(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], side: int
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert load_settings().vision_side == side
