"""The sandbox of this installation's child processes: what the machine has of it, and what the settings require."""

import os
import shutil
from pathlib import Path

import structlog

from imago.core.jobs.stages import Stage
from imago.imaging.sandbox.confinement import missing_parts
from imago.runtime.startup import StartupError
from imago.settings import Settings

log = structlog.get_logger(__name__)


def check_sandbox(settings: Settings) -> None:
    """Log which parts of the sandbox are missing; raise StartupError if `SANDBOX=required` and one is."""
    missing = missing_parts(language_data(settings))
    if missing and settings.sandbox == "required":
        raise StartupError(f"SANDBOX=required, but this machine lacks {' and '.join(sorted(missing))}")
    if missing:
        log.warning(
            "sandbox.incomplete",
            message=f"If an image takes over a decoder: {'; '.join(missing.values())}.",
            missing=sorted(missing),
        )


def ocr_command(settings: Settings) -> Path | None:
    """Return the program that the OCR engine starts; None if it starts none or OCR is disabled."""
    if settings.ocr_engine != "pytesseract" or Stage.OCR in settings.stages_off:
        return None
    found = shutil.which("tesseract")
    return Path(found) if found else None


def language_data(settings: Settings) -> tuple[Path, ...]:
    """Return the directories of Tesseract's data that the settings name."""
    named = (settings.tessdata_dir, os.environ.get("TESSDATA_PREFIX"))
    return tuple(Path(directory).absolute() for directory in named if directory)
