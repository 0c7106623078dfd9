"""What the result of the ocr stage holds beside the chosen reading: all readings, and the words with their boxes."""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from imago.core.images.results import OcrReading, OcrResult
from imago.core.jobs.stages import Stage
from imago.db.engine import Database, RowScope
from imago.db.tables import stage_results


@dataclass(frozen=True)
class OcrDetails:
    """All readings of an image; its words as `ocr.words.encode_words` stored them, None for older results."""

    readings: tuple[OcrReading, ...]
    words: dict[str, Any] | None


async def read_ocr_details(db: Database, client_id: int, image_id: int) -> OcrDetails | None:
    """Return the details of a client's image, or None if its ocr stage has no result."""
    query = (
        sa.select(stage_results.c.data, stage_results.c.words)
        .where(
            stage_results.c.image_id == image_id,
            stage_results.c.client_id == client_id,
            stage_results.c.stage == Stage.OCR,
        )
        .order_by(stage_results.c.run.desc())
        .limit(1)
    )
    async with db.read(RowScope(client_id)) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return OcrDetails(OcrResult.from_json(row.data).readings, json.loads(row.words) if row.words else None)
