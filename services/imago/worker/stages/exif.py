"""The exif stage."""

from functools import partial
from pathlib import Path

from imago.core.jobs.claims import Claim
from imago.imaging.metadata import read_file
from imago.worker.stages.base import StageOutput, StageTools


class ExifStage:
    """Reads EXIF metadata from the few bytes of the original that contain it.

    The reader is pure Python, so it runs in a thread instead of a child process.
    """

    def __init__(self, tools: StageTools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Read the metadata."""
        reader = self._tools.settings.exif_reader
        return StageOutput(await self._tools.store.examine(claim.object_key, partial(read_file, reader=reader)))
