"""The ocr stage."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import structlog

from imago.core.ai_usage.model import CallKind
from imago.core.images.ocr.result import choose_reading
from imago.core.images.results import OcrReading, OcrResult
from imago.core.images.vision import OcrInput
from imago.core.jobs.claims import Claim
from imago.core.jobs.failures import StageFailure, Throttled, TransientFailure
from imago.imaging.ocr.document_reading import DocumentReading
from imago.telemetry import metrics
from imago.worker.stages.base import StageOutput, StageTools, call_context
from imago.worker.stages.cpu import cpu_to_read

log = structlog.get_logger(__name__)

# A throttled provider is retried if its pause is at most this long. Otherwise the first reading is the result.
_MAX_PROVIDER_PAUSE = timedelta(minutes=5)


class OcrStage:
    """Reads the text in a child process; if its confidence is low, another engine or a provider reads it again."""

    def __init__(self, tools: StageTools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Read the text."""
        result = await self._read(claim, directory)
        metrics.OCR_READINGS.labels(result.chosen.engine).inc()
        return StageOutput(result)

    async def _read(self, claim: Claim, directory: Path) -> OcrResult:
        settings = self._tools.settings
        languages = list(claim.ocr_languages or settings.ocr_languages.split("+"))
        page = directory / "page.pgm"
        first = await self._read_first(claim, page, languages)
        if not self._is_poor(first):
            return first.result
        second = await self._read_again(claim, page, languages)
        if second is None:
            return first.result
        again = replace(second, truncated=first.chosen.truncated)
        result = replace(choose_reading([*first.result.readings, again]), words=first.result.words)
        metrics.OCR_FALLBACKS.labels("second" if result.chosen is again else "first").inc()
        return result

    def _is_poor(self, first: DocumentReading) -> bool:
        """Return whether a fallback could read more. It would read only the first page of several."""
        settings, chosen = self._tools.settings, first.chosen
        if settings.ocr_fallback == "none" or chosen.pages != 1:
            return False
        # These engines have read a poor page with PP-OCRv6 already.
        if settings.ocr_fallback == "rapidocr" and settings.ocr_engine in ("auto", "rapidocr"):
            return False
        return (first.has_lines or chosen.confidence > 0) and chosen.confidence < settings.ocr_fallback_confidence

    async def _read_first(self, claim: Claim, page: Path, languages: list[str]) -> DocumentReading:
        """Read the original, and write its first page for a second reading."""
        settings = self._tools.settings
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                "ocr",
                {
                    "languages": languages,
                    "engine": settings.ocr_engine,
                    "tessdata_dir": str(settings.tessdata_dir) if settings.tessdata_dir else None,
                    "max_pixels": settings.max_image_pixels,
                    "max_pages": settings.ocr_max_pages,
                    # Later pages must not cost the text of the earlier ones.
                    "seconds": settings.ocr_timeout / 2,
                    "half_scale": settings.ocr_half_scale,
                },
                timeout=settings.ocr_timeout,
                reads={"source": source},
                writes={"page": page},
                cpu_seconds=cpu_to_read(claim, settings),
            )
        return DocumentReading.from_json(answer)

    async def _read_again(self, claim: Claim, page: Path, languages: list[str]) -> OcrReading | None:
        """Read the page a second time; return None if the provider fails."""
        if self._tools.ocr is None:
            timeout = self._tools.settings.ocr_timeout
            answer = await self._tools.children.run(
                "ocr_fallback", {"languages": languages}, timeout=timeout, reads={"page": page}
            )
            return OcrReading(**answer)
        reader = self._tools.ocr(call_context(claim, CallKind.OCR, self._tools.settings))
        jpeg = await self._encode_page(page)
        try:
            return await reader.read_text(OcrInput(jpeg, tuple(languages)))
        except StageFailure as failure:
            if self._is_worth_retrying(failure, claim):
                raise
            # A poor first reading is better than a dead stage.
            log.info("ocr.second-reading-failed", error_code=failure.code)
            metrics.OCR_FALLBACKS.labels("failed").inc()
            return None

    async def _encode_page(self, page: Path) -> bytes:
        """Encode a page as a JPEG for a provider, in a child process."""
        settings, target = self._tools.settings, page.with_suffix(".jpg")
        await self._tools.children.run(
            "page_for_provider",
            {"max_side": settings.ai_page_side},
            timeout=settings.ocr_timeout,
            reads={"page": page},
            writes={"target": target},
        )
        return await asyncio.to_thread(target.read_bytes)

    def _is_worth_retrying(self, failure: StageFailure, claim: Claim) -> bool:
        if isinstance(failure, Throttled):
            return failure.delay <= _MAX_PROVIDER_PAUSE
        return isinstance(failure, TransientFailure) and claim.attempts < self._tools.settings.worker_max_tries
