"""The vision stage."""

import asyncio
from dataclasses import replace
from pathlib import Path

from imago.core.ai_usage.model import CallKind
from imago.core.images.results import ExifResult
from imago.core.images.vision import VisionInput
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.imaging.metadata.reader import read_file
from imago.imaging.preparation import PreparedImage
from imago.telemetry import metrics
from imago.worker.stages.base import StageOutput, StageTools, call_context
from imago.worker.stages.cpu import cpu_to_decode


class VisionStage:
    """Lets a provider describe the image.

    It reads EXIF metadata itself, because stages do not wait for each other. The offline recognition runs whichever
    provider describes the image, because search and comparison use what it finds.
    """

    def __init__(self, tools: StageTools) -> None:
        if tools.vision is None or tools.recognizer is None:
            raise ValueError("the vision stage needs a provider and a recognizer")
        self._tools = tools
        self._provider = tools.vision
        self._recognizer = tools.recognizer

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Prepare the image in a child process and call the provider."""
        provider = self._provider(call_context(claim, CallKind.VISION, self._tools.settings))
        prepared, image = await self._prepare(claim, directory / "prepared.jpg")
        result = await provider.describe(image)
        found = image.recognition
        score = found.moderation_score if found else None
        if score is not None:
            metrics.MODERATION_SCORES.observe(score)
        result = replace(result, truncated=prepared.truncated, moderation_score=score)
        return StageOutput(result, recognition=found)

    async def _prepare(self, claim: Claim, target: Path) -> tuple[PreparedImage, VisionInput]:
        settings = self._tools.settings
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                "prepare_for_vision",
                {"max_side": settings.vision_side, "max_pixels": settings.max_image_pixels},
                timeout=settings.stage_timeout(Stage.VISION),
                reads={"source": source},
                writes={"target": target},
                cpu_seconds=cpu_to_decode(claim.pixels, settings),
            )
            exif = await asyncio.to_thread(_read_exif, source)
        prepared = PreparedImage.from_json(answer)
        jpeg = await asyncio.to_thread(target.read_bytes)
        image = VisionInput(
            jpeg=jpeg,
            width=prepared.width,
            height=prepared.height,
            exif=exif,
            language=claim.description_language,
            recognition=await self._recognizer.recognize(jpeg),
        )
        return prepared, image


def _read_exif(path: Path) -> ExifResult:
    with path.open("rb") as stream:
        return read_file(stream)
