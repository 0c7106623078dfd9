"""The JSON shapes of the API (DESIGN, section 4), built from rows for `answers.json_answer`."""

from typing import Any

import orjson

from imago.core.images.queries import ImageRow, StageRow
from imago.core.jobs.dead_letters import DeadLetter
from imago.core.jobs.stages import Stage


def image_detail(image: ImageRow) -> dict[str, Any]:
    """Return the detail of an image; a list's items are the same."""
    return {
        "id": image.id,
        "uuid": str(image.uuid),
        "original_name": image.original_name,
        "content_type": image.content_type,
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "frames": image.frames,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "duplicate_of": image.duplicate_of,
        "created_at": image.created_at,
        "processing_status": str(image.status),
        "exif": exif(image),
        "ocr": ocr(image),
        "ai": ai(image),
        "user": {"description": image.user_description, "tags": image.user_tags},
    }


def exif(image: ImageRow) -> orjson.Fragment | None:
    """Return what the exif stage found, or None where there is no result yet."""
    return _as_kept(image.exif)


def ocr(image: ImageRow) -> orjson.Fragment | None:
    """Return the reading that the ocr stage chose, or None."""
    return _as_kept(image.ocr)


def ai(image: ImageRow) -> orjson.Fragment | None:
    """Return what the vision stage found, or None."""
    return _as_kept(image.vision)


def _as_kept(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)


def stage(row: StageRow) -> dict[str, Any]:
    """Return where a stage stands."""
    return {
        "status": str(row.status),
        "run": row.run,
        "attempts": row.attempts,
        "error_code": row.error_code,
        "error_text": row.error_text,
        "started_at": row.started_at,
        "done_at": row.done_at,
    }


def image_status(image: ImageRow, stages: dict[Stage, StageRow]) -> dict[str, Any]:
    """Return where an image and each of its stages stand."""
    return {
        "id": image.id,
        "status": str(image.status),
        "started_at": image.started_at,
        "done_at": image.done_at,
        "stages": {str(name): stage(row) for name, row in stages.items()},
    }


def dead_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter."""
    return {
        "id": letter.id,
        "client": str(letter.client),
        "image_id": letter.image_id,
        "image_uuid": str(letter.image_uuid),
        "stage": str(letter.stage),
        "run": letter.run,
        "lane": letter.lane,
        "attempts": letter.attempts,
        "error_code": letter.error_code,
        "error_text": letter.error_text,
        "created_at": letter.created_at,
        "replayed_at": letter.replayed_at,
    }
