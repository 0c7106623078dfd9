"""Request schemas about images."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from imago.api.http.paging import PageQuery
from imago.api.http.requests import LocalTime, Moment, StrictSchema, matching, text_field
from imago.api.images.place_fields import BBOX_PATTERN, NEAR_PATTERN, BoxField, CircleField, CountryField
from imago.core.images.lists.sorting import RELEVANT, SORTS
from imago.core.images.tags import MAX_TAG_LENGTH, MAX_TAGS
from imago.core.jobs.stages import ImageStatus, Stage

_MAX_DESCRIPTION = 10_000
# Each costs a look-up per image that has the first one.
_MAX_TAG_FILTERS = 8


class Included(fields.String):
    """What a response has in addition, separated by commas; becomes a tuple."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return tuple(super()._deserialize(value, attr, data, **kwargs).split(","))


def _include() -> Included:
    return Included(
        validate=validate.ContainsOnly(["urls"]),
        metadata={"description": "`urls` adds signed URLs of the thumbnail and the original", "enum": ["urls"]},
    )


def _score(description: str) -> fields.Float:
    return fields.Float(allow_nan=False, validate=validate.Range(min=0, max=1), metadata={"description": description})


class IncludeQuery(StrictSchema):
    """The query parameters of an image."""

    include = _include()


class StatusQuery(StrictSchema):
    """The query parameters of a status."""

    include = Included(
        validate=validate.ContainsOnly(["similar_to"]),
        metadata={"description": "`similar_to` adds the ids of images of the same picture", "enum": ["similar_to"]},
    )


class SimilarQuery(StrictSchema):
    """The query parameters of look-alikes."""

    limit = fields.Integer(
        load_default=20, validate=validate.Range(min=1, max=100), metadata={"description": "Most look-alikes"}
    )


class OcrQuery(StrictSchema):
    """The query parameters of an image's text."""

    include = Included(
        validate=validate.ContainsOnly(["readings", "words"]),
        metadata={
            "description": "`readings` adds the readings of all engines, `words` the words with their boxes; separated"
            " by a comma",
            "enum": ["readings", "words", "readings,words"],
        },
    )


class ImageQuery(PageQuery):
    """The filters of a list of images; an image must match all of them."""

    status = fields.String(validate=validate.OneOf([str(status) for status in ImageStatus]))
    tags = fields.List(
        text_field(MAX_TAG_LENGTH * 4, min_length=1),
        data_key="tag",
        validate=validate.Length(max=_MAX_TAG_FILTERS),
        metadata={"description": "A tag of the model or the user; repeated for images that have all of the tags"},
    )
    q = text_field(
        500,
        min_length=1,
        metadata={
            "description": "Words of the name, the text, descriptions, tags and keywords; the last may be a beginning."
            " Accents, singular and plural, and words such as `the` or `sur` make no difference"
        },
    )
    camera = text_field(
        200,
        min_length=1,
        metadata={
            "description": "A part of the camera's make and model; the first 1000 names of a client are searched"
        },
    )
    taken_from = LocalTime(metadata={"description": "The camera's local time, inclusive"})
    taken_to = LocalTime(metadata={"description": "The camera's local time, inclusive"})
    has_gps = fields.Boolean(truthy={"true"}, falsy={"false"})
    sha256 = fields.String(validate=matching(r"^[0-9a-f]{64}$"))
    created_from = Moment(metadata={"description": "With an offset, inclusive"})
    created_to = Moment(metadata={"description": "With an offset, inclusive"})
    moderation_min = _score("Images with at least this score; images without a score are not listed")
    moderation_max = _score("Images with at most this score; images without a score are not listed")
    near = CircleField(
        metadata={
            "description": "`latitude,longitude,km`: coordinates at most so far from a point, such as 48.8584,2.2945,5",
            "pattern": NEAR_PATTERN,
        }
    )
    bbox = BoxField(
        metadata={
            "description": "`west,south,east,north` in degrees: coordinates in a box. Across the antimeridian, `west`"
            " is greater than `east`",
            "pattern": BBOX_PATTERN,
        }
    )
    place = text_field(
        200, min_length=1, metadata={"description": "Whole words of the name of the place or its region"}
    )
    country = CountryField(
        metadata={"description": "A code (ISO 3166-1, two or three letters), or a name in English or French"},
    )
    sort = fields.String(
        validate=validate.OneOf([str(sort) for sort in SORTS]),
        metadata={
            "description": "The order; `-` reverses it. Default: `relevance` with `q`, else `-created`. Images without"
            " the time when they were taken come last. A cursor belongs to its order"
        },
    )
    total = fields.Boolean(
        truthy={"true"}, falsy={"false"}, metadata={"description": "`true` adds the number of matching images"}
    )
    include = _include()

    @validates_schema
    def _relevance_needs_words(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("sort") == str(RELEVANT) and "q" not in data:
            raise ValidationError("The order `relevance` needs `q`.", "sort")


class ReprocessBody(StrictSchema):
    """The stages to run again; by default those of the client's pipeline."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in Stage])),
        validate=validate.Length(min=1, max=len(Stage)),
    )


class UserWordsBody(StrictSchema):
    """The user's own description and tags of an image; null removes them."""

    description = text_field(_MAX_DESCRIPTION, allow_none=True)
    tags = fields.List(
        text_field(MAX_TAG_LENGTH, min_length=1), validate=validate.Length(max=MAX_TAGS), allow_none=True
    )

    @validates_schema
    def _require_member(self, data: dict[str, Any], **_: Any) -> None:
        # An empty body is more likely a mistake, such as a wrong content type, than a request to change nothing.
        if not data:
            raise ValidationError("Specify `description`, `tags` or both.")
