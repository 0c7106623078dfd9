"""The exif stage."""

from functools import partial
from pathlib import Path

from imago.core.jobs.claims import Claim
from imago.imaging.exif import read_exif
from imago.worker.stages.base import Outcome, Tools


class ExifStage:
    """Reads EXIF from the few bytes of the original that hold it; pure Python, so in a thread and not in a child."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Read what EXIF says."""
        reader = self._tools.settings.exif_reader
        return Outcome(await self._tools.store.examine(claim.object_key, partial(read_exif, reader=reader)))
