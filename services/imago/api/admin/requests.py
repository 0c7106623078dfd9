"""Request schemas about dead letters and the audit log."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from imago.api.http.paging import PageQuery
from imago.api.http.requests import MAX_BIGINT, Moment, StrictSchema, text_field
from imago.core.clients.audit import AuditAction
from imago.core.jobs.stages import Stage

_STAGE = validate.OneOf([str(stage) for stage in Stage])


class DeadLetterQuery(PageQuery):
    """The filters of a list of dead letters; a letter must match all of them."""

    client = text_field(36, min_length=1, metadata={"description": "A client's id or uuid"})
    stage = fields.String(validate=_STAGE)
    error_code = text_field(100, min_length=1)
    created_from = Moment(metadata={"description": "With an offset, inclusive"})
    created_to = Moment(metadata={"description": "With an offset, inclusive"})
    replayed = fields.Boolean(truthy={"true"}, falsy={"false"})


class ReplayBody(StrictSchema):
    """The dead letters to replay: those with the given ids, or all that match the filters."""

    ids = fields.List(
        fields.Integer(strict=True, validate=validate.Range(min=1, max=MAX_BIGINT)),
        validate=validate.Length(min=1, max=1000),
    )
    client = text_field(36, min_length=1, metadata={"description": "A client's id or uuid"})
    stage = fields.String(validate=_STAGE)
    error_code = text_field(100, min_length=1)
    created_from = Moment()
    created_to = Moment()

    @validates_schema
    def _require_ids_or_filter(self, data: dict[str, Any], **_: Any) -> None:
        # An empty body would replay every dead letter, which must be requested explicitly.
        if not data or ("ids" in data and len(data) > 1):
            raise ValidationError("Specify either `ids` or at least one filter.")


class AuditQuery(PageQuery):
    """The filters of the audit log; a record must match all of them."""

    client = fields.UUID()
    action = fields.String(validate=validate.OneOf([str(action) for action in AuditAction]))
    created_from = Moment(metadata={"description": "With an offset, inclusive"})
    created_to = Moment(metadata={"description": "With an offset, inclusive"})
