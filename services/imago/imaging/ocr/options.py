"""How pages are read."""

from dataclasses import dataclass

WITHOUT_DETECTOR = ("tesserocr", "pytesseract")
"""The engines that read pages as they are, without the detector of lines."""


@dataclass(frozen=True)
class OcrOptions:
    """How pages are read. `languages` are Tesseract's names, such as `fra`; `engine` is a value of `OCR_ENGINE`.

    With `half_scale`, tesserocr reads a page at half its size if all its letters are large.
    """

    languages: tuple[str, ...]
    engine: str
    tessdata_dir: str | None = None
    half_scale: bool = False
