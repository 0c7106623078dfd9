"""Clients and their keys in the database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients import audit, keys
from imago.core.clients.audit_model import IMAGO, Action, Actor
from imago.core.clients.keys import ApiKey
from imago.core.clients.model import PLAN_LANES, PLAN_LIMITS, Client, Pipeline, Plan, Usage
from imago.core.clients.scopes import Scope
from imago.core.jobs.stages import Stage
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database, RowScope
from imago.db.tables import api_keys, client_usage, clients


@dataclass(frozen=True)
class NewClient:
    """What a client is created with; `limits` holds only what differs from the plan's."""

    name: str
    plan: Plan
    scopes: frozenset[Scope]
    limits: Mapping[str, int | None]
    pipeline: Pipeline
    uuid: UUID | None = None
    managed_by: str | None = None
    owner: str | None = None


@dataclass(frozen=True, repr=False)
class StoredKey:
    """A key as the database has it, with the client it belongs to."""

    key_id: str
    digest: bytes
    expires_at: datetime | None
    revoked_at: datetime | None
    client: Client

    def usable(self, now: datetime) -> bool:
        """Tell whether the key opens anything at this moment."""
        return (
            self.client.active
            # Whenever that was: another process's clock may be ahead of this one's.
            and self.revoked_at is None
            and (self.expires_at is None or self.expires_at > now)
        )


@dataclass(frozen=True)
class ClientRow:
    """A client with what only its administration asks for."""

    client: Client
    created_at: datetime
    updated_at: datetime
    erasure: dict[str, Any] | None


async def create_client(db: Database, new: NewClient, *, key: ApiKey, pepper: str, by: Actor = IMAGO) -> Client:
    """Create a client with its first key, whose digest alone is stored."""
    async with db.write(SYSTEM) as connection:
        client = await insert_client(connection, new, lane=PLAN_LANES[new.plan])
        details = {"plan": str(new.plan), "key_id": key.key_id}
        await audit.record(connection, by, Action.CLIENT_CREATED, client=client.uuid, details=details)
        await add_key(connection, client.id, key_id=key.key_id, digest=keys.digest_at_rest(key.wire_digest, pepper))
    return client


async def add_key(
    connection: AsyncConnection, client_id: int, *, key_id: str, digest: bytes, expires_at: datetime | None = None
) -> None:
    """Store a key's digest at rest."""
    await connection.execute(
        sa.insert(api_keys).values(
            key_id=key_id, client_id=client_id, digest=digest, created_at=utc_now(), expires_at=expires_at
        )
    )


async def find_key(db: Database, key_id: str) -> StoredKey | None:
    """Return a key and its client by the key's id, usable or not; None where there is none."""
    query = (
        sa.select(
            clients,
            api_keys.c.key_id,
            api_keys.c.digest,
            api_keys.c.expires_at,
            api_keys.c.revoked_at,
        )
        .join(clients, clients.c.id == api_keys.c.client_id)
        .where(api_keys.c.key_id == key_id)
    )
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return StoredKey(row.key_id, bytes(row.digest), row.expires_at, row.revoked_at, client_of(row))


async def get_client(db: Database, ref: int | UUID) -> Client | None:
    """Return a client by its id or uuid."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(clients).where(matches(ref)))).one_or_none()
    return None if row is None else client_of(row)


def matches(ref: int | UUID) -> sa.ColumnElement[bool]:
    """Return the condition that a client is the one referred to, by its id or its uuid."""
    return clients.c.uuid == ref if isinstance(ref, UUID) else clients.c.id == ref


async def get_client_row(db: Database, ref: int | UUID) -> ClientRow | None:
    """Return a client with what its administration asks for."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(clients).where(matches(ref)))).one_or_none()
    return None if row is None else ClientRow(client_of(row), row.created_at, row.updated_at, row.erasure)


async def list_clients(
    db: Database, *, limit: int, after: int | None = None, active: bool | None = None, plan: Plan | None = None
) -> tuple[list[Client], int | None]:
    """Return a page of clients, the oldest first, and the id that the next page continues behind, if there is one."""
    conditions: list[sa.ColumnElement[bool]] = []
    if after is not None:
        conditions.append(clients.c.id > after)
    if active is not None:
        conditions.append(clients.c.active == active)
    if plan is not None:
        conditions.append(clients.c.plan == plan)
    query = sa.select(clients).where(*conditions).order_by(clients.c.id).limit(limit + 1)
    async with db.read(SYSTEM) as connection:
        found = [client_of(row) for row in await connection.execute(query)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


async def first_client(db: Database) -> Client | None:
    """Return the client with the smallest id, or None where there is no client at all."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(clients).order_by(clients.c.id).limit(1))).one_or_none()
    return None if row is None else client_of(row)


async def get_usage(db: Database, client_id: int) -> Usage:
    """Return what a client stores now."""
    query = sa.select(client_usage).where(client_usage.c.client_id == client_id)
    async with db.read(RowScope(client_id)) as connection:
        row = (await connection.execute(query)).one_or_none()
    return Usage(row.storage_bytes, row.images) if row else Usage(0, 0)


async def dedicated_lanes(db: Database) -> tuple[str, ...]:
    """Return the lanes that belong to one client alone."""
    query = sa.select(clients.c.lane).where(clients.c.lane.not_in(list(PLAN_LANES.values()))).distinct()
    async with db.read(SYSTEM) as connection:
        return tuple(await connection.scalars(query))


def client_of(row: sa.Row[tuple[object, ...]]) -> Client:
    """Build a client from a row of `clients`."""
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
            stages=_stages(row.stages),
            ocr_languages=tuple(row.ocr_languages),
            description_language=row.description_language,
            ai_budget_policy=BudgetPolicy(row.ai_budget_policy) if row.ai_budget_policy else None,
        ),
        active=row.active,
        managed_by=row.managed_by,
        owner=row.owner,
    )


async def insert_client(connection: AsyncConnection, new: NewClient, *, lane: str, active: bool = True) -> Client:
    """Insert a client and its usage in the caller's transaction."""
    now = utc_now()
    row = (
        await connection.execute(
            sa.insert(clients)
            .values(
                uuid=new.uuid or uuid4(),
                name=new.name,
                plan=new.plan,
                scopes=sorted(new.scopes),
                limits={name: value for name, value in new.limits.items() if value is not None},
                lane=lane,
                stages=[str(stage) for stage in new.pipeline.stages],
                ocr_languages=list(new.pipeline.ocr_languages),
                description_language=new.pipeline.description_language,
                ai_budget_policy=new.pipeline.ai_budget_policy,
                managed_by=new.managed_by,
                owner=new.owner,
                active=active,
                deactivated_at=None if active else now,
                created_at=now,
                updated_at=now,
            )
            .returning(clients)
        )
    ).one()
    await connection.execute(sa.insert(client_usage).values(client_id=row.id, storage_bytes=0, images=0))
    return client_of(row)


def _stages(names: Iterable[str]) -> tuple[Stage, ...]:
    return tuple(Stage(name) for name in names)
