"""The ocr stage."""

from pathlib import Path

from imago.database.work import Claim
from imago.domain.readings import choose
from imago.domain.results import OcrReading
from imago.domain.stages import Stage
from imago.workers.stages.base import Outcome, Tools


class OcrStage:
    """Reads the text in a child process, and where Tesseract is unsure a second time with another engine."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Read the text."""
        settings = self._tools.settings
        languages = list(claim.ocr_languages or settings.ocr_languages.split("+"))
        page = directory / "page.pgm"
        timeout = settings.stage_timeout(Stage.OCR)
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                "ocr",
                {
                    "source": str(source.absolute()),
                    "page": str(page),
                    "languages": languages,
                    "engine": settings.ocr_engine,
                    "tessdata_dir": str(settings.tessdata_dir) if settings.tessdata_dir else None,
                    "max_pixels": settings.max_image_pixels,
                },
                timeout=timeout,
            )
        readings = [OcrReading(**answer)]
        # A confidence of exactly 0 means that there was no word at all, and a second engine would find none either.
        if settings.ocr_fallback == "rapidocr" and 0 < readings[0].confidence < settings.ocr_fallback_confidence:
            second = await self._tools.children.run(
                "ocr_fallback", {"page": str(page), "languages": languages}, timeout=timeout
            )
            readings.append(OcrReading(**second))
        return Outcome(choose(readings))
