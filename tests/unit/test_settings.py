"""Settings: what is wrong is refused with the variable and the reason, and no secret is told."""

import pytest

from imago.cli.options import Refused, load_settings


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"JWT_SECRET_KEY": "much too short"}, "JWT_SECRET_KEY: it needs 32 bytes or more"),
        ({"DISABLED_STAGES": "thumbnail"}, "DISABLED_STAGES: the thumbnail stage can't be disabled"),
        ({"METRICS_CLIENTS": ",".join(f"c{n}" for n in range(51))}, "METRICS_CLIENTS takes 50 names at most"),
        ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "TRUSTED_PROXIES: "),
        ({"WORKER_MAX_TRIES": "0"}, "WORKER_MAX_TRIES: "),
        ({"STORAGE_BACKEND": "s3"}, "STORAGE_BACKEND=s3 needs S3_BUCKET"),
        ({"INTENT_TTL": "10"}, "INTENT_TTL must be longer than UPLOAD_TOTAL_TIMEOUT"),
        ({"AI_PROVIDER": "gemini", "VISION_TIMEOUT": "5"}, "VISION_TIMEOUT must be longer than twice AI_TIMEOUT"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], told: str) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused) as refused:
        load_settings()
    assert told in refused.value.message
    assert "much too short" not in refused.value.message
    assert "\n" not in refused.value.message
