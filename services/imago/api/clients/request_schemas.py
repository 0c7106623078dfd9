"""The schemas of requests about clients and their keys."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from imago.api.auth.tokens import DEFAULT_SECONDS, LONGEST_SECONDS
from imago.api.request_schemas import MAX_BIGINT, Moment, PageQuery, Strict, matching, text_field
from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.audit import AuditAction
from imago.core.clients.model import PIPELINE_STAGES, Plan
from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.lanes.model import DEDICATED, PREMIUM, STANDARD

# Ninety days: nobody needs two keys for longer, and an old one left open is a risk.
LONGEST_GRACE = 90 * 24 * 3600

_PLAN = validate.OneOf([str(plan) for plan in Plan])
_SCOPES = validate.OneOf(sorted(str(scope) for scope in CLIENT_SCOPES))
_LANE = validate.OneOf([STANDARD, PREMIUM, DEDICATED])
_MAX_OWNER = 500


class PipelineBody(Strict):
    """What is done with a client's images."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in PIPELINE_STAGES])),
        validate=validate.Length(min=1, max=len(PIPELINE_STAGES)),
    )
    ocr_languages = fields.List(
        fields.String(validate=matching(r"^[a-z]{3}(_[a-z]{2,8})?$")), validate=validate.Length(max=8)
    )
    description_language = fields.String(validate=matching(r"^[a-z]{2}$"))
    ai_budget_policy = fields.String(
        validate=validate.OneOf([str(policy) for policy in BudgetPolicy]),
        allow_none=True,
        metadata={
            "description": "What happens when the AI calls of a month are used up: the work waits, is done offline, or "
            "ends with an error; null: the server's policy"
        },
    )


class LimitsBody(Strict):
    """Limits that differ from the plan's."""

    requests_per_minute = fields.Integer(strict=True, validate=validate.Range(min=1, max=10_000_000))
    burst = fields.Integer(strict=True, validate=validate.Range(min=1, max=10_000_000))
    storage_bytes = fields.Integer(strict=True, validate=validate.Range(min=0, max=MAX_BIGINT))
    images = fields.Integer(strict=True, validate=validate.Range(min=0, max=MAX_BIGINT))
    ai_calls_per_month = fields.Integer(strict=True, validate=validate.Range(min=0, max=MAX_BIGINT))


class NewClientBody(Strict):
    """A client to create."""

    name = text_field(200, least=1, required=True)
    plan = fields.String(required=True, validate=_PLAN)
    scopes = fields.List(fields.String(validate=_SCOPES))
    limits = fields.Nested(LimitsBody)
    pipeline = fields.Nested(PipelineBody)


class PutClientBody(NewClientBody):
    """The operator's client as it is to be; what isn't named is the plan's, or ordinary."""

    owner = text_field(_MAX_OWNER, least=1, required=True)
    lane = fields.String(validate=_LANE, metadata={"description": "Default: the plan's"})
    active = fields.Boolean(load_default=True, truthy={True}, falsy={False})


class PatchedLimits(LimitsBody):
    """Limits to change; null goes back to the plan's."""

    requests_per_minute = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=1, max=10_000_000))
    burst = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=1, max=10_000_000))
    storage_bytes = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=0, max=MAX_BIGINT))
    images = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=0, max=MAX_BIGINT))
    ai_calls_per_month = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=0, max=MAX_BIGINT))


class PatchClientBody(Strict):
    """What to change of a client; `owner` hands it to another owner of the operator's."""

    name = text_field(200, least=1)
    plan = fields.String(validate=_PLAN)
    scopes = fields.List(fields.String(validate=_SCOPES))
    limits = fields.Nested(PatchedLimits)
    lane = fields.String(validate=_LANE)
    pipeline = fields.Nested(PipelineBody)
    owner = text_field(_MAX_OWNER, least=1)
    active = fields.Boolean(truthy={True}, falsy={False})

    @validates_schema
    def _names_something(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Name at least one member to change.")


class KeyBody(Strict):
    """A key to register: the SHA-256 of its secret, in hexadecimal, and when it expires.

    Without the digest, when a registered key expires: who lost a key's secret can still let it end.
    """

    sha256 = fields.String(
        validate=matching(r"^[0-9a-f]{64}$"), metadata={"description": "Needed for a key that isn't registered yet"}
    )
    expires_at = Moment(allow_none=True)

    @validates_schema
    def _names_something(self, data: dict[str, Any], **_: Any) -> None:
        if "sha256" not in data and "expires_at" not in data:
            raise ValidationError("Name the digest, or when the key expires.")


class RotateBody(Strict):
    """For how long the keys of before go on opening; 0 is not at all."""

    grace_seconds = fields.Integer(strict=True, load_default=0, validate=validate.Range(min=0, max=LONGEST_GRACE))


class TokenBody(Strict):
    """What a token may, at most what its key may, and how long it lives."""

    scopes = fields.List(fields.String(validate=_SCOPES), validate=validate.Length(min=1))
    expires_in = fields.Integer(
        strict=True, load_default=DEFAULT_SECONDS, validate=validate.Range(min=1, max=LONGEST_SECONDS)
    )


class ClientsQuery(PageQuery):
    """The filters of a list of clients."""

    active = fields.Boolean(truthy={"true"}, falsy={"false"})
    plan = fields.String(validate=_PLAN)


class OwnerQuery(Strict):
    """Whose client it has to be: the operator's writes name their owner, and no other's client is touched."""

    owner = text_field(_MAX_OWNER, least=1, metadata={"description": "Another owner's client answers 409 client-owned"})


class EraseQuery(OwnerQuery):
    """Whether to erase a client instead of deactivating it."""

    erase = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})


class AuditQuery(PageQuery):
    """The filters of the audit log; all that are given must hold."""

    client = fields.UUID()
    action = fields.String(validate=validate.OneOf([str(action) for action in AuditAction]))
    created_from = Moment(metadata={"description": "With offset, inclusive"})
    created_to = Moment(metadata={"description": "With offset, inclusive"})
