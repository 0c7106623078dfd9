"""The audit log in the database: written in the transaction of the act itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.audit_model import Action, Actor, AuditRecord
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import audit_log


@dataclass(frozen=True)
class AuditFilter:
    """Which records to list; all that are given must hold."""

    client: UUID | None = None
    action: Action | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


async def record(
    connection: AsyncConnection,
    actor: Actor,
    action: Action,
    *,
    client: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write an act down."""
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
    """Return a page of records, newest first, and the id that the next page continues below, if there is one."""
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
        rows = [_record(row) for row in await connection.execute(query)]
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def _record(row: sa.Row[tuple[object, ...]]) -> AuditRecord:
    return AuditRecord(row.id, row.at, row.actor, Action(row.action), row.client_uuid, row.request_id, row.details)
