"""The thumbnail stage."""

from pathlib import Path

from imago.database.work import Claim
from imago.domain.images import thumbnail_key
from imago.domain.results import ThumbnailResult
from imago.domain.stages import Stage
from imago.workers.stages.base import Outcome, Tools


class ThumbnailStage:
    """Makes a thumbnail in a child process and puts it beside the original."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Make and store the thumbnail."""
        settings = self._tools.settings
        target = directory / "thumbnail"
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                "thumbnail",
                {
                    "source": str(source.absolute()),
                    "target": str(target),
                    "size": settings.thumbnail_size,
                    "format": settings.thumbnail_format,
                    "max_pixels": settings.max_image_pixels,
                },
                timeout=settings.stage_timeout(Stage.THUMBNAIL),
            )
        result = ThumbnailResult.from_json(answer)
        key = thumbnail_key(settings.s3_prefix, claim.image.client, claim.image.uuid)
        await self._tools.store.put(key, target, content_type=result.content_type)
        return Outcome(result, thumbnail_key=key)
