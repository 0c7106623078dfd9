"""Log lines have stable keys, name foreign loggers, and contain no secrets."""

import json
import logging

import pytest
import structlog

from imago.core.clients import keys
from imago.telemetry.logs import configure_logging, redact


def test_keys_tokens_and_credentials_are_redacted_anywhere_in_a_line() -> None:
    key = keys.generate().reveal()
    event = {
        "event": f"called with {key}",
        "path": "/files/signed/WzEsIkdFVCJd.abc-_123 opened",
        "url": "nats://user:hunter2@host:4222",
        "s3": "https://b/o?X-Amz-Signature=deadbeef01&x=1",
        "deep": [{"Authorization": "anything", "note": f"Bearer {key}"}],
        "X-API-Key": "anything",
        "note": "Incorrect API key provided: sk-or-v1-0123456789abcdef; AIzaSyA0123456789abcdefghij is not valid",
    }
    text = str(redact(None, "", event))
    for secret in (key, "WzEsIkdFVCJd", "hunter2", "deadbeef01", "anything", "0123456789"):
        assert secret not in text, text


@pytest.mark.parametrize("console", [True, False])
def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str], console: bool) -> None:
    configure_logging(level="info", console=console)

    def fails(password: str) -> None:
        raise ValueError("wrong password")

    secret = "".join(["hun", "ter2"])
    try:
        fails(secret)
    except ValueError:
        structlog.get_logger("test").exception("job.failed")
        logging.getLogger("library").exception("failed")
    written = capsys.readouterr().err
    configure_logging(level="warning", console=True)
    assert "wrong password" in written
    assert "hunter2" not in written
    if not console:
        assert [json.loads(line)["event"] for line in written.splitlines()] == ["job.failed", "failed"]


def test_only_lines_of_libraries_have_a_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info")
    structlog.get_logger("imago.worker").info("stage.retried", stage="ocr", message="retrying in 5 s")
    logging.getLogger("nats.aio.client").info("connected to %s", "nats://user:hunter2@host:4222")
    own, foreign = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    configure_logging(level="warning", console=True)
    assert (own["event"], own["stage"], own["message"]) == ("stage.retried", "ocr", "retrying in 5 s")
    assert "logger" not in own
    assert (foreign["event"], foreign["logger"]) == ("connected to nats://[redacted]@host:4222", "nats.aio.client")
    assert (foreign["level"], "timestamp" in foreign) == ("info", True)
