"""Request schemas about clients and their keys."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from imago.api.http.paging import PageQuery
from imago.api.http.requests import MAX_BIGINT, LanguageField, Moment, StrictSchema, matching, storable, text_field
from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.model import Plan
from imago.core.clients.ownership import OWNER_FORM, OWNER_PATTERN
from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.jobs.stages import PIPELINE_STAGES
from imago.core.lanes.model import DEDICATED, PREMIUM, STANDARD

# Ninety days: a rotation takes less, and an old key that stays valid is a risk.
MAX_GRACE_SECONDS = 90 * 24 * 3600

_PLAN = validate.OneOf([str(plan) for plan in Plan])
_SCOPES = validate.OneOf(sorted(str(scope) for scope in CLIENT_SCOPES))
_LANE = validate.OneOf([STANDARD, PREMIUM, DEDICATED])
_MAX_OWNER = 500
MAX_OCR_LANGUAGES = 8
_MAX_LANGUAGES_TEXT = 200


class PipelineBody(StrictSchema):
    """How a client's images are processed."""

    stages = fields.List(
        fields.String(validate=validate.OneOf([str(stage) for stage in PIPELINE_STAGES])),
        validate=validate.Length(min=1, max=len(PIPELINE_STAGES)),
    )
    # The route resolves the names, because it knows which languages this server has.
    ocr_languages = fields.List(
        text_field(_MAX_LANGUAGES_TEXT, min_length=1),
        validate=validate.Length(max=MAX_OCR_LANGUAGES),
        metadata={
            "description": "Codes or names such as `fra`, `fr`, `French` or `eng+fra`; returned as Tesseract's names"
        },
    )
    description_language = LanguageField(
        metadata={"description": "A code or name such as `fr`, `fr-CA`, `French` or `français`; returned as ISO 639-1"}
    )
    ai_budget_policy = fields.String(
        validate=validate.OneOf([str(policy) for policy in BudgetPolicy]),
        allow_none=True,
        metadata={
            "description": "What happens when the month's AI calls are used up: work waits, runs offline, or fails; "
            "null: the server's policy"
        },
    )


def _limit(*, min: int = 0, max: int = MAX_BIGINT, nullable: bool) -> fields.Integer:
    return fields.Integer(strict=True, allow_none=nullable, validate=validate.Range(min=min, max=max))


def _rate(*, nullable: bool) -> fields.Integer:
    return _limit(min=1, max=10_000_000, nullable=nullable)


class LimitsBody(StrictSchema):
    """Limits that differ from the plan's."""

    requests_per_minute = _rate(nullable=False)
    burst = _rate(nullable=False)
    storage_bytes = _limit(nullable=False)
    images = _limit(nullable=False)
    ai_calls_per_month = _limit(nullable=False)


class NewClientBody(StrictSchema):
    """A client to create."""

    name = text_field(200, min_length=1, required=True)
    plan = fields.String(required=True, validate=_PLAN)
    scopes = fields.List(fields.String(validate=_SCOPES))
    limits = fields.Nested(LimitsBody)
    pipeline = fields.Nested(PipelineBody)


class PutClientBody(NewClientBody):
    """The desired state of a client of the operator; omitted members get the plan's values or the defaults."""

    owner = text_field(_MAX_OWNER, min_length=1, required=True)
    lane = fields.String(validate=_LANE, metadata={"description": "Default: the plan's"})
    active = fields.Boolean(load_default=True, truthy={True}, falsy={False})


class PatchedLimits(StrictSchema):
    """Limits to change; null restores the plan's limit."""

    requests_per_minute = _rate(nullable=True)
    burst = _rate(nullable=True)
    storage_bytes = _limit(nullable=True)
    images = _limit(nullable=True)
    ai_calls_per_month = _limit(nullable=True)


class PatchClientBody(StrictSchema):
    """Changes to a client; `owner` transfers it to another ImagoClient of the operator, null to the administrator."""

    name = text_field(200, min_length=1)
    plan = fields.String(validate=_PLAN)
    scopes = fields.List(fields.String(validate=_SCOPES))
    limits = fields.Nested(PatchedLimits)
    lane = fields.String(validate=_LANE)
    pipeline = fields.Nested(PipelineBody)
    owner = fields.String(
        allow_none=True,
        validate=[
            validate.Length(max=_MAX_OWNER),
            storable,
            *matching(OWNER_PATTERN, error=f"Must be {OWNER_FORM}, as the ImagoClient's status says."),
        ],
    )
    active = fields.Boolean(truthy={True}, falsy={False})

    @validates_schema
    def _require_member(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Specify at least one member to change.")


class KeyBody(StrictSchema):
    """A key to register: the SHA-256 of its secret in hexadecimal, and its expiry.

    For a registered key the digest may be omitted, so that a key whose secret was lost can still be given an expiry.
    """

    sha256 = fields.String(
        validate=matching(r"^[0-9a-f]{64}$"), metadata={"description": "Required for a key that is not registered yet"}
    )
    expires_at = Moment(allow_none=True)

    @validates_schema
    def _require_member(self, data: dict[str, Any], **_: Any) -> None:
        if "sha256" not in data and "expires_at" not in data:
            raise ValidationError("Specify `sha256`, `expires_at` or both.")


class RotateBody(StrictSchema):
    """How long the previous keys stay valid; 0 revokes them immediately."""

    grace_seconds = fields.Integer(strict=True, load_default=0, validate=validate.Range(min=0, max=MAX_GRACE_SECONDS))


class ClientsQuery(PageQuery):
    """The filters of a list of clients."""

    active = fields.Boolean(truthy={"true"}, falsy={"false"})
    plan = fields.String(validate=_PLAN)


class OwnerQuery(StrictSchema):
    """The expected owner of a client: the operator sends it, so that it never changes the client of another owner."""

    owner = text_field(
        _MAX_OWNER,
        min_length=1,
        metadata={"description": "If the client has another owner, the response is 409 `client-owned`"},
    )


class EraseQuery(OwnerQuery):
    """Whether to erase a client instead of deactivating it."""

    erase = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})
