"""The JSON shapes of clients, their keys and the audit log."""

from datetime import datetime
from typing import Any

from imago.core.ai_usage.model import AiUsage, next_month
from imago.core.clients.audit import AuditRecord
from imago.core.clients.key_registry import KeyInfo
from imago.core.clients.keys import ApiKey
from imago.core.clients.model import Client, Usage
from imago.core.clients.queries import ClientRow
from imago.core.times import iso_utc, utc_now


def client(row: Client) -> dict[str, Any]:
    """Return a client as administrators see it."""
    return {
        "id": row.id,
        "uuid": str(row.uuid),
        "name": row.name,
        "plan": str(row.plan),
        "scopes": sorted(str(scope) for scope in row.scopes),
        "limits": row.limits.to_json(),
        "lane": row.lane,
        "pipeline": row.pipeline.to_json(),
        "active": row.active,
        "managed_by": row.managed_by,
        "owner": row.owner,
    }


def usage(stored: Usage, ai: AiUsage) -> dict[str, Any]:
    """Return what a client uses."""
    return {
        "storage_bytes": stored.storage_bytes,
        "images": stored.images,
        "ai_calls_this_month": ai.calls,
        "ai_input_tokens_this_month": ai.input_tokens,
        "ai_output_tokens_this_month": ai.output_tokens,
        "ai_cost_usd_this_month": ai.cost_usd,
        "ai_calls_without_cost_this_month": ai.unpriced_calls,
        "ai_month_ends_at": iso_utc(next_month(utc_now())),
    }


def client_detail(row: ClientRow, *, stored: Usage, ai: AiUsage, keys: list[KeyInfo], lane_open: int) -> dict[str, Any]:
    """Return all that administrators and the operator see of a client."""
    return {
        **client(row.client),
        "created_at": iso_utc(row.created_at),
        "updated_at": iso_utc(row.updated_at),
        "usage": usage(stored, ai),
        "lane_open": lane_open,
        "keys": [key(state) for state in keys],
        "erasure": row.erasure,
    }


def key(state: KeyInfo) -> dict[str, Any]:
    """Return a key without anything secret."""
    return {
        "key_id": state.key_id,
        "created_at": iso_utc(state.created_at),
        "expires_at": iso_utc(state.expires_at) if state.expires_at else None,
        "revoked_at": iso_utc(state.revoked_at) if state.revoked_at else None,
        "last_used_at": iso_utc(state.last_used_at) if state.last_used_at else None,
    }


def rotated(row: Client, new: ApiKey, previous_expires_at: datetime) -> dict[str, Any]:
    """Return a new key; for the one answer that shows it."""
    return {
        "uuid": str(row.uuid),
        "key_id": new.key_id,
        "api_key": new.reveal(),
        "previous_expires_at": iso_utc(previous_expires_at),
    }


def audit_record(record: AuditRecord) -> dict[str, Any]:
    """Return an act of the audit log."""
    return {
        "id": record.id,
        "at": iso_utc(record.at),
        "actor": record.actor,
        "action": str(record.action),
        "client": str(record.client) if record.client else None,
        "request_id": record.request_id,
        "details": record.details,
    }
