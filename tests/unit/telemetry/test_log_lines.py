"""A log line that can't be written never fails a request or a job."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from imago.api.middlewares.observation import observation
from imago.telemetry.logs import configure_logging


@pytest.fixture(autouse=True)
def _lines() -> Iterator[None]:
    configure_logging(level="info")
    yield
    configure_logging(level="warning", console=True)


def closed_pipe() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True)


def test_a_closed_pipe_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_pipe() as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        structlog.get_logger("test").info("request.handled")
        monkeypatch.undo()


def test_a_full_disk_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        monkeypatch.setattr(sys, "stderr", full)
        structlog.get_logger("test").info("request.handled")
        monkeypatch.undo()


def test_a_closed_standard_error_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python sets it to None in `imago api 2>&-`.
    monkeypatch.setattr(sys, "stderr", None)
    structlog.get_logger("test").info("request.handled")
    monkeypatch.undo()


@pytest.mark.parametrize("value", ["\ud800 is a lone surrogate", 2**70, {1: "a number"}, {(1, 2): "a pair"}, {b"k": 1}])
def test_a_value_without_a_json_form_is_logged(capsys: pytest.CaptureFixture[str], value: object) -> None:
    structlog.get_logger("test").info("test.logged", value=value)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "test.logged"


def test_a_value_without_a_json_form_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("test").info("test.logged", error=ValueError("postgres://user:hunter2@host/db"))
    assert "hunter2" not in capsys.readouterr().err


async def test_a_request_succeeds_if_its_log_line_can_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app = web.Application(middlewares=[observation])
    app.router.add_get("/x", handler)
    async with TestClient(TestServer(app)) as client:
        with closed_pipe() as broken:
            monkeypatch.setattr(sys, "stderr", broken)
            # The module's logger may be cached with the configuration of another test.
            monkeypatch.setattr("imago.api.middlewares.observation.log", structlog.get_logger("test"))
            response = await client.get("/x")
            monkeypatch.undo()
        assert response.status == 200
