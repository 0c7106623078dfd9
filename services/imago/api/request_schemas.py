"""The schemas of requests, as marshmallow has them: they validate and document."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from imago.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from imago.core.images.tags import MAX_TAG_LENGTH, MAX_TAGS
from imago.core.jobs.stages import STAGES, ImageStatus
from imago.web.urls import MAX_URL_LENGTH

MAX_BIGINT = 2**63 - 1
_MAX_DESCRIPTION = 10_000
_MAX_CONTEXT = 20_000
_MAX_CURSOR = 512


class Strict(Schema):
    """Refuses members it doesn't know: a misspelt one would silently do nothing."""

    class Meta:
        unknown = RAISE


def _printable(text: str) -> None:
    # PostgreSQL stores no NUL, UTF-8 no half of a surrogate pair.
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValidationError("Must not hold NUL or surrogates.")


def _one_line(text: str) -> None:
    if "\n" in text:
        raise ValidationError("Must be one line.")


def matching(pattern: str) -> list[Any]:
    """Return validators for one line of a pattern."""
    # JSON Schema's `$` is the end of the text, Python's also stands before a last newline.
    return [validate.Regexp(pattern), _one_line]


def text_field(length: int, *, least: int = 0, **options: Any) -> fields.String:
    """Return a field of text that every database and encoding can hold; lengths are in characters."""
    return fields.String(validate=[validate.Length(min=least, max=length), _printable], **options)


class LocalTime(fields.NaiveDateTime):
    """A camera-local time: ISO 8601 without an offset."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value, attr, data, **kwargs)
        if moment.tzinfo is not None:
            raise ValidationError("Must not have an offset: it is the camera's local time.")
        return moment


class Moment(fields.AwareDateTime):
    """A moment: RFC 3339 with an offset, brought to UTC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=None, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value.upper() if isinstance(value, str) else value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None


class PageQuery(Strict):
    """The paging of every list."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT, validate=validate.Range(min=1, max=MAX_LIMIT), metadata={"description": "Page size"}
    )
    cursor = text_field(_MAX_CURSOR, least=1, metadata={"description": "`next_cursor` of the page before"})


class ImageQuery(PageQuery):
    """The filters of a list of images; all that are given must hold."""

    status = fields.String(validate=validate.OneOf([str(status) for status in ImageStatus]))
    tag = text_field(MAX_TAG_LENGTH * 4, least=1, metadata={"description": "A tag of the model's or of a person's"})
    q = text_field(
        500, least=1, metadata={"description": "Words of the name, the text or a description; the last may be begun"}
    )
    camera = text_field(200, least=1, metadata={"description": "A part of make and model"})
    taken_from = LocalTime(metadata={"description": "Camera-local time, inclusive"})
    taken_to = LocalTime(metadata={"description": "Camera-local time, inclusive"})
    has_gps = fields.Boolean(truthy={"true"}, falsy={"false"})
    sha256 = fields.String(validate=matching(r"^[0-9a-f]{64}$"))
    created_from = Moment(metadata={"description": "With offset, inclusive"})
    created_to = Moment(metadata={"description": "With offset, inclusive"})


class ReprocessBody(Strict):
    """Which stages to run again; without `stages`, those of the client's pipeline."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in STAGES])),
        validate=validate.Length(min=1, max=len(STAGES)),
    )


class UserWordsBody(Strict):
    """A person's own words on an image; null clears."""

    description = text_field(_MAX_DESCRIPTION, allow_none=True)
    tags = fields.List(text_field(MAX_TAG_LENGTH, least=1), validate=validate.Length(max=MAX_TAGS), allow_none=True)

    @validates_schema
    def _names_something(self, data: dict[str, Any], **_: Any) -> None:
        # An empty body is a mistake (a wrong content type, say), not a wish to change nothing.
        if not data:
            raise ValidationError("Name `description`, `tags` or both.")


def _not_blank(text: str) -> None:
    if not text.strip():
        raise ValidationError("Must hold more than white space.")


class SummarizeBody(Strict):
    """The page to summarize."""

    url = text_field(
        MAX_URL_LENGTH,
        least=1,
        required=True,
        metadata={
            "description": "A page of the public web: http or https, port 80, 443, 8080 or 8443",
            "example": "https://example.com/harbour",
        },
    )
    language = fields.String(
        validate=matching(r"^[a-z]{2}$"),
        metadata={
            "description": "ISO 639-1; without it, the client's language of descriptions. A provider that can't "
            "translate (`offline/…`) keeps to the page's own language",
            "example": "en",
        },
    )


class DraftTaskBody(Strict):
    """What a task is to be drafted from."""

    description = fields.String(
        required=True,
        validate=[validate.Length(min=1, max=_MAX_DESCRIPTION), _printable, _not_blank],
        metadata={
            "description": "What is to be done, in a few sentences or as a list",
            "example": "Please migrate the photo archive to S3, then verify every checksum and delete the local "
            "copies. It must be finished by Friday without data loss.",
        },
    )
    context = text_field(
        _MAX_CONTEXT,
        load_default="",
        metadata={
            "description": "What is around it; adds to the description and doesn't overrule it",
            "example": "The old disk is failing.",
        },
    )


_STAGE = validate.OneOf([str(stage) for stage in STAGES])


class DeadLetterQuery(PageQuery):
    """The filters of a list of dead letters; all that are given must hold."""

    client = text_field(36, least=1, metadata={"description": "A client's id or uuid"})
    stage = fields.String(validate=_STAGE)
    error_code = text_field(100, least=1)
    created_from = Moment(metadata={"description": "With offset, inclusive"})
    created_to = Moment(metadata={"description": "With offset, inclusive"})
    replayed = fields.Boolean(truthy={"true"}, falsy={"false"})


class ReplayBody(Strict):
    """Which dead letters to replay: some by their ids, or all that filters leave."""

    ids = fields.List(
        fields.Integer(strict=True, validate=validate.Range(min=1, max=MAX_BIGINT)),
        validate=validate.Length(min=1, max=1000),
    )
    client = text_field(36, least=1, metadata={"description": "A client's id or uuid"})
    stage = fields.String(validate=_STAGE)
    error_code = text_field(100, least=1)
    created_from = Moment()
    created_to = Moment()

    @validates_schema
    def _names_something(self, data: dict[str, Any], **_: Any) -> None:
        # An empty body would replay everything there is: nobody means that who doesn't say it.
        if not data or ("ids" in data and len(data) > 1):
            raise ValidationError("Name either `ids`, or at least one filter.")


def entity_ref(text: str) -> int | UUID | None:
    """Return the id or uuid that an image or a client is named by; None where it is neither."""
    if text.isascii() and text.isdigit():
        number = int(text[:20])
        return number if 0 < number <= MAX_BIGINT else None
    try:
        ref = UUID(text)
    except ValueError:
        return None
    return ref if str(ref) == text.lower() else None
