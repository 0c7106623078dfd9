"""A machine that lacks parts of the sandbox runs with the rest and says so, unless the sandbox is required."""

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from imago.bootstrap import sandbox
from imago.bootstrap.sandbox import check_sandbox, language_data, ocr_command
from imago.settings import Settings
from imago.startup import StartupError


@pytest.fixture
def lacks_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_parts", lambda: {"landlock": "it can read files"})


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_parts", dict)


@pytest.mark.usefixtures("lacks_landlock")
def test_a_missing_part_is_logged_with_what_it_means() -> None:
    with capture_logs() as lines:
        check_sandbox(Settings())
    (line,) = lines
    assert (line["event"], line["log_level"], line["missing"]) == ("sandbox.incomplete", "warning", ["landlock"])
    assert "without landlock it can read files" in line["message"]


@pytest.mark.usefixtures("lacks_landlock")
def test_a_required_sandbox_without_a_part_does_not_start() -> None:
    with pytest.raises(StartupError, match=r"^SANDBOX=required, but this machine lacks landlock$"):
        check_sandbox(Settings(sandbox="required"))


@pytest.mark.usefixtures("complete")
def test_a_complete_sandbox_starts_without_a_word() -> None:
    with capture_logs() as lines:
        check_sandbox(Settings())
        check_sandbox(Settings(sandbox="required"))
    assert lines == []


@pytest.mark.usefixtures("complete")
def test_a_required_sandbox_refuses_an_engine_that_starts_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(StartupError, match="OCR_ENGINE=pytesseract, which starts programs"):
        check_sandbox(Settings(sandbox="required", ocr_engine="pytesseract"))
    check_sandbox(Settings(sandbox="required", ocr_engine="pytesseract", ocr_enabled=False))


def test_only_an_engine_that_is_a_program_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert ocr_command(Settings()) is None
    assert ocr_command(Settings(ocr_engine="pytesseract")) == Path("/usr/bin/tesseract")


def test_children_may_read_the_language_data_that_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", "/opt/more")
    assert language_data(Settings(tessdata_dir=Path("/opt/tessdata"))) == (Path("/opt/tessdata"), Path("/opt/more"))
