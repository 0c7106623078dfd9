"""Responses about the key that a request was made with, and tokens."""

from collections.abc import Collection
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.clients.responses import LimitsResponse, UsageResponse, limits_response, usage_response
from imago.core.ai_usage.model import AiUsage
from imago.core.clients.model import Client, Plan, Usage
from imago.core.clients.quotas import QuotaUsage, quota_usage
from imago.core.clients.scopes import Scope


class ClientNameResponse(TypedDict):
    """The client that a key belongs to."""

    uuid: UUID
    name: str


class MeResponse(TypedDict):
    """The client that a key belongs to, with its limits and its usage."""

    client: ClientNameResponse
    plan: Plan
    scopes: list[Scope]
    limits: LimitsResponse
    quota: QuotaUsage
    usage: UsageResponse


class TokenResponse(TypedDict):
    """A token for the header `Authorization: Bearer`."""

    token: str
    token_type: str
    expires_in: int
    """Seconds"""
    scopes: list[Scope]


def me_response(client: Client, scopes: Collection[Scope], *, stored: Usage, ai: AiUsage) -> MeResponse:
    """Return a client with the scopes of the key or token that a request was made with."""
    return {
        "client": {"uuid": client.uuid, "name": client.name},
        "plan": client.plan,
        "scopes": sorted(scopes),
        "limits": limits_response(client.limits),
        "quota": quota_usage(stored, client.limits),
        "usage": usage_response(stored, ai),
    }


def token_response(token: str, scopes: Collection[Scope], *, expires_in: int) -> TokenResponse:
    """Return a token that is valid for `expires_in` seconds."""
    return {"token": token, "token_type": "Bearer", "expires_in": expires_in, "scopes": sorted(scopes)}
