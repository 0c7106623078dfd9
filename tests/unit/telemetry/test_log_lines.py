"""A line that can't be written is never what a request or a job fails over."""

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


def test_nobody_reads_the_log_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_pipe() as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        structlog.get_logger("test").info("request")
        monkeypatch.undo()


def test_the_disk_of_the_log_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        monkeypatch.setattr(sys, "stderr", full)
        structlog.get_logger("test").info("request")
        monkeypatch.undo()


def test_standard_error_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python has it in `imago api 2>&-`.
    monkeypatch.setattr(sys, "stderr", None)
    structlog.get_logger("test").info("request")
    monkeypatch.undo()


@pytest.mark.parametrize("value", ["\ud800 is half a character", 2**70, {1: "a number"}, {(1, 2): "a pair"}, {b"k": 1}])
def test_whatever_a_line_holds_it_is_written(capsys: pytest.CaptureFixture[str], value: object) -> None:
    structlog.get_logger("test").info("told", value=value)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "told"


def test_what_has_no_json_is_told_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("test").info("told", error=ValueError("postgres://user:hunter2@host/db"))
    assert "hunter2" not in capsys.readouterr().err


async def test_a_request_is_answered_though_nobody_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app = web.Application(middlewares=[observation])
    app.router.add_get("/x", handler)
    async with TestClient(TestServer(app)) as client:
        with closed_pipe() as broken:
            monkeypatch.setattr(sys, "stderr", broken)
            # Its own may have been made under another test's configuration.
            monkeypatch.setattr("imago.api.middlewares.observation.log", structlog.get_logger("test"))
            answer = await client.get("/x")
            monkeypatch.undo()
        assert answer.status == 200
