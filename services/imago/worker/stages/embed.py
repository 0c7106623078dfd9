"""The embed stage."""

import base64
from pathlib import Path

from imago.core.images.results import EmbedResult
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.embedding.images import EMBED_IMAGE_TASK
from imago.worker.stages.base import StageOutput, StageTools
from imago.worker.stages.cpu import cpu_to_embed


class EmbedStage:
    """Embeds the image with the operator's model, in a child process."""

    def __init__(self, tools: StageTools) -> None:
        if tools.embedding is None:
            raise ValueError("the embed stage needs a model")
        self._tools = tools
        self._model = tools.embedding

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Embed the image."""
        settings = self._tools.settings
        async with self._tools.store.local_copy(claim.object_key) as source:
            answer = await self._tools.children.run(
                EMBED_IMAGE_TASK,
                {"model": self._model.arguments(), "max_pixels": settings.max_image_pixels},
                timeout=settings.stage_timeout(Stage.EMBED),
                reads={"source": source},
                cpu_seconds=cpu_to_embed(claim.pixels, settings),
            )
        config = self._model.config
        vector = base64.b64decode(answer["vector"])
        return StageOutput(EmbedResult(config.name, self._model.fingerprint, answer["truncated"], vector))
