"""The thumbnail stage."""

from pathlib import Path

from imago.core.images.model import thumbnail_key
from imago.core.images.results import ThumbnailResult
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.worker.stages.base import StageOutput, StageTools
from imago.worker.stages.cpu import cpu_to_decode


async def store_thumbnail(
    tools: StageTools, original: str, target_key: str, directory: Path, *, pixels: int
) -> ThumbnailResult:
    """Make the thumbnail of a stored original in a child process and store it; `directory` is temporary.

    The CPU time is limited by the number of pixels.

    Raises StageFailure, ObjectMissing or StorageUnavailable.
    """
    settings = tools.settings
    target = directory / "thumbnail"
    async with tools.store.local_copy(original) as source:
        answer = await tools.children.run(
            "thumbnail",
            {
                "size": settings.thumbnail_size,
                "format": settings.thumbnail_format,
                "max_pixels": settings.max_image_pixels,
            },
            timeout=settings.stage_timeout(Stage.THUMBNAIL),
            reads={"source": source},
            writes={"target": target},
            cpu_seconds=cpu_to_decode(pixels, settings),
        )
    result = ThumbnailResult.from_json(answer)
    await tools.store.put(target_key, target, content_type=result.content_type)
    return result


class ThumbnailStage:
    """Stores a thumbnail beside the original."""

    def __init__(self, tools: StageTools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Make and store the thumbnail."""
        key = thumbnail_key(self._tools.settings.s3_prefix, claim.image.client, claim.image.uuid)
        made = await store_thumbnail(self._tools, claim.object_key, key, directory, pixels=claim.pixels)
        return StageOutput(made, thumbnail_key=key)
