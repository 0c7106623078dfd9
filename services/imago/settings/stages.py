"""The stages of the pipeline."""

import contextlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from imago.core.jobs.stages import OPTIONAL_STAGES, Stage
from imago.core.text.language_names import resolve_ocr_languages
from imago.settings.base import CommaList, LowerCase, Seconds, SettingsGroup


class StageSettings(SettingsGroup):
    """Which stages run, how they work and how long one attempt may take."""

    ocr_enabled: bool = True
    disabled_stages: CommaList = ()
    thumbnail_mode: Annotated[Literal["deferred", "inline"], LowerCase] = "deferred"
    thumbnail_size: int = Field(512, ge=16, le=4096)
    """The longest side in pixels."""
    thumbnail_format: Annotated[Literal["webp", "jpeg"], LowerCase] = "webp"
    exif_reader: Annotated[Literal["ifd", "piexif"], LowerCase] = "ifd"
    geocode: Annotated[Literal["offline", "off"], LowerCase] = "offline"
    """Whether the exif stage names the place of an image's coordinates, from a file on this machine."""
    ocr_engine: Annotated[Literal["auto", "tesserocr", "pytesseract", "rapidocr"], LowerCase] = "auto"
    """`auto`: a detector of lines, Tesseract, and PP-OCRv6 for what Tesseract reads badly (docs/ocr.md)."""
    tessdata_dir: Annotated[Path, AfterValidator(Path.absolute)] | None = None
    """The directory of Tesseract's language data; unset: TESSDATA_PREFIX, or one of the usual ones."""
    ocr_languages: str = "fra+eng"
    """Tesseract's names, joined by `+`; codes and names such as `fr` and `French` are resolved to them."""
    ocr_installed_languages: str = ""
    """The languages that the workers can read, for an API whose machine has no Tesseract; empty: `ocr_languages`."""
    ocr_half_scale: bool = False
    """Whether tesserocr reads pages with only large letters, such as scans at 300 dpi, at half size: half the CPU."""
    ocr_max_pages: int = Field(20, ge=1, le=1000)
    """How many pages of a TIFF file are read; none begins after half of `ocr_timeout`."""
    ocr_fallback: Annotated[Literal["none", "rapidocr", "ai"], LowerCase] = "none"
    ocr_fallback_confidence: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """Below this confidence of the first reading the fallback reads the page too."""
    decode_cpu_per_megapixel: float = Field(1.0, gt=0, le=1000)
    """CPU seconds to decode and scale a megapixel, beside those that every task has; at most `child_cpu_seconds`."""
    ocr_cpu_per_megapixel: float = Field(6.0, gt=0, le=1000)
    """CPU seconds to read a megapixel of a page, beside those to decode it; at most `child_cpu_seconds`."""
    # `Settings.stage_timeout` finds the time limit of a stage by the name `<stage>_timeout`.
    thumbnail_timeout: Seconds = 60.0
    exif_timeout: Seconds = 30.0
    ocr_timeout: Seconds = 120.0
    vision_timeout: Seconds = 180.0
    embed_timeout: Seconds = 60.0
    embed_model_dir: Annotated[Path, AfterValidator(Path.absolute)] | None = None
    """The directory of a model that embeds images and texts (docs/embedding.md); unset: no stage `embed`."""
    embed_memory_mb: int = Field(4096, ge=256, le=2**20)
    """Address space of a child process that holds a part of the model, in addition to what it has before."""

    @field_validator("disabled_stages")
    @classmethod
    def _known_stages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if Stage(name) is Stage.THUMBNAIL:
                raise ValueError("the thumbnail stage can't be disabled")
        return value

    @field_validator("ocr_languages", "ocr_installed_languages")
    @classmethod
    def _known_languages(cls, value: str, info: ValidationInfo) -> str:
        directory, own = info.data.get("tessdata_dir"), set[str]()
        # An unreadable directory is the error of the worker, which alone needs it.
        with contextlib.suppress(OSError):
            own = {path.stem for path in directory.glob("*.traineddata")} if directory else own
        return "+".join(resolve_ocr_languages([value], installed=own))

    @cached_property
    def stages_off(self) -> frozenset[Stage]:
        """The stages that this server has disabled."""
        off = {Stage(name) for name in self.disabled_stages}
        if self.embed_model_dir is None:
            off |= OPTIONAL_STAGES
        return frozenset(off if self.ocr_enabled else off | {Stage.OCR})
