"""The environment of an evaluation's instance."""

from pathlib import Path

import pytest

from imago.cli.evaluating.instance import instance_environment
from imago.settings import Settings


def test_it_has_its_own_database_and_storage_and_the_settings_that_are_judged():
    inherited = instance_environment(
        {
            "DATABASE_URL": "postgresql+asyncpg://production",
            "nats_user": "imago",
            "NATS_URL": "nats://production",
            "STORAGE_BACKEND": "s3",
            "S3_BUCKET": "production",
            "METRICS_PORT": "9000",
            "OCR_LANGUAGES": "fra+eng",
            "PATH": "/usr/bin",
        },
        Settings(),
    )
    assert inherited == {"OCR_LANGUAGES": "fra+eng", "PATH": "/usr/bin"}


def test_relative_paths_stay_those_of_the_directory_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESSDATA_DIR", "data/tesseract")
    inherited = instance_environment({"TESSDATA_DIR": "data/tesseract"}, Settings())
    assert inherited == {"TESSDATA_DIR": str(tmp_path / "data" / "tesseract")}
