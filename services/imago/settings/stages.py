"""The stages of the pipeline."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from imago.core.jobs.stages import Stage
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
    ocr_engine: Annotated[Literal["tesserocr", "pytesseract"], LowerCase] = "tesserocr"
    ocr_languages: str = Field("fra+eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$")
    ocr_half_scale: bool = False
    """Whether tesserocr reads pages with only large letters, such as scans at 300 dpi, at half size: half the CPU."""
    ocr_max_pages: int = Field(20, ge=1, le=1000)
    """How many pages of a TIFF file are read; none begins after half of `ocr_timeout`."""
    tessdata_dir: Path | None = None
    ocr_fallback: Annotated[Literal["none", "rapidocr", "ai"], LowerCase] = "none"
    ocr_fallback_confidence: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """Below this mean confidence of Tesseract the fallback engine reads the page too."""
    # `Settings.stage_timeout` finds the time limit of a stage by the name `<stage>_timeout`.
    thumbnail_timeout: Seconds = 60.0
    exif_timeout: Seconds = 30.0
    ocr_timeout: Seconds = 120.0
    vision_timeout: Seconds = 180.0

    @field_validator("disabled_stages")
    @classmethod
    def _known_stages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if Stage(name) is Stage.THUMBNAIL:
                raise ValueError("the thumbnail stage can't be disabled")
        return value

    @cached_property
    def stages_off(self) -> frozenset[Stage]:
        """The stages that this server has disabled."""
        off = {Stage(name) for name in self.disabled_stages}
        return frozenset(off if self.ocr_enabled else off | {Stage.OCR})
