"""The schemas of answers: they document, and nothing else."""

from marshmallow import INCLUDE, Schema, fields, validate

from imago.core.ai_usage.text_tasks import Priority
from imago.core.jobs.stages import ImageStatus, StageStatus


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


class DeadLetterAnswer(Schema):
    """A run of a stage that ended without a result."""

    id = fields.Integer(required=True)
    client = fields.UUID(required=True)
    image_id = fields.Integer(required=True)
    image_uuid = fields.UUID(required=True)
    stage = fields.String(required=True)
    run = fields.Integer(required=True)
    lane = fields.String(required=True)
    attempts = fields.Integer(required=True)
    error_code = fields.String(required=True)
    error_text = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    replayed_at = fields.DateTime(required=True, allow_none=True)


class DeadLettersAnswer(Schema):
    """A page of dead letters."""

    items = fields.List(fields.Nested(DeadLetterAnswer), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ReplayAnswer(Schema):
    """What became of the dead letters that were to be replayed."""

    replayed = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    missing = fields.Integer(required=True)
    remaining = fields.Integer(required=True, metadata={"description": "Of the filter's, not reached by this request"})


class SummaryAnswer(Schema):
    """A summary of a page."""

    title = fields.String(required=True, allow_none=True, metadata={"example": "The old harbour"})
    url = fields.String(
        required=True,
        metadata={
            "description": "The URL that was read in the end, after redirects",
            "example": "https://example.com/harbour",
        },
    )
    language = fields.String(
        required=True,
        metadata={
            "description": "What the summary is written in (ISO 639-1): the language asked for, or the page's own "
            "where the provider can't translate; `und` where that is unknown",
            "example": "en",
        },
    )
    summary = fields.String(
        required=True, metadata={"example": "The old harbour wakes before sunrise, when the fishermen come home."}
    )
    model_used = fields.String(
        required=True,
        metadata={
            "description": "`offline/extractive`: sentences of the page, chosen and not rewritten",
            "example": "offline/extractive",
        },
    )


class TaskDraftAnswer(Schema):
    """A task made out of a few sentences."""

    title = fields.String(
        required=True,
        metadata={"example": "Migrate the photo archive to S3, then verify every checksum and delete the local copies"},
    )
    objective = fields.String(
        required=True,
        metadata={
            "example": "Please migrate the photo archive to S3, then verify every checksum and delete the local copies."
        },
    )
    steps = fields.List(
        fields.String(),
        required=True,
        metadata={"example": ["Migrate the photo archive to S3", "Verify every checksum", "Delete the local copies"]},
    )
    acceptance_criteria = fields.List(
        fields.String(),
        required=True,
        metadata={"example": ["It must be finished by Friday without data loss."]},
    )
    estimate = fields.String(required=True, metadata={"description": "In words", "example": "a day or two"})
    priority = fields.String(
        required=True,
        validate=validate.OneOf([str(priority) for priority in Priority]),
        metadata={"example": "high"},
    )
    tags = fields.List(
        fields.String(),
        required=True,
        metadata={"example": ["migrate", "photo", "archive", "verify", "checksum", "delete"]},
    )
    model_used = fields.String(
        required=True,
        metadata={
            "description": "`offline/draft`: made of the text's own sentences, by rules and no model",
            "example": "offline/draft",
        },
    )


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
