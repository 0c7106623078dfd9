"""Parts of request schemas: strictness, fields that every database can store, references to images and clients."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields, validate

MAX_BIGINT = 2**63 - 1


class StrictSchema(Schema):
    """A schema that refuses unknown members: a misspelt one would be ignored."""

    class Meta:
        unknown = RAISE


class LocalTime(fields.NaiveDateTime):
    """A camera's local time: ISO 8601 without an offset."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value, attr, data, **kwargs)
        if moment.tzinfo is not None:
            raise ValidationError("Must not have an offset: it is the camera's local time.")
        return moment


class Moment(fields.AwareDateTime):
    """A time with an offset (RFC 3339), converted to UTC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=None, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value.upper() if isinstance(value, str) else value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None


def text_field(length: int, *, min_length: int = 0, **options: Any) -> fields.String:
    """Return a field of text that every database and encoding can store; lengths are in characters."""
    return fields.String(validate=[validate.Length(min=min_length, max=length), storable], **options)


def matching(pattern: str) -> list[Any]:
    """Return validators of a single line that matches a pattern."""
    # In JSON Schema `$` matches only the end of the text, in Python also the position before a final newline.
    return [validate.Regexp(pattern), _single_line]


def storable(text: str) -> None:
    """Raise ValidationError for text that can't be stored: PostgreSQL has no NUL, UTF-8 no lone surrogates."""
    if not is_storable(text):
        raise ValidationError("Must not contain NUL or surrogates.")


def is_storable(text: str) -> bool:
    """Return whether every database can store a text."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _single_line(text: str) -> None:
    if "\n" in text:
        raise ValidationError("Must be a single line.")


def entity_ref(text: str) -> int | UUID | None:
    """Parse the id or uuid of an image or a client; return None for anything else."""
    if text.isascii() and text.isdigit():
        number = int(text[:20])
        return number if 0 < number <= MAX_BIGINT else None
    try:
        ref = UUID(text)
    except ValueError:
        return None
    return ref if str(ref) == text.lower() else None
