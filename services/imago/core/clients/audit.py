"""The audit log: administrative actions, recorded in the transaction that performs them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import audit_log


class AuditAction(StrEnum):
    """An administrative action."""

    CLIENT_CREATED = "client.created"
    CLIENT_CHANGED = "client.changed"
    CLIENT_REPLACED = "client.replaced"
    CLIENT_TRANSFERRED = "client.transferred"
    CLIENT_DEACTIVATED = "client.deactivated"
    ERASURE_REQUESTED = "client.erasure-requested"
    CLIENT_ERASED = "client.erased"
    KEY_REGISTERED = "key.registered"
    KEY_CHANGED = "key.changed"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATED = "key.rotated"
    LETTERS_REPLAYED = "dead-letters.replayed"
    REPROCESS_CREATED = "reprocess-job.created"
    REPROCESS_CHANGED = "reprocess-job.changed"
    REPROCESS_DELETED = "reprocess-job.deleted"


@dataclass(frozen=True)
class Actor:
    """The actor of an action: `admin`, `operator` or `imago` itself, with the id of the request, if any."""

    name: str
    request_id: str | None = None


IMAGO = Actor("imago")


@dataclass(frozen=True)
class AuditRecord:
    """A recorded action; `details` never contains a secret."""

    id: int
    at: datetime
    actor: str
    action: AuditAction
    client: UUID | None
    request_id: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class AuditFilter:
    """Which records to list: those that match every given field."""

    client: UUID | None = None
    action: AuditAction | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


async def record(
    connection: AsyncConnection,
    actor: Actor,
    action: AuditAction,
    *,
    client: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record an action in the caller's transaction."""
    await connection.execute(
        sa.insert(audit_log).values(
            at=utc_now(),
            actor=actor.name,
            action=action,
            client_uuid=client,
            request_id=actor.request_id,
            details=dict(details or {}),
        )
    )


async def list_records(
    db: Database, wanted: AuditFilter, *, limit: int, before: int | None = None
) -> tuple[list[AuditRecord], int | None]:
    """Return a page of records, newest first, and the id below which the next page starts, if there is one."""
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.client is not None:
        conditions.append(audit_log.c.client_uuid == wanted.client)
    if wanted.action is not None:
        conditions.append(audit_log.c.action == wanted.action)
    if wanted.created_from is not None:
        conditions.append(audit_log.c.at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(audit_log.c.at <= wanted.created_to)
    if before is not None:
        conditions.append(audit_log.c.id < before)
    query = sa.select(audit_log).where(*conditions).order_by(audit_log.c.id.desc()).limit(limit + 1)
    async with db.read(SYSTEM) as connection:
        rows = [_audit_record(row) for row in await connection.execute(query)]
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def _audit_record(row: sa.Row[tuple[object, ...]]) -> AuditRecord:
    return AuditRecord(row.id, row.at, row.actor, AuditAction(row.action), row.client_uuid, row.request_id, row.details)
