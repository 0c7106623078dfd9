"""The ocr stage."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from imago.core.ai_usage.model import CallContext, CallKind
from imago.core.images.ocr_result import choose_reading
from imago.core.images.results import OcrReading
from imago.core.images.vision import OcrInput, OcrProvider
from imago.core.jobs.claims import Claim
from imago.core.jobs.failures import StageFailure, Throttled, TransientFailure
from imago.telemetry import metrics
from imago.worker.stages.base import Outcome, Tools, call_context

log = structlog.get_logger(__name__)

# A provider that is to be back within this is worth waiting for; without it, there is Tesseract's reading.
_WORTH_WAITING = timedelta(minutes=5)


class OcrStage:
    """Reads the text in a child process, and where Tesseract is unsure a second time, by an engine or a provider."""

    def __init__(self, tools: Tools, reader: Callable[[CallContext], OcrProvider] | None = None) -> None:
        self._tools = tools
        self._reader = reader

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Read the text."""
        settings = self._tools.settings
        languages = list(claim.ocr_languages or settings.ocr_languages.split("+"))
        page = directory / "page.pgm"
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
                    "half_scale": settings.ocr_half_scale,
                },
                timeout=settings.ocr_timeout,
            )
        first = OcrReading(**answer)
        # A confidence of exactly 0 means that there was no word at all, and a second engine would find none either.
        if settings.ocr_fallback == "none" or not 0 < first.confidence < settings.ocr_fallback_confidence:
            return Outcome(choose_reading([first]))
        second = await self._again(claim, page, languages)
        if second is None:
            return Outcome(choose_reading([first]))
        result = choose_reading([first, second])
        metrics.OCR_FALLBACKS.labels("second" if result.chosen is second else "first").inc()
        return Outcome(result)

    async def _again(self, claim: Claim, page: Path, languages: list[str]) -> OcrReading | None:
        """Read the page a second time; None where there is no second reading to be had."""
        settings = self._tools.settings
        if self._reader is None:
            arguments = {"page": str(page), "languages": languages}
            answer = await self._tools.children.run("ocr_fallback", arguments, timeout=settings.ocr_timeout)
            return OcrReading(**answer)
        jpeg = page.with_suffix(".jpg")
        await self._tools.children.run(
            "page_for_provider",
            {"page": str(page), "target": str(jpeg), "max_side": settings.ai_page_side},
            timeout=settings.ocr_timeout,
        )
        reader = self._reader(call_context(claim, CallKind.OCR, settings))
        try:
            return await reader.read_text(OcrInput(await asyncio.to_thread(jpeg.read_bytes), tuple(languages)))
        except StageFailure as failure:
            if self._worth_trying_again(failure, claim):
                raise
            # There is a reading, if only a poor one; the provider's trouble must not cost it.
            log.info("no second reading", error_code=failure.code)
            metrics.OCR_FALLBACKS.labels("failed").inc()
            return None

    def _worth_trying_again(self, failure: StageFailure, claim: Claim) -> bool:
        if isinstance(failure, Throttled):
            return failure.delay <= _WORTH_WAITING
        return isinstance(failure, TransientFailure) and claim.attempts < self._tools.settings.worker_max_tries
