"""The vision stage."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from imago.core.ai_usage.model import CallContext, CallKind
from imago.core.images.results import ExifResult
from imago.core.images.vision import VisionInput, VisionProvider
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.imaging.exif import read_exif
from imago.imaging.preparation import PreparedImage
from imago.worker.stages.base import Outcome, Tools, call_context


class VisionStage:
    """Has a provider describe the image; reads EXIF itself, because stages don't wait for each other."""

    def __init__(self, tools: Tools, provider: Callable[[CallContext], VisionProvider]) -> None:
        self._tools = tools
        self._provider = provider

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Prepare the image in a child process, and have it described."""
        settings = self._tools.settings
        target = directory / "prepared.jpg"
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                "prepare_for_vision",
                {
                    "source": str(source.absolute()),
                    "target": str(target),
                    "max_side": settings.ai_image_side,
                    "max_pixels": settings.max_image_pixels,
                },
                timeout=settings.stage_timeout(Stage.VISION),
            )
            exif = await asyncio.to_thread(_read_exif, source)
        prepared = PreparedImage.from_json(answer)
        image = VisionInput(
            jpeg=await asyncio.to_thread(target.read_bytes),
            width=prepared.width,
            height=prepared.height,
            colours=prepared.colours,
            exif=exif,
            language=claim.description_language,
        )
        provider = self._provider(call_context(claim, CallKind.VISION, settings))
        return Outcome(await provider.describe(image))


def _read_exif(path: Path) -> ExifResult:
    with path.open("rb") as stream:
        return read_exif(stream)
