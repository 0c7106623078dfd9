"""Responses about images."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, cast
from uuid import UUID

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from imago.api.http.json import StoredJson
from imago.api.http.paging import next_cursor
from imago.api.images.sort_cursors import encode_position
from imago.api.images.stage_texts import localized
from imago.core.clients.model import Limits
from imago.core.clients.quotas import QuotaUsage, quota_usage
from imago.core.images.lists.similar import Likeness
from imago.core.images.lists.sorting import Sort
from imago.core.images.ocr.details import OcrDetails
from imago.core.images.queries import ImageRow, Page, SortedPage, StageRow
from imago.core.images.results import ExifResult, OcrReading, VisionResult
from imago.core.images.search.pages import SearchPage, Tier
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus

# The results of stages are sent as the JSON text that the database stores.
StoredExif = Annotated[orjson.Fragment, StoredJson(ExifResult)]
StoredReading = Annotated[orjson.Fragment, StoredJson(OcrReading)]
StoredVision = Annotated[orjson.Fragment, StoredJson(VisionResult)]


class UserWordsResponse(TypedDict):
    """The user's own description and tags, kept apart from the model's."""

    description: str | None
    tags: list[str] | None


class UrlsResponse(TypedDict):
    """Signed URLs of an image's objects, which need no key until they expire."""

    thumbnail: str | None
    """Null until the thumbnail is made."""
    original: str


class ImageResponse(TypedDict):
    """An image with the results of its stages; a result is null until its stage is done."""

    id: int
    uuid: UUID
    original_name: str
    content_type: str
    format: str
    width: int
    """Pixels, before the EXIF orientation is applied."""
    height: int
    """Pixels, before the EXIF orientation is applied."""
    frames: int
    size_bytes: int
    sha256: str
    duplicate_of: int | None
    """The id of an earlier image of this client with the same bytes."""
    created_at: datetime
    processing_status: ImageStatus
    exif: StoredExif | None
    ocr: StoredReading | None
    ai: StoredVision | None
    user: UserWordsResponse
    urls: NotRequired[UrlsResponse]
    """Present with `include=urls`."""
    match: NotRequired[Literal["text", "meaning"]]
    """Present with `q`: whether the image's words match it (`text`), or what is recognized in the image (`meaning`)."""


class ImagesResponse(TypedDict):
    """A page of images."""

    items: list[ImageResponse]
    next_cursor: str | None
    quota: QuotaUsage
    total: NotRequired[int]
    """Present with `total=true`: the number of images that match all filters; with `q`, those with its words."""
    total_exact: NotRequired[bool]
    """Present with `total=true`: false if counting filtered images ended at 100,000, so that there may be more."""


class SimilarImageResponse(TypedDict):
    """An image that looks like another one."""

    id: int
    uuid: UUID
    original_name: str
    created_at: datetime
    same_picture: bool
    """Whether the hashes say that it is the same picture, encoded, scaled or edited a little."""
    score: float
    """0 to 1, by which look-alikes are ordered."""
    different_bits: int | None
    """How many of the 64 bits of the perceptual hashes differ, if at most 8 do."""
    cosine: float | None
    """The cosine of the features, if it is at least 0.85."""


class SimilarImagesResponse(TypedDict):
    """Images that look like another one, the most similar first."""

    items: list[SimilarImageResponse]


class StageStateResponse(TypedDict):
    """The state of a stage of an image."""

    status: StageStatus
    run: int
    """How many times the stage has been requested."""
    attempts: int
    """How many times the current run has been attempted."""
    error_code: str | None
    error_text: str | None
    """For people, in the client's description language if that is French, else in English."""
    started_at: datetime | None
    done_at: datetime | None


class StatusResponse(TypedDict):
    """The processing status of an image."""

    id: int
    status: ImageStatus
    started_at: datetime | None
    done_at: datetime | None
    stages: Annotated[dict[str, StageStateResponse], Field(json_schema_extra={"propertyNames": {"enum": [*Stage]}})]
    """The state of each stage, by its name."""
    similar_to: NotRequired[list[int]]
    """Present with `include=similar_to`: at most 10 images of most likely the same picture, once the thumbnail is made.

    It is advice: nothing is merged or deleted.
    """


class ExifResponse(TypedDict):
    """The result of the exif stage."""

    stage_status: StageStatus
    exif: StoredExif | None


class WordResponse(TypedDict):
    """A word and its box, in pixels of the upright picture, from its top left corner."""

    text: str
    left: int
    top: int
    width: int
    height: int
    confidence: float
    """0 to 1"""


class WordPageResponse(TypedDict):
    """The words of a page in their reading order, and the size in pixels of its upright picture."""

    width: int
    height: int
    words: list[WordResponse]


class WordsResponse(TypedDict):
    """The words that the first reading found, and its engine; a second reading by `OCR_FALLBACK` has none."""

    engine: str
    pages: list[WordPageResponse]
    truncated: bool
    """Whether words are missing here, because there are more than 5,000 or their data is larger than 256 KB."""


class OcrResponse(TypedDict):
    """The result of the ocr stage."""

    stage_status: StageStatus
    ocr: StoredReading | None
    readings: NotRequired[list[OcrReading]]
    """All readings, with `include=readings`; `ocr` is one of them, or is put together from them page by page."""
    words: NotRequired[WordsResponse | None]
    """With `include=words`; null without text, and for results of releases that did not store words."""


class AiResponse(TypedDict):
    """The result of the vision stage."""

    stage_status: StageStatus
    ai: StoredVision | None


class SignedUrlResponse(TypedDict):
    """A URL of a stored object that needs no key until it expires."""

    url: str
    expires_at: datetime


class TagResponse(TypedDict):
    """A tag and the number of images that have it."""

    tag: str
    count: int


class TagsResponse(TypedDict):
    """A page of tags."""

    items: list[TagResponse]
    next_cursor: str | None


def image_response(image: ImageRow) -> ImageResponse:
    """Return an image, as it is and as an item of a list."""
    return {
        "id": image.id,
        "uuid": image.uuid,
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
        "processing_status": image.status,
        "exif": _stored(image.exif),
        "ocr": _stored(image.ocr),
        "ai": _stored(image.vision),
        "user": {"description": image.user_description, "tags": image.user_tags},
    }


def images_response(page: Page, items: list[ImageResponse], limits: Limits) -> ImagesResponse:
    """Return a page of images, which are `items`, with the client's quota."""
    return {
        "items": items,
        "next_cursor": next_cursor(page.next_before),
        "quota": quota_usage(page.usage, limits),
    }


def sorted_response(page: SortedPage, items: list[ImageResponse], limits: Limits, *, sort: Sort) -> ImagesResponse:
    """Return a page of images in another order, which are `items`, with the client's quota."""
    return {
        "items": items,
        "next_cursor": encode_position(sort, page.next_after),
        "quota": quota_usage(page.usage, limits),
    }


def search_response(page: SearchPage, items: list[ImageResponse], limits: Limits) -> ImagesResponse:
    """Return a page of a search, which are `items`, each with its match, and the client's quota."""
    for item, hit in zip(items, page.hits, strict=True):
        item["match"] = "meaning" if hit.tier is Tier.MEANING else "text"
    return {
        "items": items,
        "next_cursor": next_cursor(None if page.next_after is None else [*page.next_after]),
        "quota": quota_usage(page.usage, limits),
    }


def similar_response(found: Sequence[tuple[ImageRow, Likeness]]) -> SimilarImagesResponse:
    """Return look-alikes in their order."""
    return {
        "items": [
            {
                "id": image.id,
                "uuid": image.uuid,
                "original_name": image.original_name,
                "created_at": image.created_at,
                "same_picture": likeness.same_picture,
                "score": likeness.score,
                "different_bits": likeness.bits,
                "cosine": likeness.cosine,
            }
            for image, likeness in found
        ]
    }


def status_response(image: ImageRow, stages: Mapping[Stage, StageRow], *, language: str) -> StatusResponse:
    """Return the status of an image and of each of its stages, with errors in a client's language."""
    return {
        "id": image.id,
        "status": image.status,
        "started_at": image.started_at,
        "done_at": image.done_at,
        "stages": {stage.value: _stage_state(row, language) for stage, row in stages.items()},
    }


def exif_response(image: ImageRow, stages: Mapping[Stage, StageRow]) -> ExifResponse:
    """Return the result of the exif stage."""
    return {"stage_status": stages[Stage.EXIF].status, "exif": _stored(image.exif)}


def ocr_response(image: ImageRow, stages: Mapping[Stage, StageRow]) -> OcrResponse:
    """Return the result of the ocr stage."""
    return {"stage_status": stages[Stage.OCR].status, "ocr": _stored(image.ocr)}


def ocr_details(details: OcrDetails | None, include: Sequence[str]) -> OcrResponse:
    """Return the part of the response that `include` asks for."""
    parts: dict[str, object] = {
        "readings": [] if details is None else list(details.readings),
        "words": None if details is None or details.words is None else _words(details.words),
    }
    return cast(OcrResponse, {name: parts[name] for name in include})


def _words(stored: dict[str, Any]) -> WordsResponse:
    names = ("text", "left", "top", "width", "height")
    return {
        "engine": stored["engine"],
        "pages": [
            {
                "width": width,
                "height": height,
                "words": [
                    cast(WordResponse, {**dict(zip(names, row, strict=False)), "confidence": row[5] / 100})
                    for row in rows
                ],
            }
            for width, height, rows in stored["pages"]
        ],
        "truncated": stored["truncated"],
    }


def ai_response(image: ImageRow, stages: Mapping[Stage, StageRow]) -> AiResponse:
    """Return the result of the vision stage."""
    return {"stage_status": stages[Stage.VISION].status, "ai": _stored(image.vision)}


def tags_response(tags: Sequence[tuple[str, int]], *, limit: int) -> TagsResponse:
    """Return a page of `limit` pairs of tag and count; one more pair means that another page follows."""
    shown = tags[:limit]
    last = None
    if len(tags) > limit:
        tag, count = shown[-1]
        last = [count, tag]
    return {"items": [{"tag": tag, "count": count} for tag, count in shown], "next_cursor": next_cursor(last)}


def _stage_state(row: StageRow, language: str) -> StageStateResponse:
    return {
        "status": row.status,
        "run": row.run,
        "attempts": row.attempts,
        "error_code": row.error_code,
        "error_text": localized(row.error_code, row.error_text, language=language),
        "started_at": row.started_at,
        "done_at": row.done_at,
    }


def _stored(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)
