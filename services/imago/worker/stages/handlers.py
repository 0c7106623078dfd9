"""The handler of each stage."""

from collections.abc import Callable, Mapping

from imago.core.jobs.stages import Stage
from imago.worker.stages.base import StageHandler, StageTools
from imago.worker.stages.embed import EmbedStage
from imago.worker.stages.exif import ExifStage
from imago.worker.stages.ocr import OcrStage
from imago.worker.stages.thumbnail import ThumbnailStage
from imago.worker.stages.vision import VisionStage

HANDLERS: Mapping[Stage, Callable[[StageTools], StageHandler]] = {
    Stage.THUMBNAIL: ThumbnailStage,
    Stage.EXIF: ExifStage,
    Stage.OCR: OcrStage,
    Stage.VISION: VisionStage,
    Stage.EMBED: EmbedStage,
}
