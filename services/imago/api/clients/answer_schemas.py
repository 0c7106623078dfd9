"""The schemas of answers about clients, their keys and what was done to them; they document."""

from marshmallow import Schema, fields

from imago.api.answer_schemas import QuotaData


class UsageData(Schema):
    """What a client uses now."""

    storage_bytes = fields.Integer(required=True)
    images = fields.Integer(required=True)
    ai_calls_this_month = fields.Integer(
        required=True, metadata={"description": "Calls to AI providers in the calendar month, UTC"}
    )
    ai_input_tokens_this_month = fields.Integer(required=True)
    ai_output_tokens_this_month = fields.Integer(required=True)
    ai_cost_usd_this_month = fields.Float(
        required=True, allow_none=True, metadata={"description": "Of the calls whose price is known; null without any"}
    )
    ai_calls_without_cost_this_month = fields.Integer(required=True)
    ai_month_ends_at = fields.DateTime(required=True)


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
    ai_budget_policy = fields.String(
        required=True, allow_none=True, metadata={"description": "hold, offline or reject; null: the server's"}
    )


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


class KeyAnswer(Schema):
    """A key of a client, without anything secret."""

    key_id = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    revoked_at = fields.DateTime(required=True, allow_none=True)
    last_used_at = fields.DateTime(required=True, allow_none=True)


class ErasureAnswer(Schema):
    """How far the erasure of a client is."""

    requested_at = fields.DateTime(required=True)
    images_total = fields.Integer(required=True)
    images_erased = fields.Integer(required=True)
    objects_left = fields.Integer(required=True)
    messages = fields.Integer(required=True)


class ClientDetailAnswer(ClientAnswer):
    """A client with its usage, its keys, and what is left in a lane that it left."""

    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    usage = fields.Nested(UsageData, required=True)
    lane_open = fields.Integer(
        required=True, metadata={"description": "Stages that still wait in a lane the client has left"}
    )
    keys = fields.List(fields.Nested(KeyAnswer), required=True)
    erasure = fields.Nested(ErasureAnswer, required=True, allow_none=True)


class ClientsAnswer(Schema):
    """A page of clients."""

    items = fields.List(fields.Nested(ClientAnswer), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class RotatedAnswer(Schema):
    """A client's new key: the only time it is shown."""

    uuid = fields.UUID(required=True)
    key_id = fields.String(required=True)
    api_key = fields.String(required=True)
    previous_expires_at = fields.DateTime(required=True)


class TokenAnswer(Schema):
    """A token for the header `Authorization: Bearer`."""

    token = fields.String(required=True)
    token_type = fields.String(required=True)
    expires_in = fields.Integer(required=True)
    scopes = fields.List(fields.String(), required=True)


class AuditRecordAnswer(Schema):
    """An administrative act."""

    id = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    actor = fields.String(required=True)
    action = fields.String(required=True)
    client = fields.UUID(required=True, allow_none=True)
    request_id = fields.String(required=True, allow_none=True)
    details = fields.Dict(required=True)


class AuditAnswer(Schema):
    """A page of the audit log."""

    items = fields.List(fields.Nested(AuditRecordAnswer), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewClientAnswer(ClientAnswer):
    """A client that was created, with its key: the only time it is shown."""

    api_key = fields.String(required=True)


class ClientName(Schema):
    """Which client a key belongs to."""

    uuid = fields.UUID(required=True)
    name = fields.String(required=True)


class MeAnswer(Schema):
    """The client a key belongs to, and what it may."""

    client = fields.Nested(ClientName, required=True)
    plan = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    limits = fields.Nested(LimitsAnswer, required=True)
    quota = fields.Nested(QuotaData, required=True)
    usage = fields.Nested(UsageData, required=True)
