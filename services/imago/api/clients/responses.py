"""Responses about clients and their keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.http.paging import next_cursor
from imago.core.ai_usage.model import AiUsage, BudgetPolicy, next_month
from imago.core.clients.key_registry import KeyInfo
from imago.core.clients.keys import ApiKey
from imago.core.clients.model import Client, Limits, Pipeline, Plan, Usage
from imago.core.clients.queries import ClientRow
from imago.core.clients.scopes import Scope
from imago.core.jobs.stages import Stage
from imago.core.times import utc_now


class LimitsResponse(TypedDict):
    """A client's limits: its plan's, or its own."""

    requests_per_minute: int
    burst: int
    storage_bytes: int
    images: int
    ai_calls_per_month: int


class PipelineResponse(TypedDict):
    """How a client's images are processed."""

    stages: list[Stage]
    ocr_languages: list[str]
    """Tesseract's names, such as `fra`; empty: the server's languages."""
    description_language: str
    """ISO 639-1"""
    ai_budget_policy: BudgetPolicy | None
    """Null: the server's policy."""


class ClientResponse(TypedDict):
    """A client as administrators see it."""

    id: int
    uuid: UUID
    name: str
    plan: Plan
    scopes: list[Scope]
    limits: LimitsResponse
    lane: str
    """The priority of its work: `standard`, `premium`, or its uuid without dashes for a dedicated lane."""
    pipeline: PipelineResponse
    active: bool
    managed_by: str | None
    owner: str | None
    """The ImagoClient that the operator manages it for."""


class NewClientResponse(ClientResponse):
    """A new client with its key, which is shown only here."""

    api_key: str


class UsageResponse(TypedDict):
    """A client's usage: storage now, AI calls in the current calendar month (UTC)."""

    storage_bytes: int
    images: int
    ai_calls_this_month: int
    ai_input_tokens_this_month: int
    ai_output_tokens_this_month: int
    ai_cost_usd_this_month: float | None
    """The cost of the calls whose price is known; null if no price is."""
    ai_calls_without_cost_this_month: int
    ai_month_ends_at: datetime


class KeyResponse(TypedDict):
    """A key of a client, without its secret."""

    key_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ErasureResponse(TypedDict):
    """The progress of a client's erasure."""

    requested_at: datetime
    images_total: int
    images_erased: int
    objects_left: int
    """Objects that are still in storage."""
    messages: int
    """Messages that were purged from the queue."""


class ClientDetailResponse(ClientResponse):
    """A client with its usage and its keys."""

    created_at: datetime
    updated_at: datetime
    usage: UsageResponse
    lane_open: int
    """Open stages that are still in a previous lane of the client."""
    keys: list[KeyResponse]
    erasure: ErasureResponse | None


class ClientsResponse(TypedDict):
    """A page of clients."""

    items: list[ClientResponse]
    next_cursor: str | None


class RotatedKeyResponse(TypedDict):
    """A client's new key, which is shown only here."""

    uuid: UUID
    key_id: str
    api_key: str
    previous_expires_at: datetime
    """When the previous keys expire."""


def client_response(client: Client) -> ClientResponse:
    """Return a client, as an item of a list."""
    return {
        "id": client.id,
        "uuid": client.uuid,
        "name": client.name,
        "plan": client.plan,
        "scopes": sorted(client.scopes),
        "limits": limits_response(client.limits),
        "lane": client.lane,
        "pipeline": _pipeline(client.pipeline),
        "active": client.active,
        "managed_by": client.managed_by,
        "owner": client.owner,
    }


def new_client_response(client: Client, key: ApiKey) -> NewClientResponse:
    """Return a new client and reveal its key."""
    return {**client_response(client), "api_key": key.reveal()}


def client_detail_response(
    row: ClientRow, *, stored: Usage, ai: AiUsage, keys: Sequence[KeyInfo], lane_open: int
) -> ClientDetailResponse:
    """Return everything that administrators and the operator see of a client."""
    return {
        **client_response(row.client),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "usage": usage_response(stored, ai),
        "lane_open": lane_open,
        "keys": [key_response(key) for key in keys],
        "erasure": None if row.erasure is None else _erasure(row.erasure),
    }


def clients_response(clients: Sequence[Client], after: int | None) -> ClientsResponse:
    """Return a page of clients; `after` is the id that the next page continues after, if there is one."""
    return {"items": [client_response(client) for client in clients], "next_cursor": next_cursor(after)}


def limits_response(limits: Limits) -> LimitsResponse:
    """Return a client's limits."""
    return {
        "requests_per_minute": limits.requests_per_minute,
        "burst": limits.burst,
        "storage_bytes": limits.storage_bytes,
        "images": limits.images,
        "ai_calls_per_month": limits.ai_calls_per_month,
    }


def usage_response(stored: Usage, ai: AiUsage) -> UsageResponse:
    """Return a client's usage."""
    return {
        "storage_bytes": stored.storage_bytes,
        "images": stored.images,
        "ai_calls_this_month": ai.calls,
        "ai_input_tokens_this_month": ai.input_tokens,
        "ai_output_tokens_this_month": ai.output_tokens,
        "ai_cost_usd_this_month": ai.cost_usd,
        "ai_calls_without_cost_this_month": ai.unpriced_calls,
        "ai_month_ends_at": next_month(utc_now()),
    }


def key_response(key: KeyInfo) -> KeyResponse:
    """Return a key without its secret."""
    return {
        "key_id": key.key_id,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def rotated_key_response(client: Client, key: ApiKey, previous_expires_at: datetime) -> RotatedKeyResponse:
    """Return a client's new key and reveal it."""
    return {
        "uuid": client.uuid,
        "key_id": key.key_id,
        "api_key": key.reveal(),
        "previous_expires_at": previous_expires_at,
    }


def _pipeline(pipeline: Pipeline) -> PipelineResponse:
    return {
        "stages": list(pipeline.stages),
        "ocr_languages": list(pipeline.ocr_languages),
        "description_language": pipeline.description_language,
        "ai_budget_policy": pipeline.ai_budget_policy,
    }


def _erasure(progress: Mapping[str, Any]) -> ErasureResponse:
    return {
        "requested_at": datetime.fromisoformat(progress["requested_at"]),
        "images_total": progress["images_total"],
        "images_erased": progress["images_erased"],
        "objects_left": progress["objects_left"],
        "messages": progress["messages"],
    }
