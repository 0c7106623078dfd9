"""The languages of this machine's Tesseract, by the files of its trained data."""

import os
from pathlib import Path

from imago.core.jobs.failures import PermanentFailure

# The directories of the trained data in Debian, Homebrew and the usual builds.
_TESSDATA = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)

# Trained data for the orientation of pages, and for formulas.
_NO_LANGUAGES = frozenset({"osd", "equ"})


def tessdata(directory: str | None) -> Path:
    """Return the directory of the trained data: `directory`, TESSDATA_PREFIX, or one of the usual ones."""
    candidates = [directory, os.environ.get("TESSDATA_PREFIX"), *_TESSDATA]
    for candidate in candidates:
        if candidate and any(Path(candidate).glob("*.traineddata")):
            return Path(candidate)
    raise PermanentFailure("ocr-engine-missing", "Tesseract's language data is not installed on this server.")


def available_languages(data: Path) -> tuple[str, ...]:
    """Return the languages that have trained data in the directory."""
    return tuple(sorted({path.stem for path in data.glob("*.traineddata")} - _NO_LANGUAGES))


def installed_languages(directory: Path | None) -> tuple[str, ...]:
    """Return the languages of this machine's Tesseract, in `directory` or a usual one; none without Tesseract."""
    try:
        return available_languages(tessdata(str(directory) if directory else None))
    except (PermanentFailure, OSError):
        return ()
