"""A machine that lacks parts of the sandbox runs with the rest and says so, unless the sandbox is required."""

import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from imago.bootstrap import sandbox
from imago.bootstrap.sandbox import check_sandbox, language_data, ocr_command
from imago.imaging.sandbox import confinement
from imago.runtime.startup import StartupError
from imago.settings import Settings


@pytest.fixture
def lacks_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_parts", lambda _: {"landlock": "without Landlock it can read files"})


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_parts", lambda _: {})


@pytest.mark.usefixtures("lacks_landlock")
def test_a_missing_part_is_logged_with_what_it_means() -> None:
    with capture_logs() as lines:
        check_sandbox(Settings())
    (line,) = lines
    assert (line["event"], line["log_level"], line["missing"]) == ("sandbox.incomplete", "warning", ["landlock"])
    assert "without Landlock it can read files" in line["message"]


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


def test_a_required_sandbox_refuses_an_engine_that_starts_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether or not this process finds the program.
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match="OCR_ENGINE=pytesseract, which starts programs"):
        Settings(sandbox="required", ocr_engine="pytesseract")
    assert Settings(sandbox="required", ocr_engine="pytesseract", ocr_enabled=False).sandbox == "required"


@pytest.mark.skipif(os.geteuid() != 0, reason="only a process that is started by root can change its user")
def test_a_child_that_would_stay_root_is_reported_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)
    data = tmp_path / "tessdata"
    data.mkdir(mode=0o700)
    settings = Settings(tessdata_dir=data)
    with capture_logs() as lines:
        check_sandbox(settings)
    (line,) = lines
    assert "user" in line["missing"]
    assert "as root it has the rights" in line["message"]
    with pytest.raises(StartupError, match=r"this machine lacks .*user"):
        check_sandbox(settings.model_copy(update={"sandbox": "required"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only a process that is started by root can change its user")
def test_a_machine_that_does_not_let_root_change_its_user_lacks_that_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("subprocess.run", refuse)
    assert "user" in confinement.missing_parts()


def test_only_an_engine_that_is_a_program_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert ocr_command(Settings()) is None
    assert ocr_command(Settings(ocr_engine="pytesseract")) == Path("/usr/bin/tesseract")


def test_children_may_read_the_language_data_that_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", "/opt/more")
    assert language_data(Settings(tessdata_dir=Path("/opt/tessdata"))) == (Path("/opt/tessdata"), Path("/opt/more"))


def test_a_relative_directory_of_language_data_is_that_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child has another working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESSDATA_PREFIX", "more")
    monkeypatch.setenv("TESSDATA_DIR", "own")
    settings = Settings()
    assert settings.tessdata_dir == tmp_path / "own"
    assert language_data(settings) == (tmp_path / "own", tmp_path / "more")
