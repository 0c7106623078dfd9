"""The exif stage."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

from imago.core.images.lists.countries import country_name
from imago.core.images.results import Gps, Place
from imago.core.jobs.claims import Claim
from imago.geocoding.geocoder import Geocoder
from imago.imaging.metadata.reader import read_file
from imago.worker.stages.base import StageOutput, StageTools


class ExifStage:
    """Reads EXIF metadata from the few bytes of the original that contain it, and names the place.

    The reader is pure Python, so it runs in a thread instead of a child process.
    """

    def __init__(self, tools: StageTools) -> None:
        self._tools = tools

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Read the metadata."""
        reader = self._tools.settings.exif_reader
        exif = await self._tools.store.examine(claim.object_key, partial(read_file, reader=reader))
        if self._tools.geocoder is not None and exif.gps.has_gps:
            place = await asyncio.to_thread(
                find_place, self._tools.geocoder, exif.gps, language=claim.description_language
            )
            exif = replace(exif, place=place)
        return StageOutput(exif)


def find_place(geocoder: Geocoder, gps: Gps, *, language: str) -> Place | None:
    """Return the place of coordinates, with its country's name in a language."""
    if gps.latitude is None or gps.longitude is None:
        return None
    found = geocoder.place(gps.latitude, gps.longitude)
    if found is None:
        return None
    return Place(found.name, found.region, country_name(found.country, language), found.country)
