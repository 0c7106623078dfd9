"""The environment of an evaluation's instance."""

from imago.cli.evaluating.instance import instance_environment


def test_it_has_its_own_database_and_storage_and_the_settings_that_are_judged():
    inherited = instance_environment(
        {
            "DATABASE_URL": "postgresql+asyncpg://production",
            "NATS_URL": "nats://production",
            "STORAGE_BACKEND": "s3",
            "S3_BUCKET": "production",
            "METRICS_PORT": "9000",
            "OCR_LANGUAGES": "fra+eng",
            "PATH": "/usr/bin",
        }
    )
    assert inherited == {"OCR_LANGUAGES": "fra+eng", "PATH": "/usr/bin"}
