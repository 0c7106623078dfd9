"""Queries of clients and of what they store."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.model import PLAN_LANES, PLAN_LIMITS, Client, Pipeline, Plan, Usage
from imago.core.clients.scopes import Scope
from imago.core.jobs.stages import Stage
from imago.db.engine import SYSTEM, Database, RowScope
from imago.db.prepared import PreparedStatement
from imago.db.tables import client_usage, clients

_USAGE = PreparedStatement(sa.select(client_usage).where(client_usage.c.client_id == sa.bindparam("of_client")))


@dataclass(frozen=True)
class ClientRow:
    """A client with the columns that only its administration shows."""

    client: Client
    created_at: datetime
    updated_at: datetime
    erasure: dict[str, Any] | None


def matches(ref: int | UUID) -> sa.ColumnElement[bool]:
    """Return the condition that selects a client by its id or its uuid."""
    return clients.c.uuid == ref if isinstance(ref, UUID) else clients.c.id == ref


async def get_client_row(db: Database, ref: int | UUID) -> ClientRow | None:
    """Return a client by its id or its uuid."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(clients).where(matches(ref)))).one_or_none()
    return None if row is None else ClientRow(client_from(row), row.created_at, row.updated_at, row.erasure)


async def list_clients(
    db: Database, *, limit: int, after: int | None = None, active: bool | None = None, plan: Plan | None = None
) -> tuple[list[Client], int | None]:
    """Return a page of clients, oldest first, and the id after which the next page starts, if there is one."""
    conditions: list[sa.ColumnElement[bool]] = []
    if after is not None:
        conditions.append(clients.c.id > after)
    if active is not None:
        conditions.append(clients.c.active == active)
    if plan is not None:
        conditions.append(clients.c.plan == plan)
    query = sa.select(clients).where(*conditions).order_by(clients.c.id).limit(limit + 1)
    async with db.read(SYSTEM) as connection:
        found = [client_from(row) for row in await connection.execute(query)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


async def first_client(db: Database) -> Client | None:
    """Return the client with the smallest id, or None if there are no clients."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(clients).order_by(clients.c.id).limit(1))).one_or_none()
    return None if row is None else client_from(row)


async def get_usage(db: Database, client_id: int) -> Usage:
    """Return what a client stores."""
    async with db.read(RowScope(client_id)) as connection:
        return await read_usage(connection, client_id)


async def read_usage(connection: AsyncConnection, client_id: int) -> Usage:
    """Return what a client stores, in the caller's transaction."""
    row = await _USAGE.one_or_none(connection, {"of_client": client_id})
    return Usage(row.storage_bytes, row.images) if row else Usage(0, 0)


async def dedicated_lanes(db: Database) -> tuple[str, ...]:
    """Return the lanes that belong to a single client."""
    query = sa.select(clients.c.lane).where(clients.c.lane.not_in(list(PLAN_LANES.values()))).distinct()
    async with db.read(SYSTEM) as connection:
        return tuple(await connection.scalars(query))


def client_from(row: sa.Row[tuple[object, ...]]) -> Client:
    """Return the client of a row of `clients`."""
    plan = Plan(row.plan)
    return Client(
        id=row.id,
        uuid=row.uuid,
        name=row.name,
        plan=plan,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        limits=PLAN_LIMITS[plan].overridden(row.limits),
        lane=row.lane,
        pipeline=Pipeline(
            stages=tuple(Stage(name) for name in row.stages),
            ocr_languages=tuple(row.ocr_languages),
            description_language=row.description_language,
            ai_budget_policy=BudgetPolicy(row.ai_budget_policy) if row.ai_budget_policy else None,
        ),
        active=row.active,
        managed_by=row.managed_by,
        owner=row.owner,
    )
