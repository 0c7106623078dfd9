"""The schemas of requests and answers, as marshmallow has them; they validate the former and document both."""

from datetime import datetime
from typing import Any
from uuid import UUID

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, validate, validates_schema

from imago.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from imago.domain.clients import PIPELINE_STAGES, Plan
from imago.domain.scopes import TENANT_SCOPES
from imago.domain.stages import STAGES, ImageStatus, StageStatus
from imago.domain.tags import MAX_TAG_LENGTH, MAX_TAGS

_MAX_BIGINT = 2**63 - 1
_MAX_DESCRIPTION = 10_000
_MAX_CURSOR = 512


class _Strict(Schema):
    class Meta:
        unknown = RAISE


def _printable(text: str) -> None:
    # PostgreSQL stores no NUL, UTF-8 no half of a surrogate pair.
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValidationError("Must not hold NUL or surrogates.")


def _one_line(text: str) -> None:
    if "\n" in text:
        raise ValidationError("Must be one line.")


def _pattern(pattern: str) -> list[Any]:
    # JSON Schema's `$` is the end of the text, Python's also stands before a last newline.
    return [validate.Regexp(pattern), _one_line]


def _text(length: int, *, least: int = 0, **options: Any) -> fields.String:
    return fields.String(validate=[validate.Length(min=least, max=length), _printable], **options)


class LocalTime(fields.NaiveDateTime):
    """A camera-local time: ISO 8601 without an offset."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value, attr, data, **kwargs)
        if moment.tzinfo is not None:
            raise ValidationError("Must not have an offset: it is the camera's local time.")
        return moment


class PageQuery(_Strict):
    """The paging of every list."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT, validate=validate.Range(min=1, max=MAX_LIMIT), metadata={"description": "Page size"}
    )
    cursor = _text(_MAX_CURSOR, least=1, metadata={"description": "`next_cursor` of the page before"})


class ImageQuery(PageQuery):
    """The filters of a list of images; all that are given must hold."""

    status = fields.String(validate=validate.OneOf([str(status) for status in ImageStatus]))
    tag = _text(MAX_TAG_LENGTH * 4, least=1, metadata={"description": "A tag of the model's or of a person's"})
    q = _text(
        500, least=1, metadata={"description": "Words of the name, the text or a description; the last may be begun"}
    )
    camera = _text(200, least=1, metadata={"description": "A part of make and model"})
    taken_from = LocalTime(metadata={"description": "Camera-local time, inclusive"})
    taken_to = LocalTime(metadata={"description": "Camera-local time, inclusive"})
    has_gps = fields.Boolean(truthy={"true"}, falsy={"false"})
    sha256 = fields.String(validate=_pattern(r"^[0-9a-f]{64}$"))
    created_from = fields.AwareDateTime(default_timezone=None, metadata={"description": "With offset, inclusive"})
    created_to = fields.AwareDateTime(default_timezone=None, metadata={"description": "With offset, inclusive"})


class ReprocessBody(_Strict):
    """Which stages to run again; without `stages`, those of the client's pipeline."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in STAGES])),
        validate=validate.Length(min=1, max=len(STAGES)),
    )


class UserWordsBody(_Strict):
    """A person's own words on an image; null clears."""

    description = _text(_MAX_DESCRIPTION, allow_none=True)
    tags = fields.List(_text(MAX_TAG_LENGTH, least=1), validate=validate.Length(max=MAX_TAGS), allow_none=True)

    @validates_schema
    def _names_something(self, data: dict[str, Any], **_: Any) -> None:
        # An empty body is a mistake (a wrong content type, say), not a wish to change nothing.
        if not data:
            raise ValidationError("Name `description`, `tags` or both.")


class PipelineBody(_Strict):
    """What is done with a client's images."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in PIPELINE_STAGES])),
        validate=validate.Length(min=1, max=len(PIPELINE_STAGES)),
    )
    ocr_languages = fields.List(
        fields.String(validate=_pattern(r"^[a-z]{3}(_[a-z]{2,8})?$")), validate=validate.Length(max=8)
    )
    description_language = fields.String(validate=_pattern(r"^[a-z]{2}$"))


class LimitsBody(_Strict):
    """Limits that differ from the plan's."""

    requests_per_minute = fields.Integer(strict=True, validate=validate.Range(min=1, max=10_000_000))
    burst = fields.Integer(strict=True, validate=validate.Range(min=1, max=10_000_000))
    storage_bytes = fields.Integer(strict=True, validate=validate.Range(min=0, max=_MAX_BIGINT))
    images = fields.Integer(strict=True, validate=validate.Range(min=0, max=_MAX_BIGINT))
    ai_calls_per_month = fields.Integer(strict=True, validate=validate.Range(min=0, max=_MAX_BIGINT))


class NewClientBody(_Strict):
    """A client to create."""

    name = _text(200, least=1, required=True)
    plan = fields.String(required=True, validate=validate.OneOf([str(plan) for plan in Plan]))
    scopes = fields.List(fields.String(validate=validate.OneOf(sorted(str(scope) for scope in TENANT_SCOPES))))
    limits = fields.Nested(LimitsBody)
    pipeline = fields.Nested(PipelineBody)


class CameraAnswer(Schema):
    """The camera and its exposure."""

    make = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    lens = fields.String(allow_none=True)
    iso = fields.Integer(allow_none=True)
    aperture = fields.String(allow_none=True, metadata={"example": "f/2.8"})
    shutter_speed = fields.String(allow_none=True, metadata={"example": "1/250"})
    focal_length = fields.String(allow_none=True, metadata={"example": "50mm"})
    taken_at = fields.String(
        allow_none=True, metadata={"description": "The camera's local time, with its offset only where EXIF has one"}
    )


class GpsAnswer(Schema):
    """The place."""

    latitude = fields.Float(allow_none=True)
    longitude = fields.Float(allow_none=True)
    altitude = fields.Float(allow_none=True, metadata={"description": "Metres above sea level"})
    has_gps = fields.Boolean(required=True)
    maps_url = fields.String(allow_none=True)


class ExifData(Schema):
    """What EXIF says."""

    camera = fields.Nested(CameraAnswer, required=True)
    gps = fields.Nested(GpsAnswer, required=True)


class OcrData(Schema):
    """The text that was read."""

    has_text = fields.Boolean(required=True)
    text = fields.String(required=True)
    language = fields.String(allow_none=True, metadata={"description": "ISO 639-1"})
    confidence = fields.Float(required=True, metadata={"description": "The words' mean, 0 to 1"})
    engine = fields.String(required=True)


class AiData(Schema):
    """What the vision model says."""

    description = fields.String(required=True)
    tags = fields.List(fields.String(), required=True)
    confidence = fields.Float(required=True)
    model_used = fields.String(required=True)


class UserData(Schema):
    """A person's own words."""

    description = fields.String(allow_none=True)
    tags = fields.List(fields.String(), allow_none=True)


class ImageAnswer(Schema):
    """An image in detail."""

    id = fields.Integer(required=True)
    uuid = fields.UUID(required=True)
    original_name = fields.String(required=True)
    content_type = fields.String(required=True)
    format = fields.String(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    frames = fields.Integer(required=True)
    size_bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    duplicate_of = fields.Integer(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    processing_status = fields.String(required=True, validate=validate.OneOf([str(status) for status in ImageStatus]))
    exif = fields.Nested(ExifData, required=True, allow_none=True)
    ocr = fields.Nested(OcrData, required=True, allow_none=True)
    ai = fields.Nested(AiData, required=True, allow_none=True)
    user = fields.Nested(UserData, required=True)


class QuotaData(Schema):
    """What a client stores, thumbnails included, and what it may."""

    storage_used_bytes = fields.Integer(required=True)
    storage_limit_bytes = fields.Integer(required=True)
    images_used = fields.Integer(required=True)
    images_limit = fields.Integer(required=True)


class ImagesAnswer(Schema):
    """A page of images."""

    items = fields.List(fields.Nested(ImageAnswer), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    quota = fields.Nested(QuotaData, required=True)


class StageAnswer(Schema):
    """Where a stage stands."""

    status = fields.String(required=True, validate=validate.OneOf([str(status) for status in StageStatus]))
    run = fields.Integer(required=True)
    attempts = fields.Integer(required=True)
    error_code = fields.String(required=True, allow_none=True)
    error_text = fields.String(required=True, allow_none=True)
    started_at = fields.DateTime(required=True, allow_none=True)
    done_at = fields.DateTime(required=True, allow_none=True)


class StagesData(Schema):
    """Where all stages stand."""

    thumbnail = fields.Nested(StageAnswer, required=True)
    exif = fields.Nested(StageAnswer, required=True)
    ocr = fields.Nested(StageAnswer, required=True)
    vision = fields.Nested(StageAnswer, required=True)


class StatusAnswer(Schema):
    """Where an image stands."""

    id = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf([str(status) for status in ImageStatus]))
    started_at = fields.DateTime(required=True, allow_none=True)
    done_at = fields.DateTime(required=True, allow_none=True)
    stages = fields.Nested(StagesData, required=True)


class ExifAnswer(Schema):
    """What the exif stage found."""

    stage_status = fields.String(required=True)
    exif = fields.Nested(ExifData, required=True, allow_none=True)


class OcrAnswer(Schema):
    """What the ocr stage found."""

    stage_status = fields.String(required=True)
    ocr = fields.Nested(OcrData, required=True, allow_none=True)


class AiAnswer(Schema):
    """What the vision stage found."""

    stage_status = fields.String(required=True)
    ai = fields.Nested(AiData, required=True, allow_none=True)


class UploadAnswer(Schema):
    """An accepted upload."""

    id = fields.Integer(required=True)
    uuid = fields.UUID(required=True)
    original_name = fields.String(required=True)
    status = fields.String(required=True)
    duplicate_of = fields.Integer(required=True, allow_none=True)
    message = fields.String(required=True)


class UrlAnswer(Schema):
    """A URL that opens an object for a while."""

    url = fields.String(required=True)
    expires_at = fields.DateTime(required=True)


class TagAnswer(Schema):
    """A tag and how many images have it."""

    tag = fields.String(required=True)
    count = fields.Integer(required=True)


class TagsAnswer(Schema):
    """A page of tags."""

    items = fields.List(fields.Nested(TagAnswer), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class LimitsAnswer(Schema):
    """A client's limits."""

    requests_per_minute = fields.Integer(required=True)
    burst = fields.Integer(required=True)
    storage_bytes = fields.Integer(required=True)
    images = fields.Integer(required=True)
    ai_calls_per_month = fields.Integer(required=True)


class PipelineAnswer(Schema):
    """What is done with a client's images."""

    stages = fields.List(fields.String(), required=True)
    ocr_languages = fields.List(fields.String(), required=True)
    description_language = fields.String(required=True)


class ClientAnswer(Schema):
    """A client as administrators see it."""

    id = fields.Integer(required=True)
    uuid = fields.UUID(required=True)
    name = fields.String(required=True)
    plan = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    limits = fields.Nested(LimitsAnswer, required=True)
    lane = fields.String(required=True)
    pipeline = fields.Nested(PipelineAnswer, required=True)
    active = fields.Boolean(required=True)
    managed_by = fields.String(required=True, allow_none=True)
    owner = fields.String(required=True, allow_none=True)


class NewClientAnswer(ClientAnswer):
    """A client that was created, with its key: the only time it is shown."""

    api_key = fields.String(required=True)


class ClientName(Schema):
    """Which client a key belongs to."""

    uuid = fields.UUID(required=True)
    name = fields.String(required=True)


class UsageData(Schema):
    """What a client uses now."""

    storage_bytes = fields.Integer(required=True)
    images = fields.Integer(required=True)
    ai_calls_this_month = fields.Integer(required=True)


class MeAnswer(Schema):
    """The client a key belongs to, and what it may."""

    client = fields.Nested(ClientName, required=True)
    plan = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    limits = fields.Nested(LimitsAnswer, required=True)
    quota = fields.Nested(QuotaData, required=True)
    usage = fields.Nested(UsageData, required=True)


class ProblemAnswer(Schema):
    """A refusal (RFC 9457); `code` is stable, and some codes bring members of their own."""

    class Meta:
        unknown = INCLUDE

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True)
    detail = fields.String(required=True)


class HealthAnswer(Schema):
    """Whether the process lives, or is ready."""

    status = fields.String(required=True)


class PartAnswer(Schema):
    """Whether a part answers."""

    ok = fields.Boolean(required=True)
    seconds = fields.Float(required=True)
    error = fields.String(allow_none=True)


class DetailedHealthAnswer(Schema):
    """Whether each part answers."""

    status = fields.String(required=True)
    version = fields.String(required=True)
    parts = fields.Dict(keys=fields.String(), values=fields.Nested(PartAnswer), required=True)


class RootAnswer(Schema):
    """What this is."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    docs = fields.String(required=True)
    openapi = fields.String(required=True)


def image_ref(text: str) -> int | UUID | None:
    """Return the id or uuid that a path names an image by; None where it is neither."""
    if text.isascii() and text.isdigit():
        number = int(text[:20])
        return number if 0 < number <= _MAX_BIGINT else None
    try:
        ref = UUID(text)
    except ValueError:
        return None
    return ref if str(ref) == text.lower() else None
