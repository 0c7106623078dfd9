"""Request schemas about reprocess jobs."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from imago.api.http.requests import LocalTime, Moment, StrictSchema, text_field
from imago.core.images.tags import MAX_TAG_LENGTH
from imago.core.jobs.stages import TERMINAL_IMAGE_STATUSES, Stage
from imago.core.reprocessing.model import DEFAULT_IMAGES_PER_MINUTE, MAX_IMAGES_PER_MINUTE

# Each is a bound value of the queries.
_MAX_CLIENTS = 1000


def _rate(**options: Any) -> fields.Integer:
    return fields.Integer(
        strict=True,
        validate=validate.Range(min=1, max=MAX_IMAGES_PER_MINUTE),
        metadata={"description": "The most images that the job queues in a minute"},
        **options,
    )


class SelectionBody(StrictSchema):
    """The stages to run again, and the images to do so for; an image must match all filters."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in Stage])),
        required=True,
        validate=validate.Length(min=1),
        metadata={"description": "Only those in the pipeline of the image's client run"},
    )
    clients = fields.List(
        fields.UUID(),
        validate=validate.Length(min=1, max=_MAX_CLIENTS),
        metadata={"description": "Uuids of clients; without it, all active clients"},
    )
    created_from = Moment(metadata={"description": "Time of the upload, with an offset, inclusive"})
    created_to = Moment(metadata={"description": "Time of the upload, with an offset, inclusive"})
    taken_from = LocalTime(metadata={"description": "The camera's local time, inclusive"})
    taken_to = LocalTime(metadata={"description": "The camera's local time, inclusive"})
    status = fields.String(validate=validate.OneOf(sorted(map(str, TERMINAL_IMAGE_STATUSES))))
    tag = text_field(MAX_TAG_LENGTH * 4, min_length=1, metadata={"description": "A tag of the model or the user"})
    engine_not = text_field(
        200,
        min_length=1,
        metadata={
            "description": "Run `ocr` only where this engine did not read the text; as in `GET /images/{id}/ocr`"
        },
    )
    model_not = text_field(
        200,
        min_length=1,
        metadata={"description": "Run `vision` only where the result is not by this model; compared with `model_used`"},
    )

    @validates_schema
    def _names_need_their_stage(self, data: dict[str, Any], **_: Any) -> None:
        for name, stage in (("engine_not", Stage.OCR), ("model_not", Stage.VISION)):
            if name in data and stage not in data.get("stages", ()):
                raise ValidationError(f"`{name}` needs the stage `{stage}` in `stages`.", name)

    @validates_schema
    def _ranges_are_not_empty(self, data: dict[str, Any], **_: Any) -> None:
        for kind in ("created", "taken"):
            first, last = data.get(f"{kind}_from"), data.get(f"{kind}_to")
            if first is not None and last is not None and first > last:
                raise ValidationError(f"`{kind}_from` is later than `{kind}_to`.", f"{kind}_from")


class ReprocessJobBody(StrictSchema):
    """A job to create."""

    selection = fields.Nested(SelectionBody, required=True)
    images_per_minute = _rate(load_default=DEFAULT_IMAGES_PER_MINUTE)
    suspended = fields.Boolean(truthy={True}, falsy={False}, load_default=False)
    dry_run = fields.Boolean(
        truthy={True},
        falsy={False},
        load_default=False,
        metadata={"description": "Only count the images; nothing is created"},
    )
    uuid = fields.UUID(
        metadata={"description": "An identifier of the job's creator, which makes the request safe to repeat"}
    )


class ReprocessJobPatchBody(StrictSchema):
    """The members of a job to change."""

    images_per_minute = _rate()
    suspended = fields.Boolean(truthy={True}, falsy={False})

    @validates_schema
    def _require_any(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Specify at least one member to change.")
