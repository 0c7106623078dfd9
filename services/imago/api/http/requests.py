"""Parts of request schemas: strictness, fields that every database can store, references to images and clients."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields, pre_load, validate
from webargs.multidictproxy import MultiDictProxy

from imago.core.text.language_names import UnknownLanguage, resolve_language

MAX_BIGINT = 2**63 - 1


class StrictSchema(Schema):
    """A schema that refuses unknown members: a misspelt one would be ignored."""

    class Meta:
        unknown = RAISE

    @pre_load
    def _refuse_repeated(self, data: Any, **_: Any) -> Any:
        """Refuse a query parameter that is repeated, unless it has several values: only one of them would count."""
        if isinstance(data, MultiDictProxy):
            counts = Counter(name for name, _ in data.data.items())
            repeated = [name for name, count in counts.items() if count > 1 and name not in data.multiple_keys]
            if repeated:
                raise ValidationError({name: ["Must not be repeated."] for name in repeated})
        return data

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        """Name the members that exist beside one that does not."""
        unknown = [self.error_messages["unknown"]]
        if isinstance(error.messages, dict):
            for name, messages in error.messages.items():
                if messages == unknown:
                    error.messages[name] = [f"Unknown field; the fields are: {', '.join(sorted(self.fields))}."]


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


class LanguageField(fields.String):
    """A language as people write it, deserialized to its ISO 639-1 code."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return resolve_language(super()._deserialize(value, attr, data, **kwargs))
        except UnknownLanguage as unknown:
            raise ValidationError(str(unknown)) from None


def text_field(length: int, *, min_length: int = 0, **options: Any) -> fields.String:
    """Return a field of text that every database and encoding can store; lengths are in characters."""
    return fields.String(validate=[validate.Length(min=min_length, max=length), storable], **options)


def matching(pattern: str, *, error: str | None = None) -> list[Any]:
    """Return validators of a single line that matches a pattern."""
    # In JSON Schema `$` matches only the end of the text, in Python also the position before a final newline.
    return [validate.Regexp(pattern, error=error), _single_line]


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
